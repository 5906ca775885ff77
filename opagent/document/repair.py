"""Markers that a person deleted are put back where the text around them is still ours; damage that cannot be is told apart.

API: `repaired`, `damaged`, `stripped`.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Mapping, Sequence
from dataclasses import replace

from opagent.document.lines import aligned, digest, lines
from opagent.document.memory import Memory
from opagent.document.parse import Part, Region
from opagent.document.records import Fact

_LONG = 12  # characters of a line that is nobody's by chance


def repaired(memory: Memory, regions: Sequence[Region], content: bytes) -> tuple[list[Region], list[Fact]]:
    """The regions of a save, with the end and start markers of known replies where they belong."""
    ours = {region.id: region for region in memory.document.regions if region.part is Part.REPLY and region.id in memory.kept}
    facts: list[Fact] = []
    found: list[Region] = []
    for region in regions:
        mine = ours.get(region.id)
        if mine and mine.close and not region.close and not _is_known(memory, mine, region.body):
            region = _ended(mine, region)
            facts.append(Fact("repaired", region.id))
        found.append(region)
    present = {region.id for region in found}
    for name, mine in ours.items():
        end = f"<!-- op:{memory.tag} /{name} ".encode()
        if name not in present and end in content and (started := _started(mine, end, found)):
            found = started
            facts.append(Fact("repaired", name))
    return _with_tail(memory, found), facts


def _with_tail(memory: Memory, regions: list[Region]) -> list[Region]:
    """What stands behind a summary is draft where no turn and no marker of the draft area follows."""
    last = regions[-1]
    mine = memory.document.region(last.id)
    if last.part is not Part.SUMMARY or mine is None:
        return regions
    pieces = last.body.split(b"\n")
    end = len(lines(mine.body.rstrip()))
    if lines(b"\n".join(pieces[:end])) != lines(mine.body.rstrip()):
        return regions
    body = b"".join(piece + b"\n" for piece in pieces[:end])
    return [*regions[:-1], replace(last, body=body, tail=b"\n".join(pieces[end:]))]


def _is_known(memory: Memory, mine: Region, body: bytes) -> bool:
    return body == mine.body or digest(body) in memory.kept[mine.id].states or digest(body) == digest(mine.body)


def _ended(mine: Region, region: Region) -> Region:
    """A reply without its end marker ends after the last line with text that is ours; what follows is the person's."""
    stripped = lines(region.body)
    end = 0
    for kind, _, _, first, after in aligned(lines(mine.body), stripped):
        if kind == "equal" and any(stripped[first:after]):
            end = after
    pieces = region.body.split(b"\n")
    body = b"".join(piece + b"\n" for piece in pieces[:end])
    return replace(region, body=mine.body if digest(body) == digest(mine.body) else body, tail=b"\n".join(pieces[end:]))


def _started(mine: Region, end: bytes, regions: Sequence[Region]) -> list[Region] | None:
    """The regions with a reply whose start marker is gone: our text and its end marker stand in what comes before."""
    text = mine.body.strip()
    for number, region in enumerate(regions):
        loose = region.tail if region.close else region.body
        start = loose.find(text)
        close = loose.find(b"\n" + end, start) + 1 if start >= 0 else 0
        if not close:
            continue
        after = loose.find(b"\n", close) + 1 or len(loose)
        reply = replace(mine, body=loose[start:close], close=loose[close:after], tail=loose[after:])
        before = replace(region, tail=loose[:start]) if region.close else replace(region, body=loose[:start])
        return [*regions[:number], before, reply, *regions[number + 1 :]]
    return None


def damaged(memory: Memory, gone: Collection[str], content: bytes, known: bool) -> bool:
    """Whether turns are missing because markers were stripped, not because a person deleted them: their text is still there.

    `known`: whether the save holds any turn at all.
    """
    ours: Mapping[str, Region] = {region.id: region for region in memory.document.regions}
    bodies = [ours[name].body for name in gone]
    if _stand(bodies, set(lines(content))):
        return True
    return not known and content.count(f"op:{memory.tag} ".encode()) >= 2 * len(bodies)


def stripped(memory: Memory, missing: Collection[str], content: bytes) -> bool:
    """Whether a save without any marker is our file nevertheless: it has the replies, with the headings that only we write."""
    bodies = [region.body for region in memory.document.regions if region.part is Part.REPLY and region.id in missing]
    headings = [body.lstrip().split(b"\n", 1)[0].strip() for body in bodies]
    present = set(lines(content.replace(b"\r", b"\n")))  # an editor may have made all line ends lone CR
    return bool(bodies) and 2 * sum(line in present for line in headings) > len(bodies) and _stand(bodies, present)


def _stand(bodies: Sequence[bytes], present: Container[bytes]) -> bool:
    """Whether more than half of the long lines are there."""
    long = [line for body in bodies for line in lines(body) if len(line) > _LONG]
    return 2 * sum(line in present for line in long) > len(long)
