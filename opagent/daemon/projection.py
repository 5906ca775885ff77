"""The turns of one conversation in its Markdown file: which are shown, and when it is written; reads no save.

The log is taken event by event, the file follows: at once for a send, a question, an answer and an end, else once a second.
What stands in the file is in `daemon/versions.py`. (Design: "When to write".)
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opagent.daemon import recollection
from opagent.daemon.subject import Subject
from opagent.daemon.versions import Versions
from opagent.document import edit, frontmatter, parts
from opagent.document.history import history
from opagent.document.memory import Memory
from opagent.document.render import Reply
from opagent.document.settings import Write
from opagent.errors import Conflict, OpAgentError
from opagent.model import Conversation, Event, Kind, Turn, TurnId, TurnState
from opagent.watch import exchange, settled, workfiles
from opagent.watch.dirty import dirty

if TYPE_CHECKING:
    from opagent.daemon.shared import Shared
    from opagent.daemon.workspace import Workspace

log = logging.getLogger(__name__)

EVERY = 1.0  # seconds between two writes of streamed text
LIVE = 1_000_000  # bytes of a file with its streamed text; beyond, that text waits for the end of the turn
REST = 60.0  # seconds without a use after which the memory is given back


class ConversationFile:
    """Used by the consumer of its conversation only; `take` is called on the loop with committed events."""

    def __init__(
        self, record: Conversation, workspace: Workspace, shared: Shared, entered: Callable[[Conversation], None]
    ) -> None:
        self.subject = Subject(record, workspace, shared, entered)
        self.versions = Versions(self.subject)
        self._replies: dict[TurnId, Reply] = {}
        self._dirty: set[TurnId] = set()  # turns with something that the memory does not show
        self._ended: set[TurnId] = set()  # turns that have ended; their reply is dropped once the file shows it
        self._openings: dict[TurnId, Turn] = {}  # turns that the memory does not know yet
        self._queued: dict[TurnId, Mapping[str, Any]] = {}  # of turns that were queued since the daemon began, what was logged
        self._seq = 0  # of the last event taken
        self._streamed = 0  # characters that the file does not show yet
        self._written_at = 0.0

    @property
    def due(self) -> bool:
        """Whether the file does not show yet what it should, and may be written."""
        return self.versions.due or bool(self._dirty and not self.versions.stopped and self._write is not Write.OFF)

    @property
    def _write(self) -> Write:
        return self.subject.settings.write

    # ---- turns -----------------------------------------------------------------------------------------------------------

    async def create(self) -> None:
        """A new file. Raises Conflict when the name is taken, FileRefused, NotPrivate, OSError."""
        subject = self.subject
        await self.versions.create(edit.new(subject.header(), subject.person, subject.zone).content())

    def take(self, events: Sequence[Event]) -> None:
        """Committed events of this conversation: they show at the next write."""
        for event in events:
            self._seq = max(self._seq, event.seq)
            if event.turn is None:
                continue
            if event.kind is Kind.TURN_STATE:
                self._heard_of(event.turn, event.body)
            if event.turn not in self._replies or (event.kind is Kind.NOTE and not event.body.get("text")):
                continue
            self._replies[event.turn].apply(recollection.named(event))
            self._dirty.add(event.turn)
            self._streamed += len(str(event.body.get("text", "")))

    def _heard_of(self, turn: TurnId, body: Mapping[str, Any]) -> None:
        if body.get("state") == TurnState.QUEUED.value:
            self._queued[turn] = body
        elif body.get("state") in {state.value for state in TurnState if state.final}:
            self._queued.pop(turn, None)

    async def open_turn(self, turn: Turn) -> None:
        """The message and an open reply, above the draft of the person; a message that was the draft is taken out of it."""
        if turn.id in self._replies:
            return
        agent = turn.agent or self.subject.record.agent
        self._replies[turn.id] = Reply(self.subject.tag, edit.title(agent), self.subject.look())
        self._openings[turn.id] = turn
        self.versions.made_again = False
        await self.write(split=True)

    async def stands(self, turn: Turn) -> bool:
        """Whether the file shows the turn: a draft that was sent does before it begins."""
        return (await self.versions.ready()).document.region(turn.message) is not None

    async def close_turn(self, turn: Turn) -> None:
        """The end of a reply, durable."""
        if turn.id in self._replies:
            self._ended.add(turn.id)
            await self.write(sync=True)

    async def show_again(self, turn: TurnId) -> None:
        """A turn that has ended, and of which the log says more since: an answer that came later."""
        if turn in self._replies:
            await self.write(sync=True)
            return
        try:
            memory = await self.versions.ready()
        except (OSError, OpAgentError) as error:
            self.versions.hindered(str(error))
            return
        if memory.document.region(turn) is not None and (reply := recollection.told(self.subject, turn)) is not None:
            self._replies[turn] = reply
            self._dirty.add(turn)
            self._ended.add(turn)
            await self.write(sync=True)

    async def write_if_due(self) -> None:
        """Streamed text: at most once per second, not into a very large file, not under an editor's unsaved changes.

        vim refuses to save a file that changes while it writes; held back, it never does.
        """
        if not self.due or self.subject.shared.clock() - self._written_at < EVERY:
            return
        live = self._write is Write.LIVE and self.versions.size + self._streamed <= LIVE
        if self.versions.due or self._ended or (live and not dirty(self.subject.record.path)):
            await self.write()

    async def write(self, sync: bool = False, split: bool = False) -> None:
        """What is not shown yet, now. A problem is kept, told once, and tried again with the next write.

        `split`: what is too long for it moves to a part before, so that no old turn is written once more.
        """
        self._written_at = self.subject.shared.clock()
        try:
            memory = await self.versions.ready()
            self._open(memory)
            self.versions.shown = max(self.versions.shown, self._seq)
            for turn in list(self._dirty):
                self._show(memory, turn)
            if split:
                await self._shorten()
            await self.versions.bring(memory, sync, wanted=bool(self._replies))
        except (OSError, OpAgentError) as error:
            self.versions.hindered(str(error))
        for turn in self._ended - self._dirty:
            self._replies.pop(turn, None)
        self._ended &= self._dirty

    async def _shorten(self) -> None:
        try:
            if self.versions.size > parts.LIMIT and await self.versions.read():  # a save is merged while its turns stand there
                await self.split_off()
        except (OSError, OpAgentError) as error:
            log.warning("%s is not split: %s", self.subject.path, error)  # it only grows

    def _open(self, memory: Memory) -> None:
        """Turns that have begun, in the memory."""
        subject = self.subject
        for turn, queued in list(self._openings.items()):
            if not subject.settings.problem:
                memory.adopt({"opagent": str(frontmatter.FORMAT), **subject.header()})
            body = self._queued.pop(turn, None) or recollection.queued(subject, turn)
            raw = recollection.raw_of(body)
            memory.begin(recollection.opening(subject, queued, body), raw)
            self._dirty.add(turn)
            del self._openings[turn]

    def _show(self, memory: Memory, turn: TurnId) -> None:
        reply = self._replies[turn]
        for name, text in reply.blobs.items():
            workfiles.store_blob(self.subject.directory, name, text)
        memory.put(turn, reply.body(), reply.end(), running=not reply.state.final)
        self._dirty.discard(turn)
        self._streamed = 0

    async def close(self) -> None:
        await self.write(sync=True)

    def rest(self) -> None:
        """Nothing has happened for a while: the memory is given back."""
        if not self._replies and self.subject.shared.clock() - self.versions.touched > REST:
            self.versions.rest()

    # ---- the whole -------------------------------------------------------------------------------------------------------

    async def history(self, since: str = "") -> str:
        """The conversation so far as text, from the file; empty for a new one. `since`: only what stands behind that reply."""
        try:
            memory = await self.versions.ready()
        except (OSError, OpAgentError):
            return ""
        said = [each for each in history(memory.content(), tag=self.subject.tag, since=since) if each.text]
        if self._replies and said and not said[-1].reply:
            said.pop()  # the message that is being sent
        return "\n\n".join(f"{edit.title(each.author)}: {each.text}" for each in said)

    async def rebuild(self) -> str | None:
        """The file again from the log, keeping head, draft and margin notes. Returns where the old one was kept, if it was."""
        memory, saved = await self.versions.rebuild()
        for turn in self._replies:
            self._show(memory, turn)
        await self.versions.bring(memory, sync=True, wanted=True)
        if self.versions.behind:
            path = self.subject.record.path
            raise Conflict(f"{path} was not written", self.versions.problem, f"ls -l {path}")
        return saved

    async def split_off(self, limit: int = parts.LIMIT) -> bool:
        """Above `limit` bytes all but the last turns move to a part, so that a write never costs more than that.

        False where nothing is to be moved. Raises OSError, OpAgentError.
        """
        versions, path = self.versions, self.subject.path
        memory = versions.memory
        if memory is None or versions.stopped or versions.behind or versions.size <= limit:
            return False
        split = parts.split(memory.content(), path.name, self.subject.shared.new_id("summary"), self.subject.zone, limit)
        if split is None:
            return False
        part = path.parent / split.name
        part.parent.mkdir(mode=0o700, exist_ok=True)
        if part.exists():  # a daemon died between these two writes: no summary speaks of it, its turns stand in the file still
            workfiles.set_aside(self.subject.directory, part.name, part)
        await exchange.create(settled.locate(self.subject.directory, Path(part)), split.part, sync=True)
        before = set(memory.kept)
        memory.rewrite(split.content)
        await self.subject.log({"what": "part", "path": str(part), "regions": sorted(before - set(memory.kept))})
        await versions.bring(memory, sync=True)
        return True
