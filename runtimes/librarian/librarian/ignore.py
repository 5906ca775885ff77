"""Git's ignore files as git reads them: text -> rules, rules and a path -> ignored or not. It opens nothing.

Source: gitignore(5), and git's dir.c and wildmatch.c where the manual is silent. The tests hold it against
`git check-ignore`. One difference is kept: `?` takes a character, in git a byte.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from librarian.segments import STAR, Segment, compile_segment, match

_POSIX = {
    "alnum": "a-zA-Z0-9", "alpha": "a-zA-Z", "blank": " \\t", "cntrl": "\\x00-\\x1f\\x7f", "digit": "0-9",
    "graph": "!-~", "lower": "a-z", "print": " -~", "punct": "!-/:-@\\[-`{-~", "space": " \\t\\n\\r\\f\\v",
    "upper": "A-Z", "xdigit": "0-9a-fA-F",
}  # fmt: skip

_WILD = re.compile(r"[*?\[\\]")


class _Never(Exception):
    """A pattern that git takes and that never matches: an open bracket, a backslash at the end."""


@dataclass(frozen=True, slots=True)
class Rule:
    """`prefix`: what stands in an anchored pattern before its first wildcard. Git compares it first and matches the
    rest alone, so that `a**/*` matches `a`: there the rest begins with `**/`."""

    prefix: str
    segments: tuple[Segment, ...]
    negated: bool
    directories_only: bool

    def matches(self, path: str) -> bool:
        if not path.startswith(self.prefix):
            return False
        return match(self.segments, path[len(self.prefix) :].split("/"))


@dataclass(frozen=True, slots=True)
class Layer:
    """The rules of one ignore file. `base`: its directory below the workspace ("" is the workspace itself);
    `lead`: for a file above the workspace, the way from its directory down to the workspace."""

    rules: tuple[Rule, ...]
    base: str = ""
    lead: str = ""

    def local(self, path: str) -> str:
        """A path of the workspace as the ignore file sees it."""
        below = path[len(self.base) + 1 :] if self.base else path
        return f"{self.lead}/{below}" if self.lead else below


def parse(text: str) -> tuple[Rule, ...]:
    rules = []
    for line in text.removeprefix("\ufeff").split("\n"):
        rule = _rule(line.removesuffix("\r"))
        if rule is not None:
            rules.append(rule)
    return tuple(rules)


def verdict(layers: Sequence[Layer], path: str, is_directory: bool) -> bool | None:
    """True ignored, False taken back by a `!` rule, None when no rule says anything; the last matching rule of the
    deepest layer decides. The caller does not enter an ignored directory, so nothing below one is ever taken back."""
    for layer in reversed(layers):
        local = layer.local(path)
        for rule in reversed(layer.rules):
            if (is_directory or not rule.directories_only) and rule.matches(local):
                return not rule.negated
    return None


def _rule(line: str) -> Rule | None:
    line = _without_trailing_spaces(line)
    if not line or line.startswith("#"):
        return None
    negated = line.startswith("!")
    body = line[1:] if negated else line
    directories_only = body.endswith("/")
    if directories_only:
        body = body[:-1]
    if not body:
        return None
    anchored = "/" in body
    body = body.removeprefix("/")
    prefix = _WILD.split(body, maxsplit=1)[0] if anchored else ""
    try:
        segments = _segments(body[len(prefix) :])
    except _Never:
        return None
    return Rule(prefix, tuple(segments if anchored else [None, *segments]), negated, directories_only)


def _without_trailing_spaces(line: str) -> str:
    end = len(line)
    while end and line[end - 1] == " ":
        before = line[: end - 1]
        if (len(before) - len(before.rstrip("\\"))) % 2:
            break
        end -= 1
    return line[:end]


def _segments(body: str) -> list[Segment]:
    """A slash inside a class is no separator, one behind a backslash is."""
    segments: list[Segment] = []
    pieces: list[object] = []
    at = 0
    while at < len(body):
        char = body[at]
        at += 1
        if char == "\\":
            if at == len(body):
                raise _Never
            char, literal = body[at], True
            at += 1
        else:
            literal = False
        if char == "/":
            segments.append(_segment(pieces))
            pieces = []
        elif literal:
            pieces.append(re.escape(char))
        elif char == "[":
            piece, at = _bracket(body, at)
            pieces.append(piece)
        else:
            pieces.append(STAR if char == "*" else "." if char == "?" else re.escape(char))
    return [*segments, _segment(pieces)]


def _segment(pieces: list[object]) -> Segment:
    if len(pieces) > 1 and all(piece is STAR for piece in pieces):
        return None
    return compile_segment(pieces)


def _bracket(name: str, at: int) -> tuple[str, int]:
    """The class that begins behind `[`, as a regular expression, and where it ends."""
    negated = name[at : at + 1] in ("!", "^")
    at += negated
    first, items = at, ""
    while True:
        char = name[at : at + 1]
        if not char:
            raise _Never
        if char == "]" and at > first:
            break
        if name.startswith("[:", at) and ":]" in name[at + 2 :]:
            end = name.index(":]", at + 2)
            if name[at + 2 : end] not in _POSIX:
                raise _Never
            items += _POSIX[name[at + 2 : end]]
            at = end + 2
            continue
        low, at = _class_char(name, at)
        high = low
        if name[at : at + 1] == "-" and name[at + 1 : at + 2] not in ("", "]"):
            high, at = _class_char(name, at + 1)
        if low <= high:
            items += f"{re.escape(low)}-{re.escape(high)}"
    if not items:
        return ("." if negated else "(?!)"), at + 1
    return f"[{'^' if negated else ''}{items}]", at + 1


def _class_char(name: str, at: int) -> tuple[str, int]:
    if name[at] == "\\":
        at += 1
        if at == len(name):
            raise _Never
    return name[at], at + 1
