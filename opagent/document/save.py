"""A person's save as the merge sees it: its regions with markers repaired, and what its editor had loaded; decides no text.

API: `read`, `Save`. (Design: "The merge".)
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from opagent.document import frontmatter
from opagent.document.draft import is_text, less, without_notes
from opagent.document.edit import Document
from opagent.document.lines import digest, has_text, line_digest, lines
from opagent.document.memory import Memory
from opagent.document.parse import Part, Region, did, line_end, rescan
from opagent.document.records import Fact
from opagent.document.repair import damaged, repaired, stripped

_STAMP = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


@dataclass(slots=True)
class Save:
    document: Document  # as it was saved, markers repaired, without turns that have moved to a part
    order: list[str]  # ids of the turns and summaries that memory has, in its order
    loaded: set[str] = field(default_factory=set)  # those that the editor of this save had to their end
    named: str | None = None  # what the marker of its draft area names; None without the marker
    draft: bytes = b""
    behind: str = ""  # the region whose tail is draft
    noteless: bytes = b""  # the draft without what a person wrote into the daemon's note
    missing: list[str] = field(default_factory=list)  # those that are not in it
    parted: list[str] = field(default_factory=list)  # turns in a part that its editor never had
    did: int = 0  # how many obeyed commands its editor knows of
    ours: bool = False  # the daemon wrote these very bytes once; perhaps nobody has loaded them
    revert: bool = False  # git brought an older version, and nothing runs
    damaged: bool = False  # turns are missing because their markers were stripped
    moved: list[bytes] = field(default_factory=list)  # lines that a person wrote behind turns of a part
    held: set[bytes] = field(default_factory=set)  # those and what was taken from there before: this editor has not deleted it
    cut: bool = False  # whether it held such turns
    dropped: bool = False  # whether it changed the text of such a turn
    seen: list[str] = field(default_factory=list)  # turns that it holds as they are, to their end
    shown: set[bytes] = field(default_factory=set)  # its lines, outside replies where memory won; if anybody waits for some
    shaken: bool = False  # whether text that holds markers was put into it
    facts: list[Fact] = field(default_factory=list)

    @property
    def restored(self) -> list[str]:
        """What comes back: its editor never had it."""
        return [] if self.revert else [name for name in self.missing if name not in self.loaded]


def read(memory: Memory, old: bytes, b: bytes, git: bool, switched: int = 0) -> Save:
    """The save `b`; `old` is memory's content. `git`: a git operation brought it; `switched`: see `merge`."""
    before = memory.document
    found = rescan(before.regions, old, b, memory.tag)
    back = memory.again({region.id for region in found})
    ours = memory.document
    order = [region.id for region in ours.regions if region.id in memory.kept]
    mended, facts = repaired(memory, _as_known(ours, found), b)
    document = replace(ours, regions=tuple(mended), eol=line_end(b))
    save = Save(document, order, facts=[*facts, *(Fact("restored", region.id) for region in back)])
    save.named = next((region.value("after") for region in found if region.part is Part.NEXT), None)
    after = memory.records.standing(save.named)
    begun = _begun(memory, [save.named or "", *(region.id for region in mended)])
    save.loaded = _loaded(memory, save, mended, after, begun)
    save.shaken = any(region.part is not one.part for region, one in zip(found, mended, strict=False))
    save.ours = memory.records.is_version(b)
    present = {region.id for region in mended}
    save.missing = [name for name in order if name not in present]
    if git and not any(kept.running for kept in memory.kept.values()):
        save.revert = save.ours or _older(ours, save.missing, switched)
    if _is_damaged(memory, save, b, after, known=not present.isdisjoint(order)):
        save.damaged = True
        for region in back:
            memory.records.lost(region.id, region, memory.kept[region.id].before)
        memory.document = before
    else:
        save.did = did(found)
        save.behind = [region.id for region in mended if region.part is not Part.NEXT][-1]
        save.draft, save.noteless = memory.draft_of(document), without_notes(document.draft(memory.person))
        _leave_parts(memory, save)
    return save


def _older(ours: Document, missing: Collection[str], switched: int) -> bool:
    """Whether all that is missing was there when git put another version into the tree: then that is what took it away."""
    stamps = [_STAMP.search(region.open) for region in ours.regions if region.id in missing]
    moments = [datetime.fromisoformat(found[0].decode()).timestamp() if found else float("inf") for found in stamps]
    return bool(moments) and max(moments) <= switched


def _is_damaged(memory: Memory, save: Save, b: bytes, after: str | None, known: bool) -> bool:
    """Whether turns are missing for want of their markers; an intact `next after=` says that they were deleted on purpose."""
    gone = [name for name in save.missing if name in save.loaded]
    if gone:
        return not save.revert and after not in save.order and damaged(memory, gone, b, known)
    return after is None and not known and stripped(memory, save.missing, b)


def _as_known(ours: Document, regions: Sequence[Region]) -> list[Region]:
    """The regions, those that are unchanged as ours. A known region is what it was, whatever the words of its marker say now."""
    mine = {region.id: region for region in ours.regions}
    found = []
    for region in regions:
        known = mine.get(region.id, region)
        if known == region:
            region = known
        elif known.part is not region.part:
            region = Region(known.part, region.id, region.open, region.body + region.close + region.tail)
        found.append(region)
    return found


def _loaded(memory: Memory, save: Save, regions: Sequence[Region], after: str | None, begun: set[str]) -> set[str]:
    """The turns that the editor of this save had to their end, never running ones."""
    order, began = save.order, memory.records.began
    if after == "":
        return set()
    if after in order:  # what began before it had ended by then, wherever it stands; of turns from elsewhere the place tells
        before = {*order[: order.index(after) + 1]} & begun
        last = began.get(save.named or "")
        had: Collection[str] = [
            name for name in order if (began[name] <= last if last is not None and name in began else name in before)
        ]
    elif (last := _last_held(memory, order, regions)) is None:
        return set()
    else:  # what any save had, and what stands before the last message or finished reply that this one holds
        end = _unfinished(memory, order, regions)
        proven = {name for place, name in enumerate(order) if place <= last and name in begun}
        had = [name for place, name in enumerate(order) if place < end and (memory.kept[name].seen or name in proven)]
        draft = set(lines(save.document.draft(memory.person)))
        had = [name for name in had if not _holds(draft, memory.kept[name].raw)]
    old = not memory.records.parted.keys().isdisjoint(region.id for region in regions)
    summaries = {region.id for region in memory.document.regions if region.part is Part.SUMMARY} if old else set()
    open_ = {region.id for region in regions if region.close and not region.finished}
    return {name for name in had if not memory.kept[name].running} - summaries - open_


def _holds(draft: Collection[bytes], raw: bytes) -> bool:
    """Whether most of what became a message is draft there: it was loaded, or brought back, from before that."""
    said = [line for line in lines(raw) if is_text(line)]
    return bool(said) and 2 * sum(line in draft for line in said) >= len(said)


def _begun(memory: Memory, shown: Collection[str]) -> set[str]:
    """The turns that had begun when the last one of `shown` had, whatever the order in which they stand now."""
    began = memory.records.began
    last = max((began.get(name, -1) for name in shown), default=-1)
    return {name for name in memory.kept if began.get(name, -1) <= last}


def _unfinished(memory: Memory, order: Sequence[str], regions: Sequence[Region]) -> int:
    """The place of the first reply that does not prove its end: the editor loaded it while it ran, and nothing came after it."""
    theirs = {region.id: region for region in regions if region.part is Part.REPLY}
    ours = {region.id: region for region in memory.document.regions}
    for place, name in enumerate(order):
        region, mine = theirs.get(name), ours.get(name)
        if region and mine and not region.finished and (region.close or digest(region.body) != digest(mine.body)):
            return place
    return len(order)


def _last_held(memory: Memory, order: Sequence[str], regions: Sequence[Region]) -> int | None:
    """The place of the last turn that a save proves to have; a message proves what is before it: it was stamped after that."""
    theirs = {region.id: region for region in regions}
    ours = {region.id: region for region in memory.document.regions}
    for place in range(len(order) - 1, -1, -1):
        region, mine = theirs.get(order[place]), ours[order[place]]
        if region is None:
            continue
        if region.part is not Part.REPLY:
            return place - 1
        if mine.body == region.body or digest(mine.body) == digest(region.body):
            return place
    return None


def _leave_parts(memory: Memory, save: Save) -> None:
    """An editor from before a part was split off still has its turns: they stand there, only what is new in them is kept."""
    parted = memory.records.parted
    regions = save.document.regions
    here = {region.id for region in regions}
    began = memory.records.began
    loaded = began.get(save.named or "")
    if save.named is None:  # the marker was taken out: the newest turn that it holds tells
        loaded = max((began[name] for name in here if name in began), default=None)
    if loaded is not None:  # wherever a person has put them since
        save.parted = [name for name in parted if began.get(name, -1) > loaded and name not in here]
    elif save.named not in save.order and here.isdisjoint(save.order):
        last = max((place for place, name in enumerate(parted) if name == save.named or name in here), default=-1)
        save.parted = list(parted)[last + 1 :]
    if here.isdisjoint(parted):
        return
    save.cut = True
    left = _elsewhere(memory, save)
    save.document = replace(save.document, regions=tuple(_less(region, left) for region in regions if region.id not in parted))
    for region in regions:
        kept = parted.get(region.id)
        if kept and digest(region.body) not in kept.states:
            save.dropped = True
            save.facts.append(Fact("not_kept", region.id))
        if not kept:
            continue
        there, new = _told_apart(region.tail, left, kept.lines)
        if region.id == save.behind:  # what stands behind it is draft, but for what is in the part
            save.draft = less(save.draft, there)
        else:
            before = memory.moved(kept)
            save.moved += [line for line in new if not before[line_digest(line)]]
            save.held |= {line.strip() for line in new}
            kept.moved |= Counter(map(line_digest, new))


def _elsewhere(memory: Memory, save: Save) -> Counter[bytes]:
    """Digests of lines in a part that this save has not at their place: its editor moved their turns, or took them out."""
    regions = save.document.regions
    summed = {region.value("covers").rpartition("..")[2] for region in regions if region.part is Part.SUMMARY}
    here = {region.id: region.tail if region.part is Part.REPLY else region.body + region.tail for region in regions}
    left: Counter[bytes] = Counter()
    for name, kept in memory.records.parted.items():
        if name not in save.parted:
            left.update(kept.lines - {line_digest(line) for line in lines(here.get(name, b""))})
        if name in summed:  # those before it are no turns for this editor
            left.clear()
    return left


def _told_apart(text: bytes, left: Counter[bytes], own: Collection[bytes] = ()) -> tuple[list[bytes], list[bytes]]:
    """Lines with text that are in a part, in their `own` turn or with another, of which each takes one; and the others."""
    there, new = [], []
    for line in text.split(b"\n"):
        key = line_digest(line)
        if not has_text(line.strip()):
            continue
        if key not in own:
            if left[key] <= 0:
                new.append(line)
                continue
            left[key] -= 1
        there.append(line)
    return there, new


def _less(region: Region, left: Counter[bytes]) -> Region:
    """What stands above all turns, without what stands in a part."""
    if region.part not in (Part.HEAD, Part.SUMMARY):
        return region
    end = frontmatter.end(region.body) if region.part is Part.HEAD else 0
    body, tail = (less(text, _told_apart(text, left)[0]) for text in (region.body[end:], region.tail))
    return replace(region, body=region.body[:end] + body, tail=tail)
