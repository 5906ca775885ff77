"""The draft after a person's save: theirs, without what was sent, with what they cannot have seen; sends nothing.

API: `drafted`, `Drafted`, `amended`, `also`. (Design: "The merge", draft, 1 to 3.)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from opagent.document.draft import Gesture, Said, asks, gestures, is_text, less, read, with_gesture
from opagent.document.lines import line_digest, lines
from opagent.document.memory import Memory
from opagent.document.parse import Part
from opagent.document.save import Save
from opagent.document.stale import Split, split
from opagent.document.typed import Replies


@dataclass(slots=True)
class Drafted:
    """`anew`: the draft area has to be written again."""

    text: bytes
    anew: bool = False
    gestures: bool = True  # whether a gesture of the save may count
    edited: dict[str, bytes] = field(default_factory=dict)  # messages that got other words
    margin: list[bytes] = field(default_factory=list)  # lines that stay behind the turn that is the last one for its editor


def drafted(memory: Memory, save: Save, replies: Replies, displaced: bytes | None) -> Drafted:
    """`displaced`: the version that the save came over, if that was a later one than its editor had."""
    theirs, placed = _without_obeyed(memory, save), _placed(memory, save, replies) | _within(memory, save)
    base = b"\n".join(line for line in memory.draft().split(b"\n") if line.strip() not in placed)
    moved = [*save.moved, *replies.moved]
    raws = _raws(memory, save, theirs, replies)
    _look(memory, save, replies)
    unshown, left, margin = (_unshown(memory, save, ours, replies) for ours in (base, *_left(memory, save)))
    parted = _parted(memory, save, raws, base, theirs, replies)
    for name in [name for name in parted.edited if name in memory.records.parted]:  # a part is never written again
        new = less(parted.edited.pop(name), raws[name].split(b"\n")).split(b"\n")
        moved += [line for line in new if line.strip() and line_digest(line) not in memory.records.parted[name].lines]
    elsewhere = bool(moved)
    moved = [line for line in _not_sent(moved, raws, theirs) if not asks(line)]  # what was typed elsewhere is no gesture here
    _watch(memory, save, [theirs, *_outside(memory, save, replies)], moved, displaced)
    said, there = read(parted.draft), {line.strip() for line in moved}
    kept = [line for line in (*left, *([] if raws else unshown)) if line.strip() not in there and not asks(line)]
    text = parted.draft
    if elsewhere or kept:
        eol, head = save.document.eol, [*moved, b""] if moved else []
        text = eol.join(part.removesuffix(eol[:-1]) for part in (*head, said.text, *kept))
        text = with_gesture(text, Said(Gesture.NONE, b"") if elsewhere else said, eol)
    asked, stays = read(save.draft).gesture, read(text).gesture
    counts = asked is stays is Gesture.NONE or (not elsewhere and stays is not Gesture.NONE and (stays.sends or asked.commands))
    anew = bool(elsewhere or kept or raws or save.cut or theirs != save.noteless)
    return Drafted(text, anew, counts, parted.edited, margin)


def _placed(memory: Memory, save: Save, replies: Replies) -> set[bytes]:
    """Lines of the draft that no save has shown yet, and that this one has outside of it: they were taken from there."""
    if not memory.records.unseen:
        return set()
    new = {line for text in _outside(memory, save, replies) for line in lines(text)}
    standing = (line for region in memory.document.regions if region.part is not Part.NEXT for line in lines(region.raw))
    return new.intersection(line.strip() for line in memory.records.unseen.values()).difference(standing)


def _within(memory: Memory, save: Save) -> set[bytes]:
    """Lines behind the turn that is our last one, where others follow it in this save or it is deleted: they are no draft."""
    last = [region for region in memory.document.regions if region.part is not Part.NEXT][-1]
    elsewhere = last.id != save.behind and last.id not in save.restored
    return {line for line in lines(last.tail) if line} if elsewhere else set()


def _raws(memory: Memory, save: Save, theirs: bytes, replies: Replies) -> dict[str, bytes]:
    """The drafts that became messages after the editor loaded the file: as a stale editor made them, or as they were first."""
    shown = set(lines(theirs)) | replies.held
    found = {}
    for name in (*save.parted, *save.restored):
        kept = memory.records.known(name)
        if kept.raw:
            forms = (kept.reworded, kept.raw) if kept.reworded else (kept.raw,)
            found[name] = max(forms, key=lambda raw: sum(line in shown for line in lines(raw) if is_text(line)))
    return found


def _whole(memory: Memory, name: str, form: bytes, theirs: bytes) -> bytes:
    """A message that another stale editor made shorter, with what this one shows of it; each line behind the one before it."""
    kept = memory.records.known(name)
    if not kept.reworded:
        return form
    sent = {line for line in (*lines(kept.raw), *lines(kept.reworded)) if is_text(line)}
    if sent.difference(lines(form)).isdisjoint(lines(theirs)):  # nothing is lacking: the usual case, and long drafts are long
        return form
    found, place = form.split(b"\n"), 0
    for line in theirs.split(b"\n"):
        known = [each.strip() for each in found]
        if line.strip() in known:
            place = max(place, known.index(line.strip()) + 1)
        elif line.strip() in sent:
            found.insert(place, line)
            place += 1
    return b"\n".join(found)


def _not_sent(moved: Sequence[bytes], raws: Mapping[str, bytes], theirs: bytes) -> list[bytes]:
    """Without lines that were sent since, from where they had been moved to: those that the draft of this save lacks."""
    gone = Counter(line for raw in raws.values() for line in lines(raw)) - Counter(lines(theirs))
    kept = []
    for line in moved:
        if gone[line.strip()] > 0:
            gone[line.strip()] -= 1
        else:
            kept.append(line)
    return kept


def _without_obeyed(memory: Memory, save: Save) -> bytes:
    """Without commands that were obeyed after the editor of this save loaded the file."""
    if save.did >= memory.document.did:
        return save.draft
    return less(save.draft, [line.encode() for number, line in memory.records.obeyed if number > save.did])


def _look(memory: Memory, save: Save, replies: Replies) -> None:
    """What this save shows, outside replies where memory won."""
    if memory.records.unseen or replies.held:
        texts = [region.tail if region.id in replies.behind else region.body + region.tail for region in save.document.regions]
        save.shown = {line for text in (*texts, save.draft) for line in lines(text)}
        if not save.ours:
            shown = [line for line in memory.records.unseen.values() if line.strip() in save.shown]
            memory.records.shown([*shown, *memory.records.loaded(save.did)])


def _left(memory: Memory, save: Save) -> tuple[bytes, bytes]:
    """What stands in turns that a save deletes, but for what was sent there; and behind the one that is the last for its editor.

    That stays where it is, if turns follow that this editor never had.
    """
    gone = set(save.missing).difference(save.restored)
    regions = [region for region in memory.document.regions if region.part is not Part.NEXT]
    deleted = (less(region.raw, memory.kept[region.id].raw.split(b"\n")) for region in regions if region.id in gone)
    behind = b"".join(region.tail for region in regions[:-1] if region.id == save.behind)
    return (b"\n".join(deleted), behind) if save.restored else (b"\n".join((*deleted, behind)), b"")


def _unshown(memory: Memory, save: Save, ours: bytes, replies: Replies) -> list[bytes]:
    """Lines of ours that this save cannot have deleted: no save has shown them yet, or it has them inside a reply."""
    unseen, held = memory.records.unseen, replies.held
    if not unseen and not held:
        return []
    waiting = [line for line in ours.split(b"\n") if is_text(line) and (line_digest(line) in unseen or line.strip() in held)]
    shown = {_bulleted(line) for line in save.shown} if waiting else set()
    return [line for line in waiting if _bulleted(line.strip()) not in shown]


def _bulleted(line: bytes) -> bytes:
    """A formatter that read a file while we wrote it may have chosen another bullet: nothing of the line is lost."""
    return b"-" + line[1:] if line[:2] in (b"* ", b"+ ") else line


def also(text: bytes, more: Sequence[bytes], eol: bytes) -> bytes:
    """A draft with more lines at its end."""
    said = read(text)
    return with_gesture(eol.join((said.text, *(line.rstrip(b"\r") for line in more))), said, eol) if more else text


def amended(memory: Memory, save: Save, replies: Replies, ours: bytes, theirs: bytes) -> bytes:
    """A text outside the draft as a person saved it, with those lines of ours at its end that they cannot have deleted."""
    theirs = _without_rescued(memory, save, ours, theirs)
    kept = _unshown(memory, save, ours, replies) if ours != theirs else []
    if not kept:
        return theirs
    text, eol = _without_end(theirs), save.document.eol
    head = [text] if text else []
    return eol.join((*head, *(line.rstrip(b"\r") for line in kept), b"")) + theirs[len(text) :].removeprefix(eol if text else b"")


def _without_rescued(memory: Memory, save: Save, ours: bytes, theirs: bytes) -> bytes:
    """Without lines that had been rescued out of it, and were sent before this editor saw that."""
    if ours == theirs or not memory.records.rescued:
        return theirs
    raws = (memory.records.known(name).raw for name in (*save.parted, *save.restored))
    sent = {line for raw in raws for line in lines(raw) if line_digest(line) in memory.records.rescued}
    return less(theirs, sent.intersection(lines(theirs)).difference(lines(ours)))


def _without_end(text: bytes) -> bytes:
    """Without blank lines at its end, and the end of its last line; blanks before that are typed."""
    last = len(text.rstrip())
    return text[: text.find(b"\n", last)].rstrip(b"\r") if last and b"\n" in text[last:] else text if last else b""


def _parted(memory: Memory, save: Save, raws: Mapping[str, bytes], base: bytes, theirs: bytes, replies: Replies) -> Split:
    """The draft of an editor that is behind, without what was sent meanwhile; a gesture counts if it is one more than those."""
    if not raws:
        return Split(theirs)
    texts = {name: [line for line in raw.split(b"\n") if is_text(line)] for name, raw in raws.items()}
    shown = set(lines(theirs)) | replies.held
    sent = {name: raw for name, raw in raws.items() if any(line.strip() in shown for line in texts[name])}  # typed in this editor
    held = {line.strip() for name in sent for line in texts[name] if line_digest(line) in memory.records.unseen}
    for name in sent:
        kept = memory.records.known(name)
        added = {line for line in lines(kept.reworded) if is_text(line)}.difference(lines(kept.raw))
        held |= added if added.isdisjoint(shown) else set()  # another stale editor put them in, and this one never saw them
    whole = {name: raw for name in sent if (raw := _whole(memory, name, sent[name], theirs)) != sent[name]}
    found = split(sent | whole, base, theirs, replies.held | save.held | held)
    edited = {name: read(raw).text for name, raw in whole.items()} | found.edited
    said, before = read(theirs), read(base)
    more = gestures(theirs) > sum(map(gestures, raws.values())) + gestures(base)
    asked = said if said.gesture.sends and more else before if before.gesture.sends else Said(Gesture.NONE, b"")
    return Split(with_gesture(found.draft, asked, save.document.eol), edited)


def _watch(memory: Memory, save: Save, theirs: Sequence[bytes], moved: list[bytes], displaced: bytes | None) -> None:
    """The next save may come from an editor that had loaded the version in between, where these lines do not stand.

    The number in the marker tells the two apart, where the editor left it alone.
    """
    there = None if displaced is None else set(lines(displaced))
    typed = (line for text in theirs for line in text.split(b"\n") if is_text(line))
    new = [*moved, *(line for line in typed if there is not None and line.strip() not in there)]
    if new:
        save.document = replace(save.document, did=memory.document.did + 1)
        memory.records.watch(new, save.document.did)


def _outside(memory: Memory, save: Save, replies: Replies) -> list[bytes]:
    """What was changed outside the draft, without the words of agents."""
    ours = {region.id: region for region in memory.document.regions}
    regions = (region for region in save.document.regions if region.part.turn or region.part is Part.HEAD)
    changed = [region for region in regions if region is not ours.get(region.id)]
    bodies = [region.body for region in changed if region.part is not Part.REPLY or region.id in replies.edited]
    return [*bodies, *(region.tail for region in changed if region.id != save.behind)]
