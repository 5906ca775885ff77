"""One conversation: its inbox and the one consumer that keeps the order of everything that happens to it.

The consumer owns the queue of turns, the agent process and the running turn; what happens inside a turn is in
`daemon/turns.py`, to the process in `daemon/lifecycle.py`. It awaits the database and its own file, never a person,
an agent's answer or another conversation.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from opagent.acp.connection import Update
from opagent.daemon import (
    clocks,
    foreign,
    hearing,
    inbox,
    lifecycle,
    limits,
    preparing,
    questions,
    reaching,
    saves,
    standing,
    stopping,
    turns,
    wanting,
)
from opagent.daemon.aftermath import Aftermath
from opagent.daemon.agent import Agent
from opagent.daemon.calltree import NOTHING, Under
from opagent.daemon.projection import ConversationFile
from opagent.daemon.redaction import Redaction
from opagent.daemon.services import Services
from opagent.daemon.shared import Shared
from opagent.daemon.workspace import Workspace
from opagent.errors import Bug, NotFound, OpAgentError, StoreFailed
from opagent.model import Approval, Binding, Event, ExitReport, Kind, ProcessState, Turn, TurnId, TurnState
from opagent.model import Conversation as Record
from opagent.policy.fatigue import Guard
from opagent.process.states import Happening, move
from opagent.store.events import Draft

log = logging.getLogger(__name__)

TICK = 1.0
_PENDING_APPENDS = 1  # batches of events on their way to the disk; one more and the consumer waits: few large ones are faster


class Conversation:
    """The actor. Other tasks call `enqueue` and `post`; everything else runs in the consumer."""

    def __init__(self, record: Record, workspace: Workspace, shared: Shared) -> None:
        self.record, self.workspace, self.shared = record, workspace, shared
        self.file = ConversationFile(record, workspace, shared, self.moved)
        self.versions = self.file.versions
        self.bound: tuple[tuple[object, ...], Binding] = (limits.look(workspace.path), workspace.binding)  # what limits a turn
        self.redaction = Redaction(shared.known)
        self.aftermath = Aftermath(self)
        self.queue: deque[Turn] = deque()
        self.current: turns.Running | None = None
        self.agent: Agent | None = None
        self.guest: str | None = None  # whom the process was started as, where it is not the conversation's own agent
        self.process_state = ProcessState.STOPPED
        self.since = shared.now()
        self.sentence = ""  # why it is failed or in back-off
        self.restarts = 0
        self.services: Services | None = None
        self.idle_since = shared.clock()
        self.generation = 0
        self.starts: list[float] = []  # when it was started since it was last healthy, monotonic
        self.given_up = False  # a crash loop, or an end that would come again: only `restart` starts it anew
        self.gone: list[tuple[Agent, ExitReport | None]] = []  # processes that ended and whose end is not in the store yet
        self.early: list[Update] = []  # updates outside a turn, shown at the head of the next one
        self._inbox: asyncio.Queue[inbox.Item] = asyncio.Queue()
        self._appends: deque[asyncio.Future[list[Event]]] = deque()
        self.retold = ""  # what was said before is another now than the session of the agent knows; a sentence that says so
        self.under: Under = NOTHING  # what binds the process beside its binding: those that called it
        self.model = ""  # what the front matter said when the agent was started
        self.stuck = ""  # why the next turn does not begin, where it is for a person to do something
        self.guard = Guard()
        self.settings = preparing.Settings()
        self._ticking = False
        self._looking = False  # a `Changed` lies in the inbox

    # ---- from other tasks --------------------------------------------------------------------------------------------

    def post(self, item: inbox.Item) -> None:
        self._inbox.put_nowait(item)

    def changed(self, watched: bool = False) -> None:
        """The file may hold something new."""
        if watched or not self._looking:
            self._looking = True
            self.post(inbox.Changed(watched))

    async def enqueue(self, prompt: turns.Prompt) -> tuple[Turn, int]:
        """Commit a turn as queued. Returns it and how many are before it; the same request key again is the same turn."""
        turn, new = await turns.queue(self, prompt)
        place = len(self.ahead())
        if new:
            self.queue.append(turn)
            self.changed()  # what was done to the file before comes first
            self.post(inbox.Look())
        return turn, place

    def ahead(self) -> list[Turn]:
        """The turns that run and wait."""
        return [*([self.current.turn] if self.current is not None else []), *self.queue]

    def insert(self, turn: Turn, first: bool) -> None:
        """A draft that is sent, at its place: behind the turns that were there before it asked to be."""
        before = [place for place, each in enumerate(self.queue) if each.id in self.standing.behind]
        last = max(before, default=-1) + 1 if self.standing.waits else len(self.queue)
        self.queue.insert(0 if first else last, turn)

    def see(self, workspace: Workspace) -> None:
        """The directory as it is now."""
        self.workspace = self.file.subject.workspace = workspace
        self.bound = limits.look(workspace.path), workspace.binding

    def moved(self, record: Record) -> None:
        """The row of the conversation, as it is stored now: with another path, title, session."""
        self.record = self.file.subject.record = record

    def role_of(self, turn: Turn) -> str:
        """Which agent takes the turn."""
        return turn.agent or self.record.agent

    @property
    def standing(self) -> standing.Standing:
        """How the draft of the file stands."""
        return self.versions.standing

    @property
    def role(self) -> str:
        """Which agent the process is, or would be."""
        return self.guest or self.record.agent

    @property
    def busy(self) -> bool:
        return self.current is not None or bool(self.queue) or self.standing.waits

    # ---- the consumer ------------------------------------------------------------------------------------------------

    async def consume(self) -> None:
        """Takes one item after the other, for ever. A mistake of ours ends the turn, never the daemon."""
        while True:
            item = await self._inbox.get()
            try:
                await self._handle(item)
                if self.versions.heard:  # a save came out of the file while something was written
                    self.changed()
                if self.file.due:
                    self.tick()
                self.shared.documents.look(self)
            except OpAgentError as error:
                await self._contain(error)
            except Exception:  # the outer edge of a conversation
                log.exception("conversation %s: %r", self.record.id, type(item).__name__)
                await self._contain(Bug("the daemon made a mistake", type(item).__name__, "opagent daemon status"))

    async def _contain(self, error: OpAgentError) -> None:
        """End what the error spoilt; where the store does not take even that, again and again until it does."""
        self._appends.clear()
        try:
            await lifecycle.fail(self, error)
        except StoreFailed as refused:
            log.warning("conversation %s: %s; it is tried again", self.record.id, refused)
            self.shared.store_refuses(self.record.id)
            asyncio.get_running_loop().call_later(lifecycle.AGAIN, self.post, inbox.Failed(self.generation, error))
        except Exception:  # the consumer must go on whatever happens
            log.exception("conversation %s could not be brought to rest", self.record.id)
            self.current = None
            self.shared.accounts.ended(self.record.id)
            self.post(inbox.Look())

    async def _handle(self, item: inbox.Item) -> None:
        generation = getattr(item, "generation", self.generation)
        if isinstance(item, inbox.FromAgent) and self.agent is not None:
            self.agent.taken()
        if generation != self.generation:
            return  # of an agent that is gone
        match item:
            case inbox.Look():
                await self.look()
            case inbox.FromAgent(_, incoming):
                await hearing.heard(self, incoming)
            case inbox.Failed(_, error):
                await self._contain(error)
            case inbox.Exited(_, report):
                await lifecycle.exited(self, report)
            case inbox.Deadline(_, what):
                await clocks.late(self, what)
            case inbox.Answered(approval, pause) if pause is not None:
                await stopping.answered(self, approval, pause)
            case inbox.Answered(approval):
                await questions.answered(self, approval)
            case inbox.Connects():
                await reaching.ask(self, item)
            case inbox.ConnectGone():
                await reaching.gone(self, item)
            case inbox.Asks(_, request, question):
                await wanting.ask(self, request, question)
            case inbox.AsksNoMore(_, number):
                await wanting.no_more(self, number)
            case inbox.Tells(turn, drafts):
                if self.current is not None and self.current.turn.id == turn:
                    await self.append(list(drafts))
            case inbox.Notes(_, text, body):
                await self.note(text, body)
            case inbox.Cancel(turn, reason, done):
                try:
                    await self._cancel(turn, reason, done)
                except Exception as error:  # whoever waits hears of it, whatever it is
                    if done and not done.done():
                        done.set_exception(error)
                    raise
            case inbox.StopAgent():
                await lifecycle.stop(self, item)
            case inbox.Project(anew, done):
                await saves.project(self, anew, done)
            case inbox.Changed(watched):
                self._looking = False
                await saves.noticed(self, watched)
            case inbox.SendDraft():
                await saves.send_draft(self, item)
            case inbox.Foreign():
                await foreign.saved(self, item)
            case inbox.Do():
                await preparing.do(self, item)
            case inbox.Tick():
                self._ticking = False
                await clocks.ticked(self)

    async def look(self) -> None:
        """Start what can be started: the agent if a turn waits for it, the next turn if the agent is ready."""
        if self.current is not None or self.shared.closing:
            return
        if self.standing.waits and not any(turn.id in self.standing.behind for turn in self.queue):
            self.changed()  # the file is read again: its draft may be another one now
        elif not self.queue:
            return
        elif self.given_up:
            await lifecycle.fail_queue(self)
        elif not await stopping.may_begin(self, self.queue[0]):
            return
        elif self.agent is None:
            await lifecycle.start_for(self, self.queue[0])
        elif lifecycle.outdated(self, self.agent, self.queue[0]):
            await lifecycle.stop(self, inbox.StopAgent(again=False, force=False))
        elif self.agent.ready and self.agent.lives:  # of one that is dead the inbox hears soon; what waits runs after that
            await turns.begin(self, self.queue.popleft())

    def take_early(self) -> list[Update]:
        early, self.early = self.early, []
        return early

    # ---- turns -------------------------------------------------------------------------------------------------------

    async def _cancel(self, ident: TurnId | None, reason: str, done: asyncio.Future[TurnId] | None) -> None:
        if ident is None and self.current is None and self.queue:
            ident = self.queue[0].id  # the agent is only starting for it
        waiting = next((turn for turn in self.queue if ident in (turn.id, turn.message)), None)
        if waiting is not None:
            ident = waiting.id
            await turns.end_queued(self, waiting, TurnState.CANCELLED, reason)
            self.queue.remove(waiting)  # not before it is committed
        elif self.current is not None and ident in (None, self.current.turn.id):
            ident = self.current.turn.id
            await turns.cancel(self, reason)
        elif done and not done.done():
            done.set_exception(NotFound("no such turn is queued or running", hint="opagent conversations queue"))
            return
        if done and not done.done():
            assert ident is not None
            done.set_result(ident)

    def tick(self) -> None:
        """Ask for a `Tick` soon, unless one is on its way."""
        if not self._ticking:
            self._ticking = True
            asyncio.get_running_loop().call_later(TICK, self.post, inbox.Tick())

    # ---- the log -----------------------------------------------------------------------------------------------------

    async def append(
        self, drafts: list[Draft], barrier: bool = False, also: Callable[[Any], None] | None = None
    ) -> list[Event] | None:
        """Events into the log and, once committed, into the file. Waits for the commit only at a barrier, or when much waits."""
        drafts = self.redaction.drafts(drafts)
        if not drafts and also is None:
            return None  # all of it is held back for what comes
        future = self.shared.journal.append(self.record.id, drafts, barrier=barrier, also=also)
        future.add_done_callback(self._committed)
        if barrier:
            events = await future
            await self.settle()
            return events
        self._appends.append(future)
        while self._appends and (self._appends[0].done() or len(self._appends) > _PENDING_APPENDS):
            await self._appends.popleft()
        self.tick()
        return None

    async def settle(self) -> None:
        """Wait for all that is on its way to the disk. Raises StoreFailed when something of it was not taken."""
        while self._appends:
            await self._appends.popleft()

    def _committed(self, future: asyncio.Future[list[Event]]) -> None:
        if not future.cancelled() and future.exception() is None:
            self.file.take(future.result())

    async def note(self, text: str, body: Mapping[str, Any] | None = None) -> None:
        turn = self.current.turn.id if self.current else None
        await self.append([Draft(Kind.NOTE, turn, {"text": text, **(body or {})})])

    async def waits(self, approval: Approval) -> None:
        """The agent waits for a person; `ps`, the file and every client say so at once."""
        if self.process_state is ProcessState.READY:
            await self.move(Happening.ASKED, f"asks: {approval.subject.splitlines()[0][:200]}")
        self.shared.calls.waits(self, approval.id)
        await self.file.write()

    def promote(self, turn: TurnId) -> None:
        """Put a queued turn in front of the others."""
        for found in list(self.queue):
            if found.id == turn:
                self.queue.remove(found)
                self.queue.appendleft(found)
                self.standing.behind |= {turn}

    async def move(self, happening: Happening, sentence: str = "", more: Mapping[str, str] = MappingProxyType({})) -> None:
        """To the next state of the process by the table of `process/states.py`; each move is an event."""
        self.process_state = move(self.process_state, happening)
        self.sentence, self.since = self.redaction.hide(sentence), self.shared.now()
        body = {"state": self.process_state.value, "runtime": self.workspace.runtime_name(self.role)}
        if self.agent is not None:
            body["process"] = self.agent.id
        if sentence:
            body |= {"sentence": sentence, **more}
        turn = self.current.turn.id if self.current else None
        await self.append([Draft(Kind.AGENT_STATE, turn, body)])
