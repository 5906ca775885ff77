"""Links of a Markdown text, each with its line: inline, reference and HTML, pictures too, none inside code. Pure."""

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field

from librarian.sections import outline

_ITEM = re.compile(r"[ \t]*(?:[-*+]|\d{1,9}[.)])(?:[ \t]|$)")
_ESCAPED = re.compile(r"\\[\\\[\]`!<]")
_TICKS = re.compile(r"`+")
_BRACKET = re.compile(r"[\[\]]")
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_NESTED = r"(?:[^\s()\\]|\\.|\((?:[^\s()\\]|\\.)*\))*"
_TITLE = r"""(?:\s+(?:"[^"]*"|'[^']*'|\([^()]*\)))?"""
_INLINE = re.compile(rf"\]\([ \t]*\n?[ \t]*(?:<([^<>\n]*)>|({_NESTED})){_TITLE}\s*\)")
_DEFINITION = re.compile(
    rf"^ {{0,3}}\[([^\[\]\n^][^\[\]\n]*)\]:[ \t]*\n?[ \t]*(?:<([^<>\n]*)>|(\S+)){_TITLE}[ \t]*$", re.MULTILINE
)
_REFERENCE = re.compile(r"(?<![\w\]\\])!?\[([^\[\]]{1,300})\]\[([^\[\]^@]{1,300})\]")
_HREF = re.compile(r"""<(?:a|img)\s[^<>]*?\b(?:href|src)\s*=\s*(?:"([^"]*)"|'([^']*)')""", re.IGNORECASE)
_ANCHOR = re.compile(r"""<[a-z][a-z0-9]*\s[^<>]*?\b(?:id|name)\s*=\s*(?:"([^"]*)"|'([^']*)')""", re.IGNORECASE)
_UNESCAPE = re.compile(r"\\([!-/:-@\[-`{-~])")


@dataclass(frozen=True, slots=True)
class Link:
    line: int
    target: str  # as written, unescaped, not percent-decoded


@dataclass(slots=True)
class Links:
    links: list[Link] = field(default_factory=list)
    undefined: list[Link] = field(default_factory=list)  # [text][label] without a definition; target is the label
    anchors: set[str] = field(default_factory=set)  # ids and names that HTML in the file sets


def links_of(lines: list[str]) -> Links:
    result = Links()
    labels: set[str] = set()
    blocks = list(_blocks(lines))
    for begin, text in blocks:
        _read_block(begin, text, result, labels)
    for begin, text in blocks:
        for found in _REFERENCE.finditer(text):
            if _label(found[2]) not in labels and found[1].strip():
                result.undefined.append(Link(_line(begin, text, found.start()), found[2]))
    result.links.sort(key=lambda link: link.line)
    return result


def _read_block(begin: int, text: str, result: Links, labels: set[str]) -> None:
    for found in (*_inline(text), *_HREF.finditer(text)):
        target = found[1] if found[1] is not None else found[2]
        result.links.append(Link(_line(begin, text, found.start()), _UNESCAPE.sub(r"\1", target)))
    for found in _DEFINITION.finditer(text):
        label = _label(found[1])
        if label not in labels:  # the first definition of a label counts
            labels.add(label)
            target = found[2] if found[2] is not None else found[3]
            result.links.append(Link(_line(begin, text, found.start()), _UNESCAPE.sub(r"\1", target)))
    for found in _ANCHOR.finditer(text):
        result.anchors.add(found[1] if found[1] is not None else found[2])


def _inline(text: str) -> Iterator[re.Match[str]]:
    """Inline links and pictures: a closing bracket that has an opening one, with a destination behind it."""
    depth = at = 0
    while bracket := _BRACKET.search(text, at):
        at = bracket.end()
        if bracket[0] == "[":
            depth += 1
        elif depth:
            depth -= 1
            found = _INLINE.match(text, bracket.start())
            if found:
                at = found.end()
                yield found


def _label(text: str) -> str:
    return " ".join(text.split()).casefold()


def _line(begin: int, text: str, at: int) -> int:
    return begin + text.count("\n", 0, at)


BLOCK_SIZE = 20_000  # characters: a longer paragraph is read in pieces, so that no pattern runs over megabytes


def _blocks(lines: list[str]) -> Iterator[tuple[int, str]]:
    """Paragraphs without their code: (number of the first line, text with what is code blanked out)."""
    code = outline(lines).code
    held: list[str] = []
    begin = size = 0
    for number, line in _without_indented_code(lines, code):
        if not line.strip() or size > BLOCK_SIZE:
            if held:
                yield begin, blank_code("\n".join(held))
            held, size = [], 0
        if line.strip():
            begin = begin if held else number
            held.append(line[:BLOCK_SIZE])
            size += len(line)
    if held:
        yield begin, blank_code("\n".join(held))


def _without_indented_code(lines: list[str], code: set[int]) -> Iterator[tuple[int, str]]:
    in_list = in_code = False
    after_blank = True
    for number, line in enumerate(lines, 1):
        text = "" if number in code else line
        indent = len(line.expandtabs(4)) - len(line.expandtabs(4).lstrip()) if text[:1] in (" ", "\t") else 0
        if not text.strip():
            after_blank = True
            yield number, ""
            continue
        item = _ITEM.match(text) is not None
        in_code = indent >= (8 if in_list else 4) and (after_blank or in_code) and not (item and in_list)
        if not in_code:
            in_list = item or (in_list and (indent > 0 or not after_blank))
        after_blank = False
        yield number, "" if in_code else text


def blank_code(text: str) -> str:
    """The text with code spans, comments and escaped brackets replaced by blanks; lines and columns stay.

    Linear in the length: a run of backticks looks up the next run of its length instead of searching for it.
    """
    runs = [(found.start(), found.end()) for found in _TICKS.finditer(text)]
    by_length: dict[int, list[int]] = {}
    for begin, end in runs:
        by_length.setdefault(end - begin, []).append(begin)
    pieces, at = [], 0
    for begin, end in runs:
        if begin < at:
            continue
        if text[max(0, begin - 1) : begin] == "\\" and _backslashes(text, begin) % 2:
            begin += 1  # an escaped backtick opens nothing
        same = by_length.get(end - begin, [])
        after = bisect_right(same, begin)
        if after < len(same):
            close = same[after] + (end - begin)
            pieces += [text[at:begin], _blank(text[begin:close])]
            at = close
    return _COMMENT.sub(lambda found: _blank(found[0]), _ESCAPED.sub("  ", "".join([*pieces, text[at:]])))


def _backslashes(text: str, end: int) -> int:
    start = end
    while start and text[start - 1] == "\\":
        start -= 1
    return end - start


def _blank(text: str) -> str:
    return re.sub(r"[^\n]", " ", text)
