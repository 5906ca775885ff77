"""What stands in the file of one conversation: our versions go in, a person's saves come out and are merged; obeys none of them.

The file is only ever exchanged with a new version. What comes out of it, or is found in it, and is not ours is a save: it is
merged into the memory, logged, and put into `heard` for `daemon/saves.py`. (Design: "Reading settled", "Writing one version".)
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from opagent.daemon import recollection, whereabouts
from opagent.daemon.guests import Guests
from opagent.daemon.inbox import Foreign
from opagent.daemon.standing import Standing
from opagent.daemon.subject import Subject
from opagent.document import draft
from opagent.document.history import retold
from opagent.document.lines import line_digest, lines
from opagent.document.memory import Memory
from opagent.document.merge import Merged, merge
from opagent.document.mirrored import rebased, unseen
from opagent.document.settings import Write
from opagent.errors import OpAgentError
from opagent.watch import exchange
from opagent.watch.exchange import Result
from opagent.watch.settled import PATIENCE, Reading, Stamp, settled_read, unchanged

_SAVES_IN_A_ROW = 50  # that may land while one version is written; then the next write goes on
_LET_ALONE = 15.0  # seconds in which a file is not written that somebody keeps open
_SOON = 0.5  # seconds that the first look waits for a writer or a missing file
_UNMERGED = "git has it unmerged; nothing is written until that is resolved"
_EMPTY = "it is empty; nothing is written until it is not"
_DAMAGED = "turns are gone from it but their text is not; nothing is written until that is mended"


@dataclass(frozen=True, slots=True)
class Heard:
    """A save, or (not `new`) the last version as an earlier daemon left it. `before`: the draft as it was known until then.

    `brought`: by git. `retold`: what was said before is another now.
    """

    merged: Merged
    before: bytes
    brought: bool = False
    retold: bool = False
    new: bool = True


class Versions:
    """Used by the consumer of its conversation only."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.memory: Memory | None = None
        self.standing = Standing()  # of the draft
        self.heard: list[Heard] = []  # saves that nobody has answered yet
        self.problem = ""  # why the file does not show what it should
        self.behind = False  # it does not show yet what the memory holds
        self.stopped = False  # it is damaged, empty or unmerged: nothing is written until it is not
        self.fresh = False  # it was made or changed before our eyes
        self.shown = 0  # number of the last event that the memory shows
        self.forgot = False  # a session of the agent was given up, since what was said before is another now
        self.touched = 0.0  # when the memory was used last
        self.made_again = False  # it was removed, and made anew since the last turn began
        self.size = 0  # bytes of the last version
        self._disk: bytes | None = b""  # what the file holds as far as we know; None: it is gone
        self._stamp: Stamp | None = None  # of what it holds
        self._held: list[Path] = []  # saves that came out of the file, until a durable version holds them
        self._unlogged: list[dict[str, Any]] = []  # versions that the log has not taken yet
        self._busy_until = 0.0  # somebody keeps it open for writing, and each look takes seconds
        self._rested = False  # this daemon has had the memory before
        self._guests = Guests()

    @property
    def gone(self) -> bool:
        return self._disk is None

    @property
    def due(self) -> bool:
        """Whether the file has to be written, or made durable, and may be."""
        wanted = self.behind or bool(self._held and self._disk)
        return wanted and not self.stopped and self.subject.settings.write is not Write.OFF

    # ---- reading ---------------------------------------------------------------------------------------------------------

    async def ready(self) -> Memory:
        """The memory, from the log and the file when it is needed first. Raises Conflict, FileRefused, NotPrivate, OSError."""
        self.touched = self.subject.shared.clock()
        if self.memory is not None:
            return self.memory
        subject = self.subject
        subject.shared.ownership.take(subject.workspace.path)
        await subject.follow()
        left = whereabouts.left(subject.directory, subject.path, subject.record.id)
        reading = await self._reading(_SOON)
        self._disk, self._stamp = (reading.content, reading.stamp) if reading else (None, None)
        self.stopped = False
        if reading is not None and (reading.torn or draft.unmerged(reading.content, subject.tag)):
            self._stop(_EMPTY if reading.torn else _UNMERGED)
        disk = None if self.stopped else self._disk
        if disk is not None and (more := recollection.beyond(subject, disk)):
            await subject.shared.journal.append(subject.record.id, more)
        brought = self.subject.brought(self._stamp)
        recalled = recollection.recall(subject, disk, brought)
        self.memory, self.shown = recalled.memory, recalled.seq
        self.standing = self.standing if self._rested else Standing.of(recalled.draft)
        if disk is not None and recalled.merged is not None:
            await self._take(disk, Heard(recalled.merged, recalled.memory.draft(), brought, recalled.retold))
        elif disk is not None and not self._rested:  # a gesture in it may wait since before a restart
            self.heard.append(Heard(Merged(disk), recalled.memory.draft(), new=False))
        subject.learn(recalled.memory.document.regions[0].raw)
        self.behind = recalled.memory.content() != self._disk
        await self._rescue(recalled.memory, left)
        return recalled.memory

    async def read(self) -> bool:
        """Look at the file; a save that it holds is merged and stands in `heard`. False: somebody still writes it, look again.

        Raises FileRefused, Conflict, OSError.
        """
        memory = await self.ready()
        await self.subject.follow()
        if unchanged(self.subject.place(), self._stamp):
            return True
        reading = await self._reading()
        if reading is not None and not reading.quiet:
            return False
        self._busy_until = 0.0
        saved = reading is not None and reading.stamp != self._stamp
        same = reading is not None and reading.content == self._disk and not self.stopped
        self._disk, self._stamp = (reading.content, reading.stamp) if reading else (None, None)
        if reading is not None and reading.torn:
            self._stop(_EMPTY)
        elif same and saved:  # a person who saves once more says it once more
            self.heard.append(Heard(Merged(memory.content()), memory.draft(), self.subject.brought(self._stamp)))
        elif reading is not None and not same:
            await self._merge(memory, reading.content, None, self._stamp)
        return True

    async def _reading(self, patience: float = PATIENCE) -> Reading | None:
        """None where there is no file."""
        try:
            reading = await settled_read(self.subject.place(), patience)
        except FileNotFoundError:
            return None
        self.subject.linked(reading.links)
        return reading

    @property
    def standing_content(self) -> bytes | None:
        """What the file holds as far as we know; None where it is gone or nobody has looked."""
        return self._disk if self.memory is not None else None

    # ---- merging ---------------------------------------------------------------------------------------------------------

    async def _merge(self, memory: Memory, save: bytes, displaced: bytes | None, stamp: Stamp | None) -> None:
        if memory.unmerged(save):
            self._stop(_UNMERGED)
            return
        brought = self.subject.brought(stamp)
        before, words = memory.content(), memory.draft()
        memory.records.shown(self._guests.loaded(save))
        merged = merge(memory, save, displaced, brought, self.subject.switched(stamp) if brought else 0)
        memory.records.shown(self._guests.late(self.subject.shared.clock()))
        changed = bool(merged.facts) and not merged.stop and retold(before, merged.content, memory.tag)
        await self._take(save, Heard(merged, words, brought, changed))
        self.subject.learn(memory.document.regions[0].raw)
        self.behind = self.behind or memory.content() != self._disk

    async def foreign(self, save: Foreign) -> str:
        """A save of the file's mirror on another machine. Returns why it is not taken, or nothing; its bytes are kept then."""
        memory = await self.ready()
        why = _EMPTY if not save.content.strip() or b"\0" in save.content else _UNMERGED if memory.unmerged(save.content) else ""
        if why:
            return why
        before, words = memory.content(), memory.draft()
        reverts = save.brought and bool(save.base)  # a copy of which nobody knows where it comes from takes nothing back
        content = save.content if reverts else rebased(save.base, save.content, before, memory.tag)
        records, kept = memory.records, set(lines(save.content))
        records.shown([line for line in lines(save.base) if line not in kept])  # it had them: what it took out is taken out
        cannot = unseen(save.base, before, words, memory.tag, records.sent())
        new = [line for line in cannot if line_digest(line) not in records.unseen]
        records.watch(new)
        merged = merge(memory, content, git=reverts)
        records.shown(new)
        if merged.stop:
            await self.subject.keep(save.content)
            return _DAMAGED
        after = memory.content()
        new = unseen(before, after, memory.draft(), memory.tag)
        records.watch(self._guests.come(new, after, self.subject.shared.clock()))
        changed = bool(merged.facts) and retold(before, merged.content, memory.tag)
        await self._take(save.content, Heard(merged, words, save.brought, changed))
        self.subject.learn(memory.document.regions[0].raw)
        self.behind = self.behind or memory.content() != self._disk
        return ""

    async def _take(self, save: bytes, heard: Heard) -> None:
        """What a merge found, into the log; what it dropped, into saves/."""
        merged, subject = heard.merged, self.subject
        if merged.aside or merged.stop:
            await subject.keep(save)
        facts = [recollection.fact_body(fact) for fact in merged.facts if fact.what != "torn"]
        if heard.retold and subject.record.acp_session:  # the agent's own session tells what was said otherwise
            self.forgot = True
            await subject.enter(replace(subject.record, acp_session=None), *facts)
        elif facts:
            await subject.log(*facts)
        if merged.stop:
            self._stop(_DAMAGED)
            return
        self.stopped = False
        self.heard.append(heard)

    async def _rescue(self, memory: Memory, left: Iterable[Path]) -> None:
        """Saves that an earlier daemon exchanged out of the file and did not live to look at."""
        standing = memory.content().split(b"\n")
        for path in left:
            whole, _, last = path.read_bytes().rpartition(b"\n")
            ours = any(line.startswith(last) for line in standing)  # a version of ours that was cut in the middle of a line
            save = whole + (b"\n" if ours else b"\n" + last)
            if memory.cannot_keep(save):
                await self.subject.keep(save)
            if memory.rescue(save):
                self.behind = True
                self.subject.tell("kept", "lines of a save that a stopped daemon had not read are in the draft")
            self._held.append(path)

    # ---- writing ---------------------------------------------------------------------------------------------------------

    async def create(self, content: bytes) -> None:
        """A new file. Raises Conflict when the name is taken, FileRefused, NotPrivate, OSError."""
        subject = self.subject
        self._stamp = await exchange.create(subject.place(), content)
        self._disk, self.fresh = content, True
        self.memory = Memory.of(content, subject.tag, subject.person, subject.zone, imported=False)

    async def bring(self, memory: Memory, sync: bool = False, wanted: bool = False) -> None:
        """File and memory become the same, however many saves land meanwhile. `wanted`: a file that was removed is made again."""
        if self.stopped or self.subject.settings.write is Write.OFF or self.subject.shared.clock() < self._busy_until:
            return
        await self.subject.follow()
        for _ in range(_SAVES_IN_A_ROW):
            content = memory.content()
            self.behind = content != self._disk
            if not self.behind:
                self.problem = ""
                if self._held:
                    await exchange.settle(self.subject.place())
                    self._held = exchange.release(self._held)
                return
            if self._disk is None:
                await self._make_again(memory, wanted)
                return
            content = await self._next(memory, content, len(self._disk))
            outcome = await exchange.write_version(self.subject.place(), content, self._disk, sync=sync or bool(self._held))
            if await self._looked(memory, content, outcome):
                return

    async def _looked(self, memory: Memory, content: bytes, outcome: exchange.Outcome) -> bool:
        """What came out of the file when a version went in. Whether that is all for now."""
        self._held += outcome.held
        if outcome.written:
            self._disk, self._stamp, self.behind = content, outcome.stamp, False
        for save, path in zip(outcome.found, outcome.held, strict=True):
            await self._merge(memory, save, content, Stamp.of(path.stat()))
            if memory.unmerged(save):
                await self._give_back(save, content)
            elif self.stopped and outcome.written:  # it was damaged, and is kept; what stands in the file is not
                self.stopped, self.problem = False, ""
        if outcome.result is Result.WRITTEN:
            self._held, self.problem = exchange.release(self._held), ""
            return True
        if outcome.result is Result.GONE:
            self._disk = self._stamp = None
        elif outcome.result is Result.TORN:
            self._stop(_EMPTY)
        elif outcome.result is Result.BUSY:
            self._busy_until = self.subject.shared.clock() + _LET_ALONE
        elif not outcome.written:
            self.hindered(outcome.why)
        return self.stopped or not outcome.written

    async def _give_back(self, save: bytes, ours: bytes) -> None:
        """What git left unmerged stands in the file again, in the place of a version that met it."""
        subject = self.subject
        outcome = await exchange.write_version(subject.place(), save, ours)
        if outcome.written:
            self._disk, self._stamp = save, outcome.stamp
        for other in outcome.found:
            await subject.keep(other)

    async def _next(self, memory: Memory, content: bytes, previous: int | None) -> bytes:
        """The next version, in the log before it is in the file, once however often it is tried. `content`: of the memory."""
        if len(content) == previous:
            content = memory.version(previous)
        self.size = len(content)
        if not memory.records.wrote(content):
            self._unlogged.append({"what": "version", "seq": self.shown, **memory.written(content)})
        while self._unlogged:  # a version that the log refused comes before the next one, or a restart takes it for a person's
            await self.subject.log(self._unlogged[0])
            del self._unlogged[0]
        return content

    async def _make_again(self, memory: Memory, wanted: bool) -> None:
        """A file that was removed is made again once a turn; else it stays away."""
        self.behind = False
        if not wanted or self.made_again:
            return
        content = await self._next(memory, memory.content(), None)
        self._stamp = await exchange.create(self.subject.place(), content, sync=True)
        self._disk, self.made_again = content, True
        self.subject.tell("made again", "the conversation file was gone; it was made again from the log")

    def hindered(self, why: str) -> None:
        """The file cannot be read or written at present: said once, tried again."""
        self.behind = True
        if why and why != self.problem:
            self.problem = why
            self.subject.tell("stopped", f"the conversation file is not written: {why}")

    def _stop(self, why: str) -> None:
        self.stopped = True
        self.hindered(why)

    async def rebuild(self) -> tuple[Memory, str | None]:
        """The memory anew from the log, of the file head, draft and margin notes; and where the old file was kept, if it was."""
        subject, saved = self.subject, None
        with suppress(OSError, OpAgentError):  # whatever is wrong with the file
            await self.ready()
        subject.shared.ownership.take(subject.workspace.path)
        reading = await self._reading(_SOON)
        present, self._stamp = (reading.content, reading.stamp) if reading else (None, None)
        memory = self.memory = recollection.rebuilt(subject, present, damaged=self.problem == _DAMAGED)
        self._disk, self.stopped, self._unlogged = present, False, []
        if present is not None and memory.content() != present:
            saved = await subject.keep(present)
        return memory, saved

    def rest(self) -> None:
        """Give the memory back; it is made anew when it is needed."""
        if self.behind or self.stopped or self.heard or self._held or self.standing.refused:
            return
        self.memory, self._disk, self._rested = None, b"", True
