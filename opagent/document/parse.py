"""Bytes of a conversation file -> regions and back, losing nothing; tracks no Markdown and decides nothing.

API: `scan`, `rescan`, `join`, `tag_of`, `line_end`, `draft`, `did`, `asks`, `Region`, `Part`.

Fences are not tracked on purpose: agents leave them open, and a scanner that believed them missed one marker in seven.
One pass, linear in the size of the file. (Design: "Markers".)
"""

from __future__ import annotations

import enum
import re
from collections.abc import Sequence
from dataclasses import dataclass

from opagent.document import frontmatter
from opagent.document.markers import BOM, finder, first_tag
from opagent.model import TurnState

_FINAL = {state.value for state in TurnState if state.final}
_STEP = 1 << 16  # bytes that are compared at once
_HEADING = re.compile(rb"\A\s*(## [^\r\n]*?)[ \t]*\r?(?:\n|\Z)")


class Part(enum.Enum):
    """What a region is; the value is the word that its opening marker carries."""

    HEAD = ""  # all before the first marker
    MESSAGE = "you"
    REPLY = "agent"
    SUMMARY = "summary"
    NEXT = "next"  # the draft area

    @property
    def turn(self) -> bool:
        return self in (Part.MESSAGE, Part.REPLY)


@dataclass(frozen=True, slots=True)
class Region:
    """A piece of the file. `raw` is exactly its bytes; a message and the draft have neither `close` nor `tail`."""

    part: Part
    id: str = ""
    open: bytes = b""  # the marker line with its line end
    body: bytes = b""
    close: bytes = b""  # the end marker's line (replies only; empty where a person deleted it)
    tail: bytes = b""  # what a person wrote after the end marker

    @property
    def raw(self) -> bytes:
        return self.open + self.body + self.close + self.tail

    @property
    def size(self) -> int:
        return len(self.open) + len(self.body) + len(self.close) + len(self.tail)

    @property
    def words(self) -> tuple[str, ...]:
        """The words of the opening marker after the id: `agent writer 2026-... re=u3f9k`."""
        return _words(self.open)

    @property
    def ending(self) -> tuple[str, ...]:
        """The words of the end marker after the id: `done 2026-... in=5120`."""
        return _words(self.close)

    @property
    def state(self) -> str:
        """The state that the end marker names, or empty."""
        return next(iter(self.ending), "")

    @property
    def finished(self) -> bool:
        """Whether the end marker names a state that does not change any more."""
        return self.state in _FINAL

    def value(self, key: str) -> str:
        """The value of `key=` in the opening marker, or empty."""
        return next((word[len(key) + 1 :] for word in self.words if word.startswith(key + "=")), "")


@dataclass(frozen=True, slots=True)
class Ask:
    """An approval inside a reply: `start` and `end` are offsets in the reply's body, the markers included."""

    id: str
    start: int
    end: int
    outcome: str  # `open` until answered; empty where the end marker is gone


def _words(line: bytes) -> tuple[str, ...]:
    return tuple(line.decode("ascii", "replace").strip("\ufeff\ufffd \t\r\n").split()[3:-1])


def tag_of(content: bytes) -> str:
    """The conversation's tag: of `conversation:` in the front matter, else of the first marker, else empty."""
    conversation = frontmatter.conversation_id(content)
    if conversation:
        return conversation.split("-")[0]
    return first_tag(content)


def line_end(content: bytes) -> bytes:
    """LF or CRLF, whichever the file has more of."""
    both = content.count(b"\r\n") if b"\r" in content else 0  # nearly every file has none, and to count takes longer than to scan
    return b"\r\n" if both and both * 2 > content.count(b"\n") else b"\n"


def scan(content: bytes, tag: str = "") -> tuple[Region, ...]:
    """All regions in order, the first is always the head. `join(scan(b)) == b` for all bytes."""
    tag = tag or tag_of(content)
    return tuple(_walk(content, _hits(content, tag) if tag else [], 0, set()))


def rescan(known: tuple[Region, ...], old: bytes, content: bytes, tag: str) -> tuple[Region, ...]:
    """As `scan`, given the regions of an old file: only what follows the first difference is looked at."""
    same = _same(old, content)
    end = len(old)
    for place in range(len(known) - 1, 0, -1):
        region = known[place]
        end -= len(region.open) + len(region.body) + len(region.close) + len(region.tail)
        if end + len(region.open) <= same and region.open.endswith(b"\n"):
            changed = _walk(content, _hits(content, tag, end), end, {region.id for region in known[:place]})
            return (*known[:place], *changed[1:])
    return scan(content, tag)


def _same(old: bytes, new: bytes) -> int:
    """How many bytes are the same from the start on."""
    place, step = 0, _STEP
    while step:
        piece = old[place : place + step]
        if len(piece) == step and new.startswith(piece, place):
            place += step
        else:
            step //= 2
    return place


def _walk(content: bytes, hits: list[tuple[int, int, str, bytes]], start: int, seen: set[str]) -> list[Region]:
    """The regions from `start` on; the first is what stands there before any marker."""
    regions: list[Region] = []
    part, name, opening, body, close = Part.HEAD, "", b"", b"", b""
    for begin, end, identifier, words in hits:
        if part is Part.REPLY and identifier == "/" + name and not close:
            body, close = content[start:begin], content[begin:end]
            start = end
            continue
        opens = _opens(identifier, words)
        if opens is None or identifier in seen:
            continue
        seen.add(identifier)
        regions.append(_region(part, name, opening, body, close, content[start:begin]))
        part, name, opening, body, close = opens, identifier, content[begin:end], b"", b""
        start = end
    return [*regions, _region(part, name, opening, body, close, content[start:])]


def _region(part: Part, name: str, opening: bytes, body: bytes, close: bytes, rest: bytes) -> Region:
    """`rest` is the body of what has no end marker, else what follows the marker."""
    return Region(part, name, opening, body, close, rest) if close else Region(part, name, opening, rest)


def _opens(identifier: str, words: bytes) -> Part | None:
    if identifier == "next":
        return Part.NEXT
    kind = words.split(None, 1)[0] if words else b""
    return {b"you": Part.MESSAGE, b"agent": Part.REPLY, b"summary": Part.SUMMARY}.get(kind)


def _hits(content: bytes, tag: str, start: int = 0) -> list[tuple[int, int, str, bytes]]:
    """Every marker line of the tag at column 0: where its line begins and ends, its id, its words. `start` begins a line."""
    found = []
    pattern = finder(tag)
    if start <= len(BOM):
        head = content[: content.find(b"\n") + 1 or len(content)]
        offset = len(BOM) if head.startswith(BOM) else 0
        if first := pattern.match(b"\n" + head[offset:]):
            found.append((offset, len(head), first[1].decode(), first[2]))
    for hit in pattern.finditer(content, max(0, start - 1)):
        end = content.find(b"\n", hit.end()) + 1 or len(content)
        found.append((hit.start() + 1, end, hit[1].decode(), hit[2]))
    return found


def join(regions: tuple[Region, ...]) -> bytes:
    return b"".join([piece for region in regions for piece in (region.open, region.body, region.close, region.tail)])


def did(regions: Sequence[Region]) -> int:
    """How often the draft had been changed from elsewhere: a command taken out, lines brought in."""
    value = next((region.value("did") for region in regions if region.part is Part.NEXT), "")
    return int(value) if value.isdecimal() and value.isascii() and len(value) < 10 else 0


def draft(regions: tuple[Region, ...], *headings: str) -> bytes:
    """The text that the next send would take: what stands after the last turn, and the draft area, without its heading.

    A heading is only what is among `headings`: `## Alice`.
    """
    last = [region for region in regions if region.part is not Part.NEXT][-1]
    before = last.body[frontmatter.end(last.body) :] if last.part is Part.HEAD else last.tail
    before = before if before.strip() else b""
    areas = [region.body for region in regions if region.part is Part.NEXT]
    area = areas[0] if areas else before
    found = _HEADING.match(area)
    if found and found[1].decode("utf-8", "replace") in headings:
        area = area[found.end() :]
    return before + area if areas else area


def asks(region: Region, tag: str) -> tuple[Ask, ...]:
    """The approvals inside a reply, in order; one whose end marker is gone ends with its opening line."""
    found: list[Ask] = []
    waiting: tuple[str, int, int] | None = None
    for begin, end, identifier, words in _hits(region.body, tag):
        if waiting and identifier == "/" + waiting[0]:
            outcome = next(iter(words.split()), b"").decode()
            found.append(Ask(waiting[0], waiting[1], end, outcome))
            waiting = None
        elif words.split()[:1] == [b"ask"]:
            if waiting:
                found.append(Ask(*waiting, ""))
            waiting = (identifier, begin, end)
    if waiting:
        found.append(Ask(*waiting, ""))
    return tuple(found)
