"""Where the last block of a long Markdown text begins, seen without a parser where that is certain; 0 where it is not.

A parser needs a third of a second for a megabyte of prose and 2.4 for one of lists. What is looked for are lines that begin a
top-level block, or an item of a top-level list, whatever stands before them: such a line stands in the first column, so it
ends every list, quote and fence inside one. Only a fence or an HTML block at top level could hold it, and those are seen.
"""

from __future__ import annotations

import re

_UNCERTAIN = re.compile(r"^ {0,3}<|^ {1,3}(?:```|~~~)|<(?i:/?details)[\s>/]", re.M)
_FENCE = re.compile(r"^(`{3,}|~{3,})(.*)$", re.M)
_ITEM = re.compile(r"(?:[-+*]|#{1,6}) [A-Za-z]")
# how a line begins that can only begin or go on with a paragraph
PLAIN = re.compile(r"""[A-Za-z"'(@$%&/:,.!?;^{}\])\\]|[0-9]+[^0-9.)]""")
_PARAGRAPH = re.compile(rf"(?:(?:{PLAIN.pattern})[^\n`<]*\n)++")


def last_start(text: str) -> int:
    """From there on `text`, which begins with a block and ends with a line end, can be parsed alone."""
    if _UNCERTAIN.search(text):
        return 0
    fence, begin, after = "", 0, 0
    for found in _FENCE.finditer(text):
        marks, rest = found[1], found[2]
        if not fence and not (marks[0] == "`" and "`" in rest):
            fence, begin = marks, found.start()
        elif fence and marks.startswith(fence) and not rest.strip(" \t"):
            fence, after = "", found.end() + 1
    return begin if fence else _last_of_paragraph(text, _last_line(text, after))


def is_paragraph(text: str) -> bool:
    """Certainly nothing else, and without a code span or a tag. `text` ends with a line end."""
    return _PARAGRAPH.fullmatch(text) is not None


def _last_line(text: str, after: int) -> int:
    """The last line behind `after` that begins a block."""
    place = len(text) - 1
    while (place := text.rfind("\n", after, place)) >= 0:
        if _ITEM.match(text, place + 1) or (text[place - 1 : place] == "\n" and PLAIN.match(text, place + 1)):
            return place + 1
    return after


def _last_of_paragraph(text: str, start: int) -> int:
    """Of a plain paragraph the last line is one, too; not where a code span or a tag may reach over its lines."""
    plain = _PARAGRAPH.match(text, start)
    return max(start, text.rfind("\n", start, len(text) - 1) + 1) if plain and plain.end() == len(text) else start
