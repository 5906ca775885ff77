"""Where the last block of a long Markdown text begins, seen without a parser where that is certain; 0 where it is not.

A parser needs a third of a second for a megabyte of prose and 2.4 for one of lists. What is looked for are lines that begin a
top-level block, or an item of a top-level list, whatever stands before them: such a line stands in the first column, so it
ends every list, quote and fence inside one. Only a fence or an HTML block at top level could hold it, and those are seen.
"""

from __future__ import annotations

import re

# They begin with one fixed character, which `re` finds ten times as fast as the start of a line; two want an LF before the text.
_UNCERTAIN = re.compile(r"\n(?: {0,3}<| {1,3}(?:```|~~~))")
_DETAILS = re.compile(r"<(?i:/?details)[\s>/]")
_FENCE = re.compile(r"\n(`{3,}|~{3,})(.*)")
_ITEM = re.compile(r"(?:[-+*]|#{1,6}) [A-Za-z]")
# how a line begins that can only begin or go on with a paragraph
PLAIN = re.compile(r"""[A-Za-z"'(@$%&/:,.!?;^{}\])\\]|[0-9]+(?=[^0-9.)])""")
_OTHER = re.compile(rf"\n(?!{PLAIN.pattern}|\Z)")


def last_start(text: str) -> int:
    """From there on `text`, which begins with a block and ends with a line end, can be parsed alone."""
    fences = ("`" in text and "```" in text) or ("~" in text and "~~~" in text)
    if not fences and "<" not in text:
        return _last_of_paragraph(text, _last_line(text, 0))  # nearly all text that streams
    behind = f"\n{text}"
    if _UNCERTAIN.search(behind) or _DETAILS.search(text):
        return 0
    fence, begin, after = "", 0, 0
    for found in _FENCE.finditer(behind) if fences else ():
        marks, rest = found[1], found[2]
        if not fence and not (marks[0] == "`" and "`" in rest):
            fence, begin = marks, found.start()
        elif fence and marks.startswith(fence) and not rest.strip(" \t"):
            fence, after = "", found.end()
    return begin if fence else _last_of_paragraph(text, _last_line(text, after))


def is_paragraph(text: str, start: int = 0) -> bool:
    """Certainly nothing else from `start` on, and without a code span or a tag. `text` ends with a line end."""
    if not text.endswith("\n") or text.find("`", start) >= 0 or text.find("<", start) >= 0:
        return False
    return PLAIN.match(text, start) is not None and _OTHER.search(text, start) is None


def _last_line(text: str, after: int) -> int:
    """The last line behind `after` that begins a block."""
    place = len(text) - 1
    while (place := text.rfind("\n", after, place)) >= 0:
        if _ITEM.match(text, place + 1) or (text[place - 1 : place] == "\n" and PLAIN.match(text, place + 1)):
            return place + 1
    return after


def _last_of_paragraph(text: str, start: int) -> int:
    """Of a plain paragraph the last line is one, too; not where a code span or a tag may reach over its lines."""
    return max(start, text.rfind("\n", start, len(text) - 1) + 1) if is_paragraph(text, start) else start
