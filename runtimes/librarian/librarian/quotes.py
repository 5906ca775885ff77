"""Passages as Markdown: a link with path and line, the headings above, and the words of the file in a blockquote."""

import posixpath
import re
from dataclasses import dataclass
from urllib.parse import quote

from librarian.marks import OPEN
from librarian.search import Hit

LINES = 14  # of one quote
SIZE = 1200  # characters of one quote, about
LINE_SIZE = 600  # characters of one quoted line
_HEADING = re.compile(r" {0,3}#{1,6}(?:\s|$)")
_UNDERLINE = re.compile(r" {0,3}(?:=+|-+)\s*$")


@dataclass(frozen=True, slots=True)
class Quote:
    """Lines of a file, unchanged but for the ends of very long ones. `line`: where the first of them stands."""

    path: str
    line: int
    trail: tuple[str, ...]
    lines: tuple[str, ...]


def quote_of(hit: Hit) -> Quote:
    """The part of a passage that holds most of what was asked; the heading is in the trail, so it is not repeated."""
    lines = hit.body.split("\n")
    marked = hit.marked.split("\n")
    begin, end = _without_heading(lines), len(lines)
    room = max(2, min(LINES, SIZE * (end - begin) // (1 + sum(map(len, lines[begin:end])))))
    if end - begin > room:
        begin = _best_window(lines, marked, begin, room)
        end = begin + room
    while begin < end - 1 and not lines[begin].strip():
        begin += 1
    kept = lines[begin:end]
    while len(kept) > 1 and not kept[-1].strip():
        kept.pop()
    shown = tuple(shorten(line, marked[begin + at]) for at, line in enumerate(kept))
    return Quote(hit.path, hit.line + begin, hit.trail, shown)


def _without_heading(lines: list[str]) -> int:
    skip = 0
    if _HEADING.match(lines[0]):
        skip = 1
    elif len(lines) > 1 and _UNDERLINE.match(lines[1]) and lines[0].strip():
        skip = 2
    return skip if any(line.strip() for line in lines[skip:]) else 0


def _best_window(lines: list[str], marked: list[str], first: int, room: int) -> int:
    """Where `room` lines with the most marks begin; at the start of a paragraph if there is one near."""
    counts = [line.count(OPEN) for line in marked]
    last = len(lines) - room
    best = max(range(first, last + 1), key=lambda at: (sum(counts[at : at + room]), -at))
    while best < last and not counts[best] and any(counts[best:]):
        best += 1  # the window may begin with the first line that matters
    matters = next((at for at in range(best, len(lines)) if counts[at]), best)
    for back in range(best, max(first, best - 4, matters - room + 1) - 1, -1):
        if back == first or not lines[back - 1].strip():
            return back
    return best


def shorten(line: str, marked: str, size: int = LINE_SIZE) -> str:
    """A line, or of a very long one the part around its first match."""
    if len(line) <= size:
        return line
    at = max(0, marked.find(OPEN) - size // 3)
    return ("…" if at else "") + line[at : at + size] + ("…" if at + size < len(line) else "")


def link(path: str, line: int | None, base: str) -> str:
    """`[path:line](target)`; the target is relative to `base`, the directory where the conversation's file lies."""
    target = quote(posixpath.relpath(path, base or "."), safe="/.-_~")
    label = escape(path if line is None else f"{path}:{line}")
    return f"[{label}]({target}{'' if line is None else f'#L{line}'})"


def escape(text: str) -> str:
    """Text that stands in Markdown as itself: names of files and headings are a stranger's."""
    text = re.sub(r"[\x00-\x1f\x7f]", "�", text)
    text = re.sub(r"([\\`\[\]<>|])", r"\\\1", text)
    return re.sub(r"(?<![^\W_])([*_])|([*_])(?![^\W_])", r"\\\1\2", text)


def code(text: str) -> str:
    """Text as a code span, whatever backticks it holds."""
    text = re.sub(r"[\x00-\x1f\x7f]", " ", text)
    fence = "`" * (max(map(len, re.findall("`+", text)), default=0) + 1)
    pad = " " if text[:1] == "`" or text[-1:] == "`" else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def render(quote: Quote, base: str) -> str:
    """Link, heading trail, blockquote."""
    trail = " > ".join(escape(name) for name in quote.trail if name)
    head = f"**{link(quote.path, quote.line, base)}**" + (f" · {trail}" if trail else "")
    body = "\n".join(f"> {line}".rstrip() for line in quote.lines)
    return f"{head}\n\n{body}\n"
