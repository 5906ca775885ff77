"""A conversation that goes on twice: the second file out of the bytes of the first, no turn of it rewritten.

API: `fork`, `renamed`, `last_turn`.

A fork has the tag of what it was forked from, so that all its markers stay as they are. (Design: "Old turns, forks, parts, git".)
"""

from __future__ import annotations

from dataclasses import replace

from opagent.document import frontmatter
from opagent.document.edit import Document
from opagent.document.parse import Part, Region, line_end, scan, tag_of
from opagent.errors import Conflict, NotFound


def fork(content: bytes, identifier: str, person: str, turn: str = "") -> bytes:
    """Head and turns up to `turn` (of its message or reply; else the last that has ended), byte for byte, and an empty draft.

    `identifier` is the new conversation's. Raises NotFound for a turn that is not in the file, Conflict for one that still runs.
    """
    tag = tag_of(content)
    regions = [region for region in scan(content, tag) if region.part is not Part.NEXT]
    cut = _cut(regions, turn)
    head, *kept = regions[: cut + 1]
    front = frontmatter.drop(renamed(head.body, identifier, kept[-1].id), "archived")
    return Document(tag, (replace(head, body=front), *kept), line_end(content)).redraft(person, b"").content()


def renamed(content: bytes, identifier: str, turn: str) -> bytes:
    """The same file as another conversation: two lines of its front matter, and no other."""
    origin = frontmatter.conversation_id(content) or tag_of(content)
    content = frontmatter.put(content, "conversation", identifier)
    return frontmatter.put(content, "forked_from", f"{origin}#{turn}" if turn else origin)


def last_turn(content: bytes) -> str:
    """The id of the last reply, or empty."""
    return next((region.id for region in reversed(scan(content)) if region.part is Part.REPLY), "")


def _cut(regions: list[Region], turn: str) -> int:
    """Where the last region that is kept stands."""
    place = next((place for place, region in enumerate(regions) if turn and region.id == turn and region.part.turn), -1)
    if turn and place < 0:
        raise NotFound(f"no turn {turn} is in the file", "older ones may stand in a part of it", "opagent conversations show ID")
    if not turn:
        place = max((place for place, region in enumerate(regions) if region.finished), default=-1)
        if place < 0:
            raise Conflict("no turn of the conversation has ended yet", "there is nothing to fork", "opagent conversations new")
    while place + 1 < len(regions) and regions[place].part is Part.MESSAGE and regions[place + 1].part is Part.REPLY:
        place += 1
    if not regions[place].finished:
        raise Conflict(
            f"the turn {regions[place].id} has not ended", "", f"opagent wait {frontmatter.conversation_id(regions[0].body)}"
        )
    return place
