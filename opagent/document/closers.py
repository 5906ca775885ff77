"""What must be closed at the end of agent text so that the next heading is top level again; changes no text itself.

API: `OpenBlocks` (fed as the text streams), `closers` (a whole text).

A real block parser decides, over the last top-level block only: before it everything is settled. A fence inside a list or
a quote ends by itself and is not closed. (Design: "The body of a region"; 845 cuts of real agent text, none swallowed.)
"""

from __future__ import annotations

import functools
import re
from bisect import bisect_right
from typing import TYPE_CHECKING

from opagent.document.blockstart import PLAIN, is_paragraph, last_start

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

LONG = 32 * 1024  # characters
_DETAILS = re.compile(r"<(/?)details(?=[\s>/])", re.I)
_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.S)
_TICKS = re.compile(r"`+")
_RAW = re.compile(r" {0,3}<(script|pre|style|textarea)(?=[\s>]|$)", re.I | re.M)
_RAW_END = re.compile(r"</(?:script|pre|style|textarea)>", re.I)
# (how an HTML block begins, how it ends and what is written to end it): CommonMark 0.31, section 4.6, kinds 2 to 5
_HTML = (("<!--", "-->"), ("<?", "?>"), ("<![CDATA[", "]]>"), ("<!", ">"))


class OpenBlocks:
    """The blocks that streamed text has left open. Cost of `feed`: little; of `closers`: a parse of the last block."""

    def __init__(self) -> None:
        self._pending: list[str] = []  # from the start of the last top-level block on
        self._size, self._settle_at = 0, LONG  # characters of them
        self._details = 0  # opened and not closed before it

    def feed(self, text: str) -> None:
        """More whole lines. Much that nobody looks at is settled here, so that no look has to parse megabytes at once."""
        self._pending.append(text)
        self._size += len(text)
        if self._size >= self._settle_at:
            whole = "".join(self._pending)
            start = last_start(whole)
            self._pending = [whole[start:]]
            if not start:
                self.closers()
            self._size = len(self._pending[0])
            self._settle_at = max(LONG, 4 * self._size)

    def closers(self, unfinished: str = "") -> str:
        """Lines that close what is open after all that was fed and the last, unfinished line."""
        text = "".join(self._pending)
        self._pending = [text]
        whole = text + unfinished
        if is_paragraph(whole):
            return _closing(self._details)
        tokens = _parser().parse(whole)
        tops = [token for token in tokens if token.level == 0 and token.map]
        if not tops:
            return _closing(self._details)
        # a line that is not complete may still turn out to belong to the block before it
        complete = text.count("\n")
        settled = max((start for start in _starts(tokens, tops) if start < complete), default=0)
        below = _depth(tokens, 0, settled, self._details)
        if settled:
            self._pending = [text[_offset(text, settled) :]]
            self._details = below
        depth = _depth(tokens, settled, len(whole) + 1, below)
        if tops[-1].type == "paragraph_open" and _first(tops[-1]) == settled:
            self._pending = [_end_of_paragraph(self._pending[0])]
        return _closer(tops[-1], whole) + _closing(depth)


@functools.cache
def _parser() -> MarkdownIt:
    """Link definitions change no block and are quadratic in the parser; inline content is not wanted."""
    from markdown_it import MarkdownIt  # slow to import, and a daemon that starts has nothing to parse yet

    return MarkdownIt("commonmark").disable(["inline", "reference"])


def _closing(details: int) -> str:
    return "\n" + "</details>\n" * details if details else ""


def _first(token: Token) -> int:
    return token.map[0] if token.map else 0


def _starts(tokens: list[Token], tops: list[Token]) -> list[int]:
    """The lines from which the text can be parsed alone: of top-level blocks, and of items or blocks of the last list or quote.

    A list of 10,000 items would cost 0.3 s a look otherwise.
    """
    last = _first(tops[-1])
    inside = [token for token in tokens if token.level == 1 and token.map and _first(token) > last and token.nesting >= 0]
    return [_first(token) for token in (*tops, *inside) if token.type != "inline"]


def _end_of_paragraph(text: str) -> str:
    """A paragraph from its last whole line that begins plainly: such a line alone is a paragraph, too.

    Only where what is cut off holds no code span and no tag, which may reach over lines. (43 ms a look at 70 kB otherwise.)
    """
    place = len(text) - 1
    while (place := text.rfind("\n", 0, place)) >= 0:
        if PLAIN.match(text, place + 1):
            return text if "`" in text[:place] or "<" in text[:place] else text[place + 1 :]
    return text


def closers(text: str) -> str:
    """What closes a whole text that ends with a line end (or is to get one)."""
    blocks = OpenBlocks()
    blocks.feed(text)
    return blocks.closers()


def _offset(text: str, line: int) -> int:
    """Where a line begins. The parser knows LF only, once its own normalising has nothing to do."""
    place = 0
    for _ in range(line):
        place = text.find("\n", place) + 1
    return place


def _closer(last: Token, whole: str) -> str:
    if last.type == "fence":
        return "" if _fence_is_closed(last, whole) else last.markup + "\n"
    if last.type != "html_block":
        return ""
    raw = _RAW.match(last.content)
    if raw:
        return "" if _RAW_END.search(last.content) else f"</{raw[1].lower()}>\n"
    content = last.content.lstrip(" ")
    for begin, finish in _HTML:
        if content.startswith(begin) and (begin != "<!" or content[2:3].isalpha()):
            return "" if finish in content else finish + "\n"
    return ""


def _fence_is_closed(fence: Token, whole: str) -> bool:
    first, after = fence.map or [0, 0]
    lines = whole[_offset(whole, first) :].split("\n")[: after - first]
    ending = lines[-1]
    stripped = ending.strip(" \t")
    return (
        len(lines) > 1
        and len(stripped) >= len(fence.markup)
        and stripped.strip(fence.markup[0]) == ""
        and len(ending) - len(ending.lstrip(" ")) < 4
    )


def _depth(tokens: list[Token], first: int, after: int, depth: int) -> int:
    """How many `<details>` stay open, counted over the tokens that begin in a range of lines."""
    for token in tokens:
        if token.type in ("html_block", "inline") and token.map and first <= token.map[0] < after:
            content = _COMMENT.sub("", token.content)
            if token.type == "inline":
                content = _without_code(content)
            for tag in _DETAILS.finditer(content):
                depth = max(0, depth - 1) if tag[1] else depth + 1
    return depth


def _without_code(text: str) -> str:
    """Inline text without its code spans: a run of backticks up to the next run of the same length. Linear."""
    runs = [(found.start(), found.end()) for found in _TICKS.finditer(text)]
    starts: dict[int, list[int]] = {}
    for begin, end in runs:
        starts.setdefault(end - begin, []).append(begin)
    kept, place = [], 0
    for begin, end in runs:
        if begin < place:
            continue
        same = starts[end - begin]
        after = bisect_right(same, begin)
        if after < len(same):
            kept.append(text[place:begin])
            place = same[after] + end - begin
    return "".join([*kept, text[place:]])
