"""What every conversation of the daemon shares: database, journal, clocks, ids, tasks; starts nothing by itself."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from opagent.daemon.approvals import Approvals
from opagent.daemon.attended import Attended
from opagent.daemon.documents import Documents
from opagent.daemon.effects import Act, Effects
from opagent.daemon.notifying import Notifier
from opagent.daemon.ownership import Ownership
from opagent.daemon.redaction import Known
from opagent.daemon.spending import Accounts
from opagent.document.names import new_id
from opagent.errors import NotFound, ProcessNotFound
from opagent.model import Conversation, ConversationId, ExitReport, ProcessId, ProcessState
from opagent.store import processes
from opagent.store.database import Database
from opagent.store.effects import State
from opagent.store.events import Draft, Journal, timestamp

if TYPE_CHECKING:
    from opagent.daemon.agent import Agent
    from opagent.daemon.calling import Calls
    from opagent.daemon.conversation import Conversation as Actor
    from opagent.daemon.lines import Lines
    from opagent.daemon.network import Network
    from opagent.daemon.overgrown import Overgrown
    from opagent.daemon.tooling import Tooling
    from opagent.daemon.workspace import Workspace

log = logging.getLogger(__name__)


class Shared:
    """`boot` names this boot of the kernel: a recorded pid of another boot is somebody else."""

    def __init__(self, database: Database, journal: Journal, tasks: asyncio.TaskGroup, boot: str) -> None:
        self.database, self.journal, self.boot = database, journal, boot
        self._tasks = tasks
        self.approvals = Approvals(self)
        self.notifier = Notifier(self)
        self.approvals.asked = self.notifier.tell
        self.attended = Attended()
        self.accounts = Accounts(self)
        self.ownership = Ownership()
        self.known = Known()
        self.effects = Effects(journal, database, self.known)
        self.connects = 0  # questions about hosts so far
        self.network: Network  # of the host: it needs all that lies above
        self.lines: Lines  # as well
        self.tooling: Tooling
        self.calls: Calls
        self.documents = Documents()
        self.environments: dict[str, dict[str, str]] = {}  # by workspace: what a client last brought; in memory only
        self.running: set[Agent] = set()
        self.closing = False  # nothing is started any more
        self.held: Callable[[str], AbstractContextManager[None]]  # its followers hear at the end of it
        self.store_refuses: Callable[[str], None] = lambda conversation: None
        self.look_again: Callable[[Conversation], Workspace]  # the directory of a conversation as it is now
        self.fork: Callable[[Conversation, str | None], Awaitable[Conversation]]  # a conversation up to a turn, as a new one
        self.turn_begins: Callable[[Actor], Awaitable[None]]  # before its prompt is sent
        self.overgrown: Callable[[Actor], Awaitable[Overgrown | None]]  # before it begins
        self.conversation_idle: Callable[[Actor], None] = lambda conversation: None
        self.beside: Callable[[Actor], list[str]] = lambda conversation: []  # other conversations with a turn in its workspace

    def now(self) -> str:
        return timestamp()

    def clock(self) -> float:
        """Seconds, monotonic."""
        return asyncio.get_running_loop().time()

    def chance(self) -> float:
        """0 <= x < 1, for back-off."""
        return secrets.randbelow(10_000) / 10_000

    def new_id(self, kind: str, known: Callable[[Any, str], object] | None = None) -> str:
        """An id that `known` (a look-up of the store) does not find."""
        while True:
            drawn = new_id(kind, secrets.token_bytes(16))
            try:
                if known is None or self.database.read(lambda db: known(db, drawn)) is None:  # noqa: B023
                    return drawn
            except NotFound:
                return drawn

    def new_process(self) -> ProcessId:
        return ProcessId(self.new_id("process", lambda db, drawn: processes.get(db, ProcessId(drawn))))

    def spawn(self, work: Coroutine[Any, Any, object], name: str) -> asyncio.Task[None]:
        """A task whose failure is logged and goes no further: one agent's trouble must not end the daemon."""
        return self._tasks.create_task(_contained(work, name), name=name)

    def record(self, draft: Draft, conversation: ConversationId | None = None) -> None:
        """A row that nobody waits for. One that the store does not take is a line of the daemon's log."""
        hidden = replace(draft, facts=self.known.hidden(draft.facts), body=self.known.hidden(draft.body))
        self.journal.append(conversation, [hidden]).add_done_callback(lambda done: _logged(done, draft.kind.value))

    async def process_starts(self, agent: Agent, conversation: Conversation, act: Act, before: Sequence[Draft]) -> int:
        """Before the spawn: what a daemon that dies right after it leaves is found by the id in its environment.

        The number of the record of the spawn. Raises StoreFailed: then nothing is started.
        """
        row = processes.ProcessRecord(
            id=agent.id, pid=0, started=0.0, boot=self.boot, conversation=conversation.id,
            workspace=conversation.workspace, runtime=agent.role.runtime, agent=conversation.agent,
            state=ProcessState.STARTING, since=self.now(),
        )  # fmt: skip
        return await self.effects.begin(act, before, also=lambda db: processes.put(db, row))

    async def process_started(self, agent: Agent, act: Act, spawn: int) -> None:
        process = agent.process
        assert process is not None

        def change(db: Any) -> None:
            processes.put(db, replace(processes.get(db, agent.id), pid=process.pid, started=float(process.start_time)))

        await self.effects.end(spawn, act, State.DONE, {"pid": process.pid}, also=change)

    async def process_ended(self, agent: Agent, report: ExitReport | None, rows: Sequence[Draft], ident: ConversationId) -> None:
        """`rows`: of the record, in the same transaction."""
        reason = report.sentence() if report else "never started"

        def change(db: Any) -> None:
            with contextlib.suppress(ProcessNotFound):  # its row was refused, so it was never started
                processes.move(db, agent.id, ProcessState.STOPPED, self.now(), reason)
            self.journal.put(db, ident, rows)

        await self.database.write(change)


def _logged(done: asyncio.Future[Any], kind: str) -> None:
    if not done.cancelled() and (problem := done.exception()) is not None:
        log.warning("%s is not recorded: %s", kind, problem)


async def _contained(work: Coroutine[Any, Any, object], name: str) -> None:
    try:
        await work
    except Exception:  # the outer edge of a task
        log.exception("task %s", name)
