"""A person's save merged with what the daemon remembers: every line goes to who owns it; writes nothing, sends nothing.

API: `merge`, `Merged`. `save` reads it, `typed` judges the replies, `drafts` the draft. (Design: "The merge".)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from opagent.document import frontmatter
from opagent.document.draft import NOTE, is_text, less, noted
from opagent.document.drafts import Drafted, also, amended, drafted
from opagent.document.edit import Document
from opagent.document.lines import digest, lines
from opagent.document.markers import MARKER
from opagent.document.memory import Memory
from opagent.document.parse import Part, Region, scan
from opagent.document.records import Fact, Kept
from opagent.document.save import Save, read
from opagent.document.ticks import Tick
from opagent.document.typed import Replies, judged


@dataclass(frozen=True, slots=True)
class Merged:
    """`content` is what should stand in the file: the save itself where nothing is to be written."""

    content: bytes
    facts: tuple[Fact, ...] = ()
    aside: bool = False  # something of the save is not in `content`: the save goes to saves/
    stop: bool = False  # torn or damaged: write nothing, send nothing
    gestures: bool = True  # whether a gesture of this save may count
    ticks: tuple[Tick, ...] = ()


def merge(memory: Memory, b: bytes, displaced: bytes | None = None, git: bool = False, switched: int = 0) -> Merged:
    """The file holds `b`, which the daemon did not write. Changes `memory` to the merged state, unless `stop`.

    `displaced`: what the daemon had just written over it. `git`: a git operation brought it. `switched`: when git put another
    version of the tree there (seconds of the epoch, 0 for never); somebody may have written into that since.
    """
    if (current := memory.content()) == b or memory.records.wrote(b):
        return Merged(current)
    if not b or b.isspace() or b"\0" in b:
        return Merged(b, (Fact("torn"),), stop=True)
    save = read(memory, current, b, git, switched)
    if save.damaged:
        return Merged(b, (Fact("damaged"),), aside=True, stop=True)
    replies = Replies() if save.revert else judged(memory, save.document.regions, save.loaded)
    draft = drafted(memory, save, replies, displaced)
    facts = [*save.facts, *replies.facts]
    regions = _standing(memory, save, replies, facts)
    if not save.ours:
        memory.records.saw([*save.loaded, *save.seen])
    memory.document = _assembled(memory, save, regions, draft, facts)
    memory.know(imported=True)
    _reword(memory, draft.edited, facts)
    return Merged(
        memory.content(), tuple(facts), save.dropped or replies.dropped, gestures=draft.gestures, ticks=tuple(replies.ticks)
    )


def _standing(memory: Memory, save: Save, replies: Replies, facts: list[Fact]) -> list[Region]:
    """The regions of the save as they stand after the merge, without the draft area; table A of the design."""
    ours = {region.id: region for region in memory.document.regions}
    found = []
    for region in save.document.regions:
        mine, kept = ours.get(region.id), memory.kept.get(region.id)
        if region.part is Part.HEAD and mine and save.order and region.id != save.behind:
            found.append(_head(memory, save, replies, mine.body, region))
        elif region.part is Part.HEAD or (kept and region is mine):
            found.append(region)
            if kept and not kept.running:
                save.seen.append(region.id)
        elif mine and kept:
            body = _reverted(kept, mine, region, facts) if save.revert else _body(memory, save, mine, region, replies, facts)
            tail = region.tail if region.id == save.behind else amended(memory, save, replies, mine.tail, region.tail)
            found.append(_marked(replace(region, body=body, tail=tail), mine, save.document.eol))
            save.shaken |= body != region.body and MARKER in body
        elif region.part is not Part.NEXT:
            again = memory.records.found(region.id)
            again.edited = region.part is Part.REPLY and digest(region.body) not in again.states
            facts.append(Fact("imported", region.id, region.open + region.body + region.close, after=found[-1].id))
            found.append(region)
    return found


def _head(memory: Memory, save: Save, replies: Replies, ours: bytes, region: Region) -> Region:
    """What stands above all turns, too, may be a note that an editor cannot have deleted: it stood behind a turn that went."""
    end = frontmatter.end(region.body)
    text = amended(memory, save, replies, ours[frontmatter.end(ours) :], region.body[end:])
    return replace(region, body=region.body[:end] + text)


def _body(memory: Memory, save: Save, mine: Region, region: Region, replies: Replies, facts: list[Fact]) -> bytes:
    kept, body = memory.kept[region.id], region.body
    if region.id in replies.behind:
        return mine.body
    if region.part is not Part.REPLY and region.body != mine.body and digest(region.body) != digest(mine.body):
        if digest(region.body) in kept.states:
            return mine.body
        body = amended(memory, save, replies, mine.body, body)
        facts.append(Fact("edited", region.id, body))
    if not kept.running:
        save.seen.append(region.id)
    if region.id in replies.edited:
        kept.edited = True
        body = amended(memory, save, replies, mine.body, replies.edited[region.id])
        facts.append(Fact("reply_edited", region.id, body))
    return body


def _reverted(kept: Kept, mine: Region, region: Region, facts: list[Fact]) -> bytes:
    """Git brought an older version: its bodies stand, but for a reply that was not finished then."""
    if digest(region.body) == digest(mine.body) or (region.part is Part.REPLY and not region.finished):
        return mine.body
    kept.edited = region.part is Part.REPLY
    facts.append(Fact("reverted", region.id, region.body))
    return region.body


def _marked(region: Region, mine: Region, eol: bytes) -> Region:
    """With our markers; those that differ in blanks or line end only stay."""
    opening = region.open if region.open.rstrip() == mine.open.rstrip() else _fitted(mine.open, eol)
    close = region.close if region.close.rstrip() == mine.close.rstrip() or not mine.close else _fitted(mine.close, eol)
    body = region.body if not close or region.body.endswith(b"\n") or not region.body else region.body + eol
    return replace(region, open=opening, body=body, close=close, tail=region.tail or (eol if close else b""))


def _fitted(text: bytes, eol: bytes) -> bytes:
    return text.replace(b"\r\n", b"\n").replace(b"\n", eol)


def _assembled(memory: Memory, save: Save, regions: list[Region], draft: Drafted, facts: list[Fact]) -> Document:
    area = save.document.region("next")
    last = regions[-1]
    regions = _put_back(memory, save, regions, facts)
    document = save.document
    if area is None or draft.anew or draft.margin or regions[-1] is not last or NOTE in last.tail:
        text, (bare, behind) = draft.text, document.without_tail(last)
        if last.id == save.behind and regions[-1] is last:
            regions[-1], text = bare, also(text, draft.margin, document.eol)
        elif last.id == save.behind:
            margin = b"".join(line.rstrip(b"\r") + document.eol for line in draft.margin)
            regions[regions.index(last)] = replace(bare, tail=bare.tail + margin)
        elif regions[-1] is last and behind.strip():  # what was draft stood behind a turn that is in a part
            text = behind + text
        return replace(document, regions=tuple(_closed(regions, document.eol))).redraft(memory.person, text, memory.notice)
    area = replace(area, body=noted(area.body, memory.notice, document.eol))
    document = replace(document, regions=(*_closed(regions, document.eol), area)).pointed()
    if save.document.regions[-1].part is Part.NEXT and not save.missing and not save.shaken:
        return document
    return replace(document, regions=scan(document.content(), memory.tag))  # a copy of a marker may be the first one now


def _closed(regions: list[Region], eol: bytes) -> list[Region]:
    """Every region ends its last line: a marker follows."""
    for place, region in enumerate(regions):
        last = region.tail or region.close or region.body or region.open
        if last and not last.endswith(b"\n"):
            regions[place] = replace(region, tail=region.tail + eol) if region.close else replace(region, body=region.body + eol)
    return regions


def _put_back(memory: Memory, save: Save, regions: list[Region], facts: list[Fact]) -> list[Region]:
    """With the missing turns that the editor never had, each behind what stood before it; the others are deleted."""
    ours = {region.id: region for region in memory.document.regions}
    missing, restored = set(save.missing), set(save.restored)
    notes = _notes(save, regions) - _notes(save, [each for name, each in ours.items() if name not in missing])
    behind: dict[str, list[Region]] = {}
    before = ""
    # a turn that the editor never had comes after all that it had, also if its last one is no longer known
    anchor = next((region.id for region in regions if region.id == save.named and region.id not in save.order), "")
    for name in save.order:
        if name not in missing:
            anchor = name
        elif name in restored:
            behind.setdefault(anchor, []).append(_again(memory.document, ours[name], save, notes))
            facts.append(Fact("restored", name))
        else:
            facts.append(Fact("reverted" if save.revert else "deleted", name))
            memory.records.lost(name, ours[name], before)
        before = name
    return [each for region in regions for each in (region, *behind.get(region.id, ()))]


def _notes(save: Save, regions: Sequence[Region]) -> Counter[bytes]:
    """How often each line stands outside of turns and of the draft."""
    texts = (region.body if region.part is Part.HEAD else region.tail for region in regions if region.id != save.behind)
    return Counter(line for text in texts for line in lines(text) if line)


def _again(ours: Document, region: Region, save: Save, notes: Counter[bytes]) -> Region:
    """A region of ours in the line ends of the save. What stood behind the last one is in the draft.

    `notes`: lines of the save that stood elsewhere before. Who cuts out a turn leaves what stood behind it behind the one before.
    """
    if region.id == save.order[-1] and region.close:
        region = replace(region, tail=ours.eol)
    elif not notes.keys().isdisjoint(lines(region.tail)):
        region = replace(region, tail=less(region.tail, [line for line in lines(region.tail) if notes[line]]) or ours.eol)
    if save.document.eol == ours.eol:
        return region
    texts = (_fitted(text, save.document.eol) for text in (region.open, region.body, region.close, region.tail))
    return Region(region.part, region.id, *texts)


def _reword(memory: Memory, edited: Mapping[str, bytes], facts: list[Fact]) -> None:
    """Messages whose words a stale draft changed."""
    for name, text in edited.items():
        before = memory.document.region(name)
        document = memory.document.reworded(name, text.decode("utf-8", "surrogateescape"))
        after = document.region(name)
        if before and after and digest(before.body) != digest(after.body):
            memory.document = document
            facts.append(Fact("edited", name, after.body))
        kept = memory.kept[name]
        used = [line for line in kept.raw.split(b"\n") if line.strip() and not is_text(line)]
        kept.reworded = b"\n".join((text, *used))  # the same editor may save it again
