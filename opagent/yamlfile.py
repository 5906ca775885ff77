"""Strict YAML with positions: the only loader of files that people or repositories wrote; it constructs nothing.

One pass over the parser's events. PyYAML's constructors are never used: CSafeLoader dies of a segmentation fault on
65,000 opened brackets, takes the last of two equal keys in silence, and reads `no` as False and `12:30` as 750. What a
scalar means is decided later, by the schema of the file.
"""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Any, NamedTuple

from opagent.errors import BindingInvalid

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_BYTES, MAX_NODES, MAX_DEPTH, MAX_PROBLEMS = 64 * 1024, 5_000, 20, 20

# control characters but tab and line end, zero-width, bidi, the two line ends only YAML 1.1 knows, tag characters
INVISIBLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff"
    "\ufff9-\ufffb\U000e0000-\U000e007f]|\r(?!\n)"
)
_STR = "tag:yaml.org,2002:str"


class Node(NamedTuple):
    """A value with its place (counted from 1). `plain`: a scalar without quotes, the only kind that may be read as a number."""

    value: str | list[Node] | dict[str, Node]
    line: int
    column: int
    plain: bool = False
    key: tuple[int, int] | None = None  # where the key stands that names this value


def load(data: bytes, name: str) -> Node:
    """The document in `data`; an empty one is an empty map. `name` is what problems call the file.

    Raises BindingInvalid whose `why` holds one line `name:line:column: sentence` per problem.
    """
    reader = _Reader(name)
    text = reader.text(data)
    if not reader.problems:
        reader.read(text)
    if reader.problems:
        raise invalid(name, reader.problems)
    return reader.root or Node({}, 1, 1)


def invalid(name: str, problems: Iterable[str]) -> BindingInvalid:
    """The error that carries all problems of a file, or of several; the hint opens the first that is named."""
    lines = list(problems)
    found = re.match(r"(.*?):[0-9]+:[0-9]+: ", lines[0])
    hint = f"open it in your editor: {shlex.quote(found[1] if found else name)}"
    return BindingInvalid(f"{name} cannot be used", "\n".join(lines), hint)


def plain(node: Node) -> Any:
    """The same without places: text, lists and dictionaries."""
    if isinstance(node.value, dict):
        return {key: plain(value) for key, value in node.value.items()}
    return [plain(value) for value in node.value] if isinstance(node.value, list) else node.value


class _Stop(Exception):
    """Reading on makes no sense; the problem is noted."""


class _Reader:
    """Builds the tree; problems that leave the tree readable are gathered, the others stop it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.problems: list[str] = []
        self.root: Node | None = None
        self._open: list[Node] = []
        self._keys: list[tuple[str, int, int] | None] = []  # one for each open node: the key that waits for its value
        self._documents = 0

    def problem(self, sentence: str, line: int = 1, column: int = 1) -> None:
        self.problems.append(f"{self.name}:{line}:{column}: {sentence}")

    def stop(self, sentence: str, line: int = 1, column: int = 1) -> _Stop:
        self.problem(sentence, line, column)
        return _Stop()

    def text(self, data: bytes) -> str:
        if len(data) > MAX_BYTES:
            self.problem(f"larger than {MAX_BYTES // 1024} KiB")
            return ""
        try:
            text = data.decode("utf-8").removeprefix("\ufeff")
        except UnicodeDecodeError as error:
            self.problem(f"not UTF-8 (byte {error.start})", data.count(b"\n", 0, error.start) + 1)
            return ""
        for found in list(INVISIBLE.finditer(text))[:MAX_PROBLEMS]:
            before = text[: found.start()]
            self.problem(_not_allowed(found[0]), before.count("\n") + 1, found.start() - before.rfind("\n"))
        return text

    def read(self, text: str) -> None:
        import yaml

        try:
            for count, event in enumerate(yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))):
                self._event(count, event)
        except _Stop:
            return
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            said = getattr(error, "problem", None) or getattr(error, "reason", None) or "not YAML"
            if "nesting depth" in str(said):  # newer versions of the parser, which reads ahead, have a limit too: 1,000
                said = f"deeper than {MAX_DEPTH}"
            self.problem(str(said), *((mark.line + 1, mark.column + 1) if mark else ()))

    def _event(self, before: int, event: Any) -> None:
        kind, mark = type(event).__name__, event.start_mark
        line, column = mark.line + 1, mark.column + 1
        if before >= MAX_NODES or len(self.problems) >= MAX_PROBLEMS:
            raise self.stop(f"more than {MAX_NODES} nodes" if before >= MAX_NODES else "and more", line, column)
        if kind == "ScalarEvent":
            self._common(event, event.tag, line, column)
            text = event.value
            if not text.isprintable() and (hidden := INVISIBLE.search(text)):  # an escape: the text itself was searched before
                self.problem(_not_allowed(hidden[0]), line, column)
            self._add(text, line, column, not event.style)
        elif kind in ("SequenceStartEvent", "MappingStartEvent"):
            self._common(event, event.tag, line, column)
            if len(self._open) >= MAX_DEPTH:
                raise self.stop(f"deeper than {MAX_DEPTH}", line, column)
            self._open.append(self._add([] if kind == "SequenceStartEvent" else {}, line, column))
            self._keys.append(None)
        elif kind in ("SequenceEndEvent", "MappingEndEvent"):
            self._open.pop()
            self._keys.pop()
        elif kind == "AliasEvent":
            self._common(event, None, line, column)
            self._add("", line, column)
        elif kind == "DocumentStartEvent":
            self._document(event, line, column)

    def _document(self, event: Any, line: int, column: int) -> None:
        self._documents += 1
        if self._documents > 1:
            raise self.stop("one document only", line, column)
        if event.version or event.tags:
            self.problem("directives are not allowed", line, column)

    def _common(self, event: Any, tag: str | None, line: int, column: int) -> None:
        if event.anchor:
            self.problem("anchors and aliases are not allowed", line, column)
        if tag is not None and tag != _STR:
            self.problem(f"the tag {tag} is not allowed", line, column)

    def _add(self, value: str | list[Node] | dict[str, Node], line: int, column: int, plain: bool = False) -> Node:
        """Puts a node where it belongs: into the open list, behind the key that waits, or it is the next key."""
        if not self._open:
            self.root = Node(value, line, column, plain)
            return self.root
        parent, waiting = self._open[-1].value, self._keys[-1]
        node = Node(value, line, column, plain, waiting and waiting[1:])
        if isinstance(parent, list):
            parent.append(node)
        elif waiting is not None:
            assert isinstance(parent, dict)
            parent[waiting[0]] = node
            self._keys[-1] = None
        elif not isinstance(value, str) or "\n" in value:
            raise self.stop("a key must be one line of text", line, column)
        else:
            assert isinstance(parent, dict)
            if value == "<<" and plain:
                self.problem("merge keys are not allowed", line, column)
            if value in parent:
                first = parent[value].key or (0, 0)
                self.problem(f"the key {value!r} is here twice (first in line {first[0]})", line, column)
            self._keys[-1] = (value, line, column)
        return node


def _not_allowed(character: str) -> str:
    return f"the character U+{ord(character[0]):04X} is not allowed"
