"""A conversation's file that stands on two machines: what a save of the one means for the other; reads and sends nothing.

API: `rebased` and `unseen` (there, where it is merged); `Known`, `Step`, `step`, `origin`, `streamed`, `gone_lines` (here).

What stands there is the truth of the conversation. A save made here goes there with the version that it was made of, is
merged there as any editor's save is, and the result comes back. (Design: "The mirror".)
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

from opagent.document import frontmatter
from opagent.document.draft import asks, is_text
from opagent.document.lines import has_text, lines
from opagent.document.parse import Part, Region, join, scan
from opagent.document.parse import asks as approvals
from opagent.document.records import file_digest
from opagent.document.textmerge import favoured, merge_text

# ---- there: a save that was made of another version than the present one ---------------------------------------------------


def rebased(base: bytes, save: bytes, current: bytes, tag: str) -> bytes:
    """The save as if all that its person did not touch were as it is now. Turns that they never had are still not in it.

    What both sides changed stays as it was saved: the merge decides.
    """
    if base in (b"", current) or save in (base, current):
        return current if save == base else save
    old, mine, now = (_by_id(scan(content, tag)) for content in (base, save, current))
    draft = _touched_draft(old, mine)
    regions = [found for name, region in mine.items() if (found := _renewed(old.get(name), region, now.get(name), name in draft))]
    _put_back(regions, old, now)
    content = join(tuple(regions))
    same = [region.id for region in scan(content, tag)] == [region.id for region in regions]
    return content if same else save  # a copied marker became structure


def _by_id(regions: Iterable[Region]) -> dict[str, Region]:
    return {region.id: region for region in regions}


def _touched_draft(old: dict[str, Region], mine: dict[str, Region]) -> tuple[str, ...]:
    """The regions that a draft stands in, where its person changed any of it: half of a draft of then is none of now."""
    names = tuple(name for name, region in old.items() if region.part in (Part.REPLY, Part.NEXT))[-2:]
    whole = [[(region.tail, region.part is Part.NEXT and region.body) for name in names if (region := each.get(name))]
             for each in (old, mine)]  # fmt: skip
    return names if whole[0] != whole[1] else ()


def _renewed(old: Region | None, mine: Region, now: Region | None, draft: bool) -> Region | None:
    """None: it was deleted there, and nobody touched it here. `draft`: it is part of one that was changed."""
    if old is None or old.part is not mine.part:
        return mine
    if now is None:
        return None if _untouched(old, mine) and mine.part not in (Part.HEAD, Part.NEXT) else mine
    if mine.part is Part.HEAD:
        cuts = [frontmatter.end(region.body) for region in (old, mine, now)]
        fronts = [region.body[:cut] for region, cut in zip((old, mine, now), cuts, strict=True)]
        texts = [region.body[cut:] for region, cut in zip((old, mine, now), cuts, strict=True)]
        return replace(mine, body=favoured(merge_text(*fronts)) + _chosen(*texts))
    tail = mine.tail if draft else _chosen(old.tail, mine.tail, now.tail)
    if (draft and mine.part is Part.NEXT) or mine.body != old.body or mine.close != old.close:
        # with the end that it had: it says how far the editor had loaded it
        return replace(mine, tail=tail)
    return replace(mine, body=now.body, close=now.close, tail=tail)


def _chosen(old: bytes, mine: bytes, now: bytes) -> bytes:
    return now if mine == old else mine


def _untouched(old: Region, now: Region) -> bool:
    return (old.body, old.tail.strip()) == (now.body, now.tail.strip())


def _put_back(regions: list[Region], old: dict[str, Region], now: dict[str, Region]) -> None:
    """What was deleted here and changed there stays."""
    present = {region.id for region in regions}
    before = ""
    for name, region in old.items():
        if name not in present and region.part.turn and name in now and not _untouched(region, now[name]):
            place = next(place for place, each in enumerate(regions) if each.id == before)
            regions.insert(place + 1, now[name])
            present.add(name)
        if name in present:
            before = name


def unseen(base: bytes, current: bytes, draft: bytes, tag: str, sent: Iterable[tuple[str, bytes]] = ()) -> list[bytes]:
    """Lines of persons that the editor of a save made of `base` cannot have deleted; where it is unknown (empty), all.

    `draft`: as it stands in `current`; `sent`: messages and the drafts that they were made of.
    """
    shown, old = set(lines(base)), _by_id(scan(base, tag))
    texts = [draft, *(raw for name, raw in sent if name not in old)]
    for region in scan(current, tag):
        if base and (region.id not in old or region == old[region.id]):
            continue  # that is not in the save at all, or as it was
        texts += [region.tail] if region.part is Part.REPLY else [_spoken(region)] if region.part is Part.MESSAGE else []
    found = (line for text in texts for line in text.split(b"\n"))
    return [line for line in found if is_text(line) and not asks(line) and line.strip() not in shown]


def _spoken(message: Region) -> bytes:
    """Without the heading, which is ours."""
    first, _, rest = message.body.lstrip().partition(b"\n")
    return rest if first.startswith(b"## ") else message.body


# ---- here ------------------------------------------------------------------------------------------------------------------


class Step(enum.Enum):
    NOTHING = "nothing"
    SAME = "same"  # both sides hold the same bytes: they are the version that both have now
    MAKE = "make"  # it has never been here: read it there and make the file
    PULL = "pull"  # it changed there and not here
    PUSH = "push"  # it was saved here
    WAIT = "wait"  # it was saved here in a way that was refused there


@dataclass(frozen=True, slots=True)
class Known:
    """Digests. `base`: of the version that both sides had last; empty: none yet. `refused`: of a save that is not tried again."""

    base: str = ""
    refused: str = ""
    left: bool = False  # the file was here, and somebody took it away


def step(known: Known, here: str | None, there: str | None) -> Step:
    """What is to be done about a file. `here` None: no such file; `there` None: none there, or nobody knows."""
    if here is None:
        return Step.MAKE if there is not None and not known.left else Step.NOTHING
    if here == there:
        return Step.NOTHING if known.base == here else Step.SAME
    if here != known.base:
        return Step.WAIT if here == known.refused else Step.PUSH if there is not None else Step.NOTHING
    return Step.PULL if there is not None else Step.NOTHING


def origin(save: bytes, versions: Iterable[bytes]) -> bytes:
    """Of versions that stood in the file, newest first, the one that the editor of a save had loaded as far as can be told.

    Of a newer version it would have some line that the older one and the last of all, which it is known to have had, lack; in
    doubt, and where none was added, it is the older one: then nothing that is new since counts as deleted.
    """
    kept = list(versions)
    held = set(lines(save)).difference(lines(kept[-1]) if kept else ())
    for newer, older in pairwise(kept):
        added = {line for line in lines(newer) if has_text(line)}.difference(lines(older))
        if not added.isdisjoint(held):
            return newer
    return kept[-1] if kept else b""


def streamed(old: bytes, new: bytes) -> bool:
    """Whether the second version only has more of a reply that still runs: that can wait for an editor's unsaved changes."""
    before, after = scan(old), scan(new)
    if [region.id for region in before] != [region.id for region in after]:
        return False
    return all(_grows(one, other) for one, other in zip(before, after, strict=True) if one != other)


def _grows(old: Region, new: Region) -> bool:
    if new.part is not Part.REPLY or new.finished or new.state != old.state or old.tail != new.tail:
        return False
    return len(approvals(old, "")) == len(approvals(new, ""))


def gone_lines(before: bytes, after: bytes) -> bool:
    """Whether a person's line of the one file stands nowhere in the other, so that the bytes have to be kept."""
    there = set(lines(after))
    return any(line.strip() not in there for text in _typed(before) for line in text.split(b"\n") if is_text(line))


def _typed(content: bytes) -> Iterator[bytes]:
    """What belongs to persons, markers aside."""
    for region in scan(content):
        yield region.tail if region.part is Part.REPLY else region.body + region.tail


def digest(content: bytes | None) -> str | None:
    return None if content is None else file_digest(content)
