"""Digests of all that was ever written into a conversation's file, since an editor may still hold it; has no text of the file.

API: `Records`, `Kept`, `Fact`, `file_digest`. What is new at a version is logged with it, and folded again after a restart.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from opagent.document.lines import digest, has_text, line_digest, lines, shape
from opagent.document.parse import Part, Region


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that a merge found or did; the daemon logs it as an event `document`.

    `what`: edited reply_edited deleted restored reverted imported moved_to_draft not_kept damaged torn repaired.
    `body`: the region's new body (edited, reply_edited, reverted) or the whole region (imported).
    """

    what: str
    region: str = ""
    body: bytes = b""
    after: str = ""  # of an imported region, the turn that it stands behind


@dataclass(slots=True)
class Kept:
    """What is remembered of a message or a reply besides its region in the document."""

    states: set[bytes] = field(default_factory=set)  # digests of every body that was written
    shapes: set[bytes] = field(default_factory=set)  # of the same bodies, the digests of their lines with text
    lines: set[bytes] = field(default_factory=set)  # digests of lines that once stood in it and no longer do
    moved: Counter[bytes] = field(default_factory=Counter)  # digests of a person's lines that were taken out of it
    recalled: Counter[bytes] = field(default_factory=Counter)  # those of an earlier daemon, which may have died before the write
    shown: bytes = b""  # the body as last written
    digested: bytes = b""  # the last one whose digest was put into `states` here
    raw: bytes = b""  # the draft that the message was made of
    reworded: bytes = b""  # what a stale editor made of that since; another one may still have the first
    running: bool = False
    seen: bool = False  # a save had it to its end
    edited: bool = False  # a reply whose text is a person's by now
    deleted: Region | None = None  # as it was when a person took it out
    before: str = ""  # and what stood before it
    imported: bool = False  # it came with the file, this daemon's log does not have it


# what a version tells only where it changed
_LASTING = ("moved", "unseen", "since", "rescued", "notices", "obeyed", "parted", "reworded")


def file_digest(content: bytes) -> str:
    """By which a version is known again."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


class Records:
    def __init__(self) -> None:
        self.kept: dict[str, Kept] = {}  # of the regions that stand in the document
        self.began: dict[str, int] = {}  # of turns, in which order; a person may have put them into another one
        self.parted: dict[str, Kept] = {}  # of those that were moved to a part
        self.unseen: dict[bytes, bytes] = {}  # by digest, lines of a person that no save has shown yet
        self.since: dict[bytes, int] = {}  # of them, from which number of the draft area's marker on they stand in the file
        self.rescued: set[bytes] = set()  # digests of lines that were put into the draft from elsewhere after a crash
        self.obeyed: list[tuple[int, str]] = []  # number and line of the last commands that were taken out of the draft
        self.notices = ""  # all notes that an editor may still show
        self.last, self.size = "", -1  # digest and bytes of the last version
        self._versions: set[bytes] = set()
        self._sizes: set[int] = set()  # of them: most saves need no digest to be told from them
        self._seen: list[str] = []  # since the last version
        self._gone: dict[str, Kept] = {}  # of regions that the log knows and the document does not have: deleted ones
        self._parting: dict[str, set[bytes]] = {}  # since the last version, lines of what was moved to a part
        self._told: dict[str, Any] = {}  # what lasts, as the last version's body said it

    def begins(self, *names: str) -> None:
        """These stand in the file from now on."""
        for name in names:
            self.began.setdefault(name, len(self.began))

    def saw(self, names: Iterable[str]) -> None:
        """A save had these turns to their end."""
        for name in names:
            if not self.kept[name].seen:
                self.kept[name].seen = True
                self._seen.append(name)

    def watch(self, new: Iterable[bytes], since: int | None = None) -> None:
        """No save has shown these lines yet. One whose marker has the number `since` has loaded them."""
        found = {line_digest(line): line for line in new}
        self.unseen |= found
        self.since |= dict.fromkeys(found, since) if since else {}

    def loaded(self, number: int) -> list[bytes]:
        """The lines of those that stood in a file whose marker has this number."""
        return [line for key, line in self.unseen.items() if number >= self.since.get(key, number + 1)]

    def shown(self, old: Iterable[bytes]) -> None:
        """A save has, or they are gone with their message, or in a part."""
        for line in old if self.unseen else ():
            self.unseen.pop(key := line_digest(line), None)
            self.since.pop(key, None)

    def lost(self, name: str, region: Region | None = None, before: str = "") -> None:
        """A region stands in the document no longer; one that a person deleted may come back: behind `before`."""
        kept = self._gone[name] = self.kept.pop(name)
        self.shown(kept.raw.split(b"\n"))
        kept.deleted, kept.before = region, before

    def again(self, names: Collection[str]) -> list[Kept]:
        """Of these regions those that were deleted, in the order of the document; they stand in it again."""
        back = {name: kept for name, kept in self._gone.items() if name in names and kept.deleted}
        for name, kept in back.items():
            self.kept[name] = kept
            del self._gone[name]
        return list(back.values())

    def standing(self, name: str | None) -> str | None:
        """A region, or where it was deleted or moved to a part the one before it; empty where there is none, None if unknown."""
        while name and name in self._gone:
            name = self._gone[name].before
        return "" if name in self.parted else name

    def part(self, region: Region) -> None:
        """A region was moved to a part: what a person wrote in it and behind it is there, too."""
        kept = self.parted[region.id] = self.kept.pop(region.id)
        if kept.digested != region.body:
            kept.states.add(digest(region.body))
        if self.unseen:
            self.shown(lines(region.body + region.tail))
        theirs = lines(region.tail if region.part is Part.REPLY else region.body)
        self._parting[region.id] = {line_digest(line) for line in theirs if has_text(line)} - kept.lines
        kept.lines |= self._parting[region.id]

    def record(self, name: str) -> Kept | None:
        """Of a region that stands in the document, or did."""
        return self.kept.get(name) or self._gone.get(name)

    def found(self, name: str) -> Kept:
        """A region that the document did not have: one that was deleted before, or one that came from elsewhere."""
        kept = self.kept[name] = self._gone.pop(name, Kept(imported=True))
        kept.seen = True
        return kept

    def wrote(self, content: bytes) -> bool:
        """Whether these bytes are the last version: nobody has saved since."""
        return len(content) == self.size and file_digest(content) == self.last

    def is_version(self, content: bytes) -> bool:
        """Whether these bytes were written by the daemon, at any time."""
        return len(content) in self._sizes and bytes.fromhex(file_digest(content)) in self._versions

    def written(self, content: bytes, regions: Iterable[Region]) -> dict[str, Any]:
        """A version. Returns what is new since the last one, as JSON."""
        self._wrote(file_digest(content), len(content))
        changed, gone = self._changed(regions)
        gone |= {name: sorted(line.hex() for line in found) for name, found in self._parting.items() if found}
        self._parting = {}
        seen, self._seen = [name for name in self._seen if name in self.kept], []
        lasting: dict[str, Any] = {
            "moved": {name: _hex(kept.moved) for name, kept in (self.parted | self.kept).items() if kept.moved},
            "unseen": sorted(line.decode("latin-1") for line in self.unseen.values()),
            "since": {key.hex(): number for key, number in sorted(self.since.items())},
            "rescued": sorted(line.hex() for line in self.rescued),
            "notices": self.notices,
            "obeyed": [list(each) for each in self.obeyed],
            "parted": list(self.parted),
            "reworded": {
                name: kept.reworded.decode("latin-1") for name, kept in (self.parted | self.kept).items() if kept.reworded
            },
        }
        lasting = {key: value for key, value in lasting.items() if value != self._told.get(key, type(value)())}
        self._told |= lasting
        news = {"regions": changed, "lines": gone, "seen": seen}
        body = {"what": "version", "digest": self.last, "size": self.size}
        return body | {key: value for key, value in news.items() if value} | lasting

    def _wrote(self, known: str, size: int) -> None:
        self.last, self.size = known, size
        self._versions.add(bytes.fromhex(known))
        self._sizes.add(size)

    def _changed(self, regions: Iterable[Region]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
        """Of each region that changed since the last version: (state, shape), and the lines that no longer stand in it."""
        changed: dict[str, list[str]] = {}
        gone: dict[str, list[str]] = {}
        for region in regions:
            kept = self.kept.get(region.id)
            if kept is None or (kept.states and kept.shown == region.body):
                continue
            now = lines(region.body)
            state, form = digest(region.body), shape(now)
            kept.states.add(state)
            kept.shapes.add(form)
            changed[region.id] = [state.hex(), form.hex()]
            left = {line_digest(line) for line in set(lines(kept.shown)).difference(now) if has_text(line)} - kept.lines
            if left:
                gone[region.id] = sorted(line.hex() for line in left)
                kept.lines |= left
            kept.shown = kept.digested = region.body
        return changed, gone

    def restore(self, body: Mapping[str, Any]) -> None:
        """One body that `written` returned, oldest first."""
        self._wrote(str(body["digest"]), int(body["size"]))
        self._told |= {key: body[key] for key in _LASTING if key in body}
        for name, (state, form) in body.get("regions", {}).items():
            kept = self.known(name)
            kept.states.add(bytes.fromhex(state))
            kept.shapes.add(bytes.fromhex(form))
            kept.seen = False
        for name, gone in body.get("lines", {}).items():
            self.known(name).lines.update(map(bytes.fromhex, gone))
        for name, moved in body.get("moved", {}).items():
            self.known(name).recalled |= Counter({bytes.fromhex(line): count for line, count in moved.items()})
        for name in body.get("seen", ()):
            self.known(name).seen = True
        for name, raw in body.get("reworded", {}).items():
            self.known(name).reworded = raw.encode("latin-1")
        if "unseen" in body:
            self.unseen = {}
            self.watch(line.encode("latin-1") for line in body["unseen"])
        if "since" in body:
            self.since = {bytes.fromhex(key): number for key, number in body["since"].items()}
        self.rescued.update(map(bytes.fromhex, body.get("rescued", ())))
        self.notices = body.get("notices", self.notices)
        self.obeyed = [(number, line) for number, line in body.get("obeyed", self.obeyed)]
        for name in body.get("parted", ()):
            self.parted[name] = self.known(name)
            self.kept.pop(name, None)
            self._gone.pop(name, None)

    def raws(self) -> list[tuple[str, bytes]]:
        """The drafts that became messages, wherever those are now."""
        return [(name, kept.raw) for name, kept in (self._gone | self.parted | self.kept).items() if kept.raw]

    def sent(self) -> list[tuple[str, bytes]]:
        """The same, with what stale editors have put into them since; in no order of lines."""
        known = [(name, kept) for name, kept in (self._gone | self.parted | self.kept).items() if kept.raw]
        both = ((name, Counter(kept.raw.split(b"\n")) | Counter(kept.reworded.split(b"\n"))) for name, kept in known)
        return [(name, b"\n".join(found.elements())) for name, found in both]

    def known(self, name: str) -> Kept:
        """The record of a region that the log names, wherever that is now."""
        return self.kept.get(name) or self.parted.get(name) or self._gone.setdefault(name, Kept())


def _hex(counted: Counter[bytes]) -> dict[str, int]:
    return {line.hex(): count for line, count in counted.items()}
