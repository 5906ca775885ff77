"""What a save did to the replies: whose body stands, what a person typed into text they had not seen whole; changes no region.

API: `judged`, `Replies`.

A reply belongs to the daemon while it runs and to the person once they have it to its end. (Design: "The merge", table A.)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from opagent.document.lines import digest, has_text, line_digest, lines, shape, words
from opagent.document.memory import Memory
from opagent.document.parse import Part, Region, asks
from opagent.document.records import Fact, Kept
from opagent.document.ticks import Tick, untick


@dataclass(slots=True)
class Replies:
    behind: set[str] = field(default_factory=set)  # ids of replies in which memory wins
    edited: dict[str, bytes] = field(default_factory=dict)  # bodies that are the person's
    moved: list[bytes] = field(default_factory=list)  # lines typed into the former, for the head of the draft
    held: set[bytes] = field(default_factory=set)  # all such lines that the save shows, moved before or now
    facts: list[Fact] = field(default_factory=list)
    ticks: list[Tick] = field(default_factory=list)
    dropped: bool = False  # whether something of the save is nowhere in the result


def judged(memory: Memory, regions: Iterable[Region], loaded: Collection[str]) -> Replies:
    """Every known reply of a save. `loaded`: turns that its editor had to their end. Remembers what was moved."""
    found = Replies()
    ours = {region.id: region for region in memory.document.regions}
    for region in regions:
        kept, mine = memory.kept.get(region.id), ours.get(region.id)
        if region.part is Part.REPLY and kept and mine and region.body != mine.body:
            _judge(found, memory, kept, mine, region, region.id in loaded)
    return found


def _judge(found: Replies, memory: Memory, kept: Kept, mine: Region, region: Region, loaded: bool) -> None:
    body, ticks = untick(region.body, memory.tag, region.id)
    if ticks and not kept.imported:
        known = {ask.id for ask in asks(mine, memory.tag)}
        found.ticks += [tick for tick in ticks if tick.approval in known]
    state = digest(body)
    if state == digest(mine.body):
        if kept.running or ticks:
            found.behind.add(region.id)
    elif state in kept.states:
        found.behind.add(region.id)
    elif not kept.running and (loaded or region.finished or (not region.close and _last(mine.body) in lines(body))):
        found.edited[region.id] = body
    else:
        found.behind.add(region.id)
        _take(found, memory, kept, mine, body)


def _last(body: bytes) -> bytes | None:
    """The last line with text."""
    return next((line for line in reversed(lines(body)) if has_text(line)), None)


def _take(found: Replies, memory: Memory, kept: Kept, mine: Region, body: bytes) -> None:
    """What a person typed into a reply that memory has the whole of."""
    stripped, known = lines(body), set(lines(mine.body))
    new = Counter(line for line in stripped if line not in known and has_text(line) and line_digest(line) not in kept.lines)
    found.held |= set(new)
    rest = shape([line for line in stripped if line not in new])
    said = words(mine.body)
    if (rest not in kept.shapes and rest != shape(lines(mine.body))) or any(words(line) in said for line in new):
        found.dropped = True
        found.facts.append(Fact("not_kept", mine.id))
        return
    digests = Counter({line_digest(line): count for line, count in new.items()})
    fresh = digests - memory.moved(kept)
    kept.moved |= digests
    moved = []
    for line in body.split(b"\n"):
        key = line_digest(line)
        if fresh[key] > 0:
            fresh[key] -= 1
            moved.append(line)
    if moved:
        found.moved += moved
        found.facts.append(Fact("moved_to_draft", mine.id))
