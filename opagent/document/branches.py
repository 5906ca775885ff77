"""Two versions of a conversation and the one they come from -> one, by turns and never by lines across them; the git driver.

API: `merge3`, `same`, `Branches`.

Order of ours; their new turns go in as whole exchanges behind the turn they follow. What both sides changed so that no text
can be made of it stays readable: ours in its place, both behind it in the margin. (Design: "Old turns, forks, parts, git".)
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from opagent.document import frontmatter
from opagent.document.markers import finder, marker
from opagent.document.parse import Part, Region, did, join, line_end, scan, tag_of
from opagent.document.textmerge import Clash, Piece, favoured, marked, merge_text, shared

HEAD, DRAFT = "head", "draft"  # what `clashes` calls the places that have no id


@dataclass(frozen=True, slots=True)
class Branches:
    """The merged file. `clashes` names what a person must look at: ids of turns, `head`, `draft`."""

    content: bytes
    clashes: tuple[str, ...] = ()

    @property
    def conflict(self) -> bool:
        return bool(self.clashes)


@dataclass(frozen=True, slots=True)
class _Side:
    """A version taken apart. `after` is what a person typed behind the last turn: it is draft, wherever that turn ends up."""

    head: Region
    turns: Mapping[str, Region]
    after: bytes = b""
    next: Region | None = None


def same(ours: bytes, theirs: bytes) -> bool:
    """Whether both are versions of one conversation."""
    first, second = frontmatter.conversation_id(ours), frontmatter.conversation_id(theirs)
    tag = tag_of(ours)
    return bool(tag) and tag == tag_of(theirs) and (first == second or not (first and second))


def merge3(base: bytes, ours: bytes, theirs: bytes) -> Branches:
    """What a merge of two branches leaves. `base` may be empty: then nothing counts as deleted, nor any line.

    Every turn of both sides is in it whole, but for those that one side deleted and the other left as they were. Texts that
    are not versions of one conversation are merged by lines.
    """
    if theirs in (base, ours):
        return Branches(ours)
    if ours == base:
        return Branches(theirs)
    eol = line_end(ours)
    if not same(ours, theirs):
        pieces = merge_text(base, ours, theirs)
        return Branches(marked(pieces, eol), _named(HEAD, pieces))
    tag = tag_of(ours)
    old, mine, other = (_side(content, tag) for content in (base if tag_of(base) == tag else b"", ours, theirs))
    return _Merge(tag, eol, old, mine, other).result()


def _side(content: bytes, tag: str) -> _Side:
    eol = line_end(content)
    head, *rest = (_ended(region, eol) for region in scan(content, tag))
    area = next((region for region in rest if region.part is Part.NEXT), None)
    turns = {region.id: region for region in rest if region.part is not Part.NEXT}
    if not turns:
        cut = frontmatter.end(head.body)
        return _Side(replace(head, body=head.body[:cut]), turns, head.body[cut:], area)
    last = next(reversed(turns.values()))
    return _Side(head, turns | {last.id: replace(last, tail=eol if last.close else b"")}, last.tail, area)


def _ended(region: Region, eol: bytes) -> Region:
    """With a line end at its end, so that anything can follow."""
    if not region.raw or region.raw.endswith(b"\n"):
        return region
    field = next(field for field in ("tail", "close", "body", "open") if getattr(region, field))
    return replace(region, **{field: getattr(region, field) + eol})


def _exchanges(turns: Mapping[str, Region]) -> Iterator[list[str]]:
    """Ids in groups: a message and the replies behind it."""
    group: list[str] = []
    for name, region in turns.items():
        if group and region.part is not Part.REPLY:
            yield group
            group = []
        group.append(name)
    if group:
        yield group


class _Merge:
    def __init__(self, tag: str, eol: bytes, old: _Side, mine: _Side, other: _Side) -> None:
        self._tag, self._eol = tag, eol
        self._old, self._mine, self._other = old, mine, other
        self._known = bool(old.head.body or old.turns or old.next)  # whether there is a version that both come from
        self._clashes: dict[str, list[Clash]] = {}  # for the margin
        self._where: list[str] = []

    def result(self) -> Branches:
        head = self._head()
        turns = [self._turn(name) for name in self._order()]
        area = self._area(turns)
        typed = self._text(DRAFT, self._old.after if self._known else None, self._mine.after, self._other.after)
        if not turns:
            head = replace(head, body=head.body + typed)
        elif turns[-1].close:
            turns[-1] = replace(turns[-1], tail=typed)
        elif typed.strip():
            area = self._below(area, typed)
        turns = [replace(region, tail=self._eol) if region.close and not region.tail else region for region in turns]
        for name, clashes in self._clashes.items():
            blocks = self._eol + self._eol.join(clash.block(self._eol, name) for clash in clashes) + self._eol
            place = _margin(turns, name)
            if place is None:
                area = self._below(area, blocks)
            else:
                turns[place] = replace(turns[place], tail=turns[place].tail + blocks)
        return Branches(self._joined([head, *turns, *([area] if area else [])]), tuple(dict.fromkeys(self._where)))

    def _below(self, area: Region | None, text: bytes) -> Region:
        """The draft area with text at its end; made where there is none."""
        area = area or self._next()
        return replace(area, body=area.body + text)

    # ---- which turns, in which order -----------------------------------------------------------------------------------

    def _deleted(self) -> set[str]:
        """What one side took out of an exchange that the other left as it was. An exchange that it changed stays whole."""
        found: set[str] = set()
        for here, there in ((self._mine.turns, self._other.turns), (self._other.turns, self._mine.turns)):
            for exchange in _exchanges(there):
                gone = [name for name in exchange if name not in here]
                if all(name in self._old.turns and _untouched(self._old.turns[name], there[name]) for name in gone):
                    found.update(gone)
        return found

    def _order(self) -> list[str]:
        deleted = self._deleted()
        order = [name for name in self._mine.turns if name not in deleted]
        theirs = {name: region for name, region in self._other.turns.items() if name not in deleted}
        for before, exchange in _unknown(theirs, self._mine.turns):
            at = order.index(before) + 1 if before else 0
            at = self._place(order, at, theirs[exchange[0]])
            order[at:at] = exchange
        return order

    def _place(self, order: list[str], at: int, first: Region) -> int:
        """Where their exchange goes: behind replies that belong to what stands before, and behind older exchanges of ours."""
        at = self._behind_replies(order, at)
        while first.part is Part.MESSAGE and at < len(order):
            region = self._mine.turns.get(order[at])
            shared = order[at] in self._old.turns or order[at] in self._other.turns
            if region is None or shared or _stamp(region) > _stamp(first):
                break
            at = self._behind_replies(order, at + 1)
        return at

    def _behind_replies(self, order: list[str], at: int) -> int:
        while at < len(order) and self._region(order[at]).part is Part.REPLY:
            at += 1
        return at

    def _region(self, name: str) -> Region:
        return self._mine.turns.get(name) or self._other.turns[name]

    # ---- what stands in each ---------------------------------------------------------------------------------------------

    def _pieces(self, name: str, old: bytes | None, mine: bytes, other: bytes) -> tuple[Piece, ...]:
        pieces = merge_text(shared(mine, other) if old is None else old, mine, other)
        self._where += _named(name, pieces)
        return pieces

    def _text(self, name: str, old: bytes | None, mine: bytes, other: bytes) -> bytes:
        """A person's text, with marks where both changed it."""
        return marked(self._pieces(name, old, mine, other), self._eol)

    def _head(self) -> Region:
        """The front matter stays one that can be read; the text behind it is a person's."""
        bodies = [side.head.body for side in (self._old, self._mine, self._other)]
        cuts = [frontmatter.end(body) for body in bodies]
        old, mine, other = (body[:cut] for body, cut in zip(bodies, cuts, strict=True))
        front = self._pieces(HEAD, old if self._known else None, mine, other)
        blocks = [self._eol + piece.block(self._eol) + self._eol for piece in front if isinstance(piece, Clash)]
        old, mine, other = (body[cut:] for body, cut in zip(bodies, cuts, strict=True))
        text = self._text(HEAD, old if self._known else None, mine, other)
        return replace(self._mine.head, body=b"".join((favoured(front), *blocks, text)))

    def _turn(self, name: str) -> Region:
        mine, other = self._mine.turns.get(name), self._other.turns.get(name)
        if mine is None or other is None:
            return self._region(name)
        old = self._old.turns.get(name)
        body = self._pieces(name, old.body if old else None, mine.body, other.body)
        if clashes := [piece for piece in body if isinstance(piece, Clash)]:
            self._clashes[name] = clashes
        unchanged = mine.close in (b"", old.close if old else b"") or (other.finished and not mine.finished)
        close = other.close if other.close and unchanged else mine.close
        tail = self._text(name, old.tail if old else None, mine.tail, other.tail)
        return replace(mine, body=favoured(body), close=close, tail=tail)

    def _area(self, turns: Sequence[Region]) -> Region | None:
        """The draft area. Its marker names the later reply, and as many commands as either side has seen obeyed."""
        old, mine, other = self._old.next, self._mine.next, self._other.next
        if mine is None or other is None:
            return mine or other
        place = {region.id: number for number, region in enumerate(turns)}
        after = max(mine.value("after"), other.value("after"), key=lambda name: place.get(name, -1))
        commands = max(did([mine]), did([other]))
        area = self._next(f"after={after}" if after else "", f"did={commands}" if commands else "")
        return replace(area, body=self._text(DRAFT, old.body if old else None, mine.body, other.body))

    def _next(self, *words: str) -> Region:
        return Region(Part.NEXT, "next", marker(self._tag, "next", *words).encode().replace(b"\n", self._eol))

    # ---- the file --------------------------------------------------------------------------------------------------------

    def _joined(self, regions: list[Region]) -> bytes:
        """The bytes. A copied marker, text so far, that became structure in the new order is made text again."""
        content = join(tuple(regions))
        if [region.id for region in scan(content, self._tag)] != [region.id for region in regions]:
            content = join(tuple(replace(r, body=self._inert(r.body), tail=self._inert(r.tail)) for r in regions))
        return content

    def _inert(self, text: bytes) -> bytes:
        def escaped(hit: re.Match[bytes]) -> bytes:
            inside = hit[1].startswith(b"/") or hit[2].split()[:1] == [b"ask"]  # of an approval: it belongs into a reply
            return hit[0] if inside else hit[0].replace(b"<!--", b"<!--\\", 1)

        return finder(self._tag).sub(escaped, b"\n" + text)[1:]


def _margin(turns: Sequence[Region], name: str) -> int | None:
    """The first reply from a turn on that has an end, behind which a person's text can stand; None: the draft area."""
    start = next(place for place, region in enumerate(turns) if region.id == name)
    return next((place for place in range(start, len(turns)) if turns[place].close), None)


def _untouched(old: Region, now: Region) -> bool:
    """The end marker aside: it is padded when only the size had to change."""
    return (old.body, old.tail.strip()) == (now.body, now.tail.strip())


def _unknown(theirs: Mapping[str, Region], known: Mapping[str, Region]) -> Iterator[tuple[str, list[str]]]:
    """Their exchanges, or parts of exchanges, that are not known, each with the turn before it."""
    before = ""
    for exchange in _exchanges(theirs):
        new: list[str] = []
        for name in exchange:
            if name in known:
                if new:
                    yield before, new
                before, new = name, []
            else:
                new.append(name)
        if new:
            yield before, new
            before = new[-1]


def _stamp(region: Region) -> str:
    return (*region.words, "", "", "")[2]


def _named(name: str, pieces: Iterable[Piece]) -> tuple[str, ...]:
    return (name,) if any(isinstance(piece, Clash) for piece in pieces) else ()
