"""The conversation so far as plain text, out of the file's bytes, for an agent that starts without memory; changes nothing.

API: `history`, `retold`, `said`, `plain`, `Said`.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass

from opagent.document.lines import words
from opagent.document.markers import unescape, unescape_own
from opagent.document.parse import Part, Region, asks, scan, tag_of

LIMIT = 60_000  # characters
_HEADING = re.compile(r"\A\s*## [^\n]*?(?: · (?:\d{4}-\d\d-\d\d )?\d\d:\d\d)?[ \t]*(?:\n\s*|\Z)")
_SUMMARY = re.compile(r"<summary>(.*)</summary>")
_FENCE = re.compile(r"(`{3,})[a-z]*")


@dataclass(frozen=True, slots=True)
class Said:
    """`author` is a login or role as in the marker; `summary` for what stands for older turns."""

    author: str
    text: str
    reply: bool


def history(content: bytes, limit: int = LIMIT, tag: str = "", since: str = "") -> tuple[Said, ...]:
    """Messages and replies, oldest first; the newest that fit into `limit` characters, the first of them cut at its start.

    `since`: the id of the one behind which it begins.
    Escapes are taken back, bodies of tool calls and approvals are left out (their line stays), margin notes were never sent.
    """
    tag = tag or tag_of(content)
    kept: list[Said] = []
    for region in reversed(scan(content, tag)):
        if region.part in (Part.HEAD, Part.NEXT):
            continue
        if since and region.id == since:
            break
        found = said(region, tag)
        if not found.text:
            continue
        if len(found.text) > limit:
            if limit > 1:
                kept.append(Said(found.author, "…" + found.text[1 - limit :], found.reply))
            break
        kept.append(found)
        limit -= len(found.text)
    return tuple(reversed(kept))


def retold(before: bytes, after: bytes, tag: str) -> bool:
    """Whether the second file tells another conversation than the first. What a formatter does to a text tells the same one."""
    one, other = ([(each.reply, words(each.text.encode())) for each in history(file, tag=tag)] for file in (before, after))
    return one != other


def said(region: Region, tag: str) -> Said:
    """One message, reply or summary without its heading; bodies of tool calls folded into one line."""
    text = plain(region, tag)
    if region.part is Part.SUMMARY:
        return Said("summary", text.strip(), False)
    author = next(iter(region.words[1:]), "")
    text = _HEADING.sub("", text, count=1).strip()
    return Said(author, _folded(text), True) if region.part is Part.REPLY else Said(author, text, False)


def plain(region: Region, tag: str) -> str:
    """The body of a turn as it was said: approvals left out, escapes taken back; the heading stays."""
    body = region.body
    for ask in reversed(asks(region, tag)):
        body = body[: ask.start] + body[ask.end :]
    text = body.decode("utf-8", "replace").replace("\r\n", "\n")
    typed = region.part is Part.MESSAGE and not next(iter(region.words[1:]), "").startswith("agent:")
    return unescape_own(text, tag) if typed else unescape(text)


def _folded(text: str) -> str:
    """Each `<details>` as its summary in brackets; one that is not closed is left as it is."""
    lines = text.split("\n")
    out: list[str] = []
    index = 0
    while index < len(lines):
        found = _SUMMARY.fullmatch(lines[index + 1]) if lines[index] == "<details>" and index + 1 < len(lines) else None
        end = _closing(lines, index + 2) if found else -1
        if found and end > 0:
            out.append(f"[{html.unescape(re.sub('<[^>]*>', '', found[1]))}]")
            index = end + 1
        else:
            out.append(lines[index])
            index += 1
    return "\n".join(out).strip()


def _closing(lines: list[str], index: int) -> int:
    """The line `</details>` that is in no fence, or -1."""
    fence = ""
    for place in range(index, len(lines)):
        line = lines[place]
        if fence:
            fence = "" if line == fence else fence
        elif line == "</details>":
            return place
        elif found := _FENCE.fullmatch(line):
            fence = found[1]
    return -1
