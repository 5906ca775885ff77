"""Markdown and plain text -> headings and passages, each with its line; it reads no file and renders nothing."""

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

MARKDOWN = (".md", ".markdown", ".mdown", ".mkd", ".mdx")

SOFT_SIZE = 300  # characters: a passage ends at the next blank line
HARD_SIZE = 800  # ... at the next list item or table row
FULL_SIZE = 2500  # ... at the next line, wherever it stands
LINE_SIZE = 4000  # a longer line is several passages with the same number
MARKUP_SIZE = 1000  # a line longer than this is text: no pattern below may walk through megabytes

_ATX = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*$")
_FENCE = re.compile(r"[ \t]*(?:(?:[-*+]|\d{1,9}[.)])[ \t]+|>[ \t]?)*(`{3,}|~{3,})([^\r\n]*)$")
_SETEXT = re.compile(r" {0,3}(=+|-+)[ \t]*$")
_ITEM = re.compile(r"[ \t]*(?:[-*+]|\d{1,9}[.)])[ \t]|[ \t]*\|")
_NOT_A_PARAGRAPH = re.compile(r"[ \t]*(?:[-*+>|]|\d{1,9}[.)])[ \t]|    |\t|[ \t]*$")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Heading:
    level: int  # 1-6
    text: str  # as written, with its inline markup
    line: int  # from 1


@dataclass(frozen=True, slots=True)
class Passage:
    """A stretch of lines below one heading. The heading's own line is the first line of the first passage."""

    line: int
    trail: tuple[str, ...]
    body: str


@dataclass(slots=True)
class Outline:
    headings: list[Heading] = field(default_factory=list)
    code: set[int] = field(default_factory=set)  # lines inside fences, front matter and comments: text, no markup


def is_markdown(path: str) -> bool:
    return path.lower().endswith(MARKDOWN)


def split_lines(text: str) -> list[str]:
    """Lines as editors count them: at LF, CRLF and CR only, not at form feeds or U+2028."""
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def outline(lines: list[str]) -> Outline:
    """Headings (ATX and setext) of Markdown, CommonMark's rules as far as one line at a time tells them."""
    result = Outline()
    at = _front_matter(lines)
    result.code.update(range(1, at + 1))
    while at < len(lines):
        at = _step(lines, at, result)
    return result


def _front_matter(lines: list[str]) -> int:
    if lines and lines[0].rstrip() == "---":
        for number, line in enumerate(lines[1:200], 2):
            if line.rstrip() in ("---", "..."):
                return number
    return 0


def _step(lines: list[str], at: int, result: Outline) -> int:
    """Looks at the line with index `at`; says which comes next."""
    line = lines[at]
    if len(line) > MARKUP_SIZE:
        return at + 1
    lead = line.lstrip(" \t")[:1]
    if lead == "#":
        heading = _ATX.match(line)
        if heading:
            result.headings.append(Heading(len(heading[1]), (heading[2] or "").strip(), at + 1))
    elif lead in "`~>-*+0123456789" and ("```" in line or "~~~" in line):
        fence = _FENCE.match(line)
        if fence and not (fence[1][0] == "`" and "`" in fence[2]):
            return _skip_fence(lines, at, fence[1], result)
    elif lead == "<" and line.lstrip().startswith("<!--") and "-->" not in line:
        return _skip_comment(lines, at, result)
    elif lead in "=-" and at and (at not in result.code):
        under = _SETEXT.match(line)
        if under and lines[at - 1].strip() and not _NOT_A_PARAGRAPH.match(lines[at - 1]):
            above = result.headings[-1].line if result.headings else 0
            if above != at and not _ATX.match(lines[at - 1]):
                result.headings.append(Heading(1 if under[1][0] == "=" else 2, lines[at - 1].strip(), at))
    return at + 1


def _skip_fence(lines: list[str], at: int, opening: str, result: Outline) -> int:
    result.code.add(at + 1)
    closing = re.compile(rf"[ \t>]*{re.escape(opening[0])}{{{len(opening)},}}[ \t]*$")
    for end in range(at + 1, len(lines)):
        result.code.add(end + 1)
        if closing.match(lines[end]):
            return end + 1
    return len(lines)


def _skip_comment(lines: list[str], at: int, result: Outline) -> int:
    for end in range(at + 1, len(lines)):
        if "-->" in lines[end]:
            result.code.update(range(at + 1, end + 2))
            return end + 1
    return at + 1


def passages(lines: list[str], headings: list[Heading]) -> Iterator[Passage]:
    """Every line that is not blank stands in exactly one passage, in order."""
    starts = {heading.line: heading for heading in headings}
    trail: list[Heading] = []
    names: tuple[str, ...] = ()
    held: list[str] = []
    size = begin = 0
    for number, line in enumerate(lines, 1):
        heading = starts.get(number)
        if held and (heading or len(line) > LINE_SIZE or _ends(size, line)):
            yield from _passage(begin, names, held)
            held, size = [], 0
        if heading:
            trail = [above for above in trail if above.level < heading.level] + [heading]
            names = tuple(plain(one.text) for one in trail)
        if len(line) > LINE_SIZE:
            for start in range(0, len(line), LINE_SIZE):
                yield from _passage(number, names, [line[start : start + LINE_SIZE]])
        elif held or line.strip():
            begin = begin if held else number
            held.append(line)
            size += len(line) + 1
    yield from _passage(begin, names, held)


def _ends(size: int, line: str) -> bool:
    if size < SOFT_SIZE:
        return False
    if not line.strip():
        return True
    return size >= FULL_SIZE or (size >= HARD_SIZE and _ITEM.match(line[:MARKUP_SIZE]) is not None)


def _passage(begin: int, names: tuple[str, ...], held: list[str]) -> Iterator[Passage]:
    body = _CONTROL.sub(" ", "\n".join(held)).rstrip()
    if body:
        yield Passage(begin, names, body)


_LINK = re.compile(r"!?\[([^\[\]]*)\](?:\([^()\s]*(?:\s+\"[^\"]*\")?\)|\[[^\[\]]*\])")
_TAG = re.compile(r"</?[A-Za-z][^<>]*>|<!--.*?-->")
_STARS = re.compile(r"(\*{1,3}|~~)(?=\S)(.+?)(?<=\S)\1")
_UNDERSCORES = re.compile(r"(?<![^\W_])(_{1,3})(?=\S)(.+?)(?<=\S)\1(?![^\W_])")  # not inside snake_case_names


def plain(text: str) -> str:
    """A heading without its inline markup: what a reader sees."""
    spans = re.split(r"(`+)(.+?)\1(?!`)", text)
    out = []
    for at in range(0, len(spans), 3):
        rest = html.unescape(_TAG.sub("", _LINK.sub(r"\1", spans[at])))
        for marks in (_STARS, _STARS, _UNDERSCORES, _UNDERSCORES):  # twice: strong inside emphasis
            rest = marks.sub(r"\2", rest)
        out.append(re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", rest))
        out += spans[at + 2 : at + 3]
    return "".join(out).strip()
