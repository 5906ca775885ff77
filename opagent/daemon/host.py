"""Everything the daemon holds on this host: workspaces, conversations, what an earlier daemon left; the methods ask here."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import shlex
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opagent import control, paths
from opagent.daemon import (
    adoption,
    dailycopy,
    doctor,
    forks,
    inbox,
    newcomers,
    recovering,
    reports,
    speaking,
    spending,
    toolprocess,
    whereabouts,
)
from opagent.daemon.attending import Attending
from opagent.daemon.calling import Calls
from opagent.daemon.clearing import keep_clear
from opagent.daemon.conversation import Conversation
from opagent.daemon.heads import Heads
from opagent.daemon.holding import Holding
from opagent.daemon.leaving import Leaving
from opagent.daemon.lines import Lines
from opagent.daemon.links import Links
from opagent.daemon.mirror import Mirrors
from opagent.daemon.network import Network, Usage
from opagent.daemon.own import Own
from opagent.daemon.shared import Shared
from opagent.daemon.tooling import Tooling
from opagent.daemon.watching import Watching
from opagent.daemon.workspace import Workspace
from opagent.document.names import file_name, new_conversation
from opagent.errors import Conflict, ConversationNotFound, Denied, NotFound, ProcessNotFound
from opagent.model import Conversation as Record
from opagent.model import ConversationId, ProcessId, ProcessState
from opagent.process import probe, tree
from opagent.store import conversations as rows
from opagent.store import processes as process_rows
from opagent.store import turns as turn_rows
from opagent.store.database import Database
from opagent.store.events import AuditKind, Draft, Journal, timestamp
from opagent.version import VERSION

if TYPE_CHECKING:
    from opagent.daemon.server import Client, Server

log = logging.getLogger(__name__)

MOST_IDLE = 16  # agent processes that may wait without a turn; the one that waited longest is stopped first
_HOUSEKEEPING = 15.0  # seconds
_STOPS_WITHIN = 4.0  # seconds an agent has to leave when the daemon does: the next command waits for that


class Host:
    """One per daemon."""

    server: Server

    def __init__(self, shared: Shared, host: str, tasks: asyncio.TaskGroup, stopping: asyncio.Event) -> None:
        self.shared, self.host, self.stopping = shared, host, stopping
        self.started = timestamp()
        self.boot = shared.boot
        self.workspaces: dict[str, Workspace] = {}
        self.conversations: dict[ConversationId, Conversation] = {}
        self._tasks = tasks
        self._consumers: dict[ConversationId, asyncio.Task[None]] = {}
        self._keepers: list[asyncio.Task[None]] = []
        shared.network, shared.lines = Network(shared), Lines(shared)
        shared.calls = self.calls = Calls(self)
        speaking.register(self, shared.lines)
        shared.tooling = Tooling(shared)
        shared.network.metered = self._metered
        shared.conversation_idle = self._limit_idle
        shared.look_again = self.look_again
        shared.fork = lambda record, turn: forks.fork(self, record, turn)
        shared.held = lambda conversation: self.server.held(conversation)
        shared.beside = lambda one: reports.beside(self, one)
        shared.store_refuses = lambda conversation: self.server.interrupt(conversation)
        self.watching = Watching(self)
        self.own = Own()
        self.leaving = Leaving(self)
        self._notices = [f"the state of OpAgent lies in {paths.state()}: {why}"] if (why := doctor.state_moved()) else []
        for notice in self._notices:
            log.warning("%s", notice)
        self.mirrors = Mirrors(self)
        self.links = Links(self)
        self.attending = Attending(self)
        self.heads = Heads(self)
        self._holding = Holding(self)  # before any turn that an earlier daemon left goes on

    @classmethod
    def open(cls, tasks: asyncio.TaskGroup, stopping: asyncio.Event) -> Host:
        """Opens the database. Raises StoreFailed."""
        database = Database(paths.database())
        database.start(asyncio.get_running_loop())
        boot, host = tree.boot_id(), host_id()
        return cls(Shared(database, Journal(database, host, boot), tasks, boot), host, tasks, stopping)

    @property
    def journal(self) -> Journal:
        return self.shared.journal

    @property
    def database(self) -> Database:
        return self.shared.database

    def greeting(self) -> control.Greeting:
        return control.Greeting(VERSION, (control.OLDEST, control.NEWEST), self.host, os.getpid(), self.boot)

    def opened(self, workspace: Workspace, agent: str | None) -> dict[str, Any]:
        """The answer to an open; the first one also says what must be known about this machine."""
        said, self._notices = self._notices, []
        shown = reports.opened(workspace, agent)
        return shown | {"notices": [*shown["notices"], *said]}

    def supervises(self) -> bool:
        """Whether an agent runs or a turn waits."""
        return any(c.agent is not None or c.busy for c in self.conversations.values())

    # ---- life ----------------------------------------------------------------------------------------------------------

    async def recover(self) -> None:
        """Before anybody is served: a turn that a client queues meanwhile would be taken for one that was left."""
        await recovering.recover(self)
        self._keepers.append(self.shared.spawn(self._keep_house(), "housekeeping"))
        self._keepers.append(self.shared.spawn(keep_clear(self.shared), "clearing"))
        self._keepers.append(self.shared.spawn(dailycopy.keep_copy(self.database), "copies"))
        self._keepers.append(self.shared.spawn(self.heads.keep(), "heads"))
        self._keepers.append(self.shared.spawn(self._holding.run(), "limits"))
        self._keepers.append(self.shared.spawn(self.links.doubt_after_sleep(), "links"))
        self.shared.spawn(
            asyncio.to_thread(probe.strict), "what the sandbox can do here"
        )  # asked again and again, without a wait
        self.shared.spawn(newcomers.since_last_time(self), "saves since the last daemon")
        self.shared.spawn(self.mirrors.resume(), "mirrors")

    async def close(self) -> None:
        """Stop every agent, write what is due, close the database."""
        self.shared.closing = True
        for keeper in self._keepers:
            keeper.cancel()
        await self.mirrors.close()
        await self.watching.close()
        self.links.close()
        waits = []
        for conversation in self.conversations.values():
            done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            conversation.post(inbox.StopAgent(again=False, force=False, done=done))
            waits.append(done)
        if waits and (await asyncio.wait(waits, timeout=_STOPS_WITHIN))[1]:
            await asyncio.gather(*(c.agent.stop(force=True) for c in self.conversations.values() if c.agent is not None))
            await asyncio.wait(waits, timeout=_STOPS_WITHIN)
        for task in self._consumers.values():
            task.cancel()
        await asyncio.gather(*self._consumers.values(), return_exceptions=True)
        for conversation in list(self.conversations.values()):
            await conversation.file.close()
        await self.shared.tooling.close()
        await self.shared.network.close()
        self.shared.lines.close()
        self.shared.ownership.release()
        await self.shared.notifier.close()
        await self.journal.append(None, [Draft(AuditKind.DAEMON_STOP)], barrier=True)
        await self.heads.take()
        await self.database.close()

    async def _keep_house(self) -> None:
        while True:
            await asyncio.sleep(_HOUSEKEEPING)
            self.tidy()

    def tidy(self) -> None:
        """Idle conversations give back what they do not need: the memory of their file, at last the agent."""
        now = self.shared.clock()
        for conversation in self.conversations.values():
            if conversation.versions.memory is not None and not conversation.busy:
                conversation.post(inbox.Tick())
            if conversation.agent is None or conversation.busy:
                continue
            if now - conversation.idle_since > conversation.workspace.idle_stop(conversation.role):
                conversation.post(inbox.StopAgent(again=False, force=False, idle=True))

    def _limit_idle(self, _: Conversation) -> None:
        idle = [c for c in self.conversations.values() if c.agent is not None and c.agent.ready and not c.busy]
        idle.sort(key=lambda c: c.idle_since)
        for conversation in idle[: max(0, len(idle) - MOST_IDLE)]:
            conversation.post(inbox.StopAgent(again=False, force=False, idle=True))

    # ---- workspaces ----------------------------------------------------------------------------------------------------

    async def workspace(
        self, target: str, agent: str | None, environment: dict[str, str] | None, default: str | None = None
    ) -> Workspace:
        """The workspace of a target with its binding as it is now. A conversation file stands for its conversation's.

        `default`: the agent where no binding names one.

        Raises NoBinding, BindingInvalid, WorkspaceRefused, NotFound.
        """
        if os.path.isfile(target):
            record = (await self.found(target, fork=True)).record
            target, default = record.workspace, record.agent
        given = environment or self.brought(target)
        found = Workspace.resolve(target, agent, given, self.database, default_agent=default)
        self.workspaces[found.path] = found
        self.remember(found.path, environment)
        self.watching.add(found)
        return found

    def brought(self, target: str) -> dict[str, str]:
        """The environment that came with a request for the workspace of this path, if one did."""
        real = Path(os.path.realpath(target))
        known = (self.shared.environments.get(str(folder)) for folder in (real, *real.parents))
        return next((each for each in known if each), {})

    async def environment(self, given: dict[str, str] | None, path: str) -> dict[str, str]:
        """What a client brought, else what one brought for this path before, else that of the user of this machine."""
        return given if given is not None else self.brought(path) or await self.own.environment()

    def remember(self, workspace: str, environment: dict[str, str] | None) -> None:
        """Keep what a client brought, for the next start of an agent there; what waited for it can go on."""
        if environment is not None:
            self.shared.known.learn(environment)
            if environment or workspace not in self.shared.environments:
                self.shared.environments[workspace] = environment
            for conversation in self.conversations.values():
                if conversation.queue and conversation.record.workspace == workspace:
                    conversation.post(inbox.Look())

    def remember_for(self, workspace: str, other: str) -> None:
        """A directory of which no client told an environment gets that of another, from where it is called."""
        if workspace not in self.shared.environments and (given := self.brought(workspace) or self.brought(other)):
            self.remember(workspace, given)

    def look_again(self, record: Record) -> Workspace:
        """The directory of a conversation as it is now, judged for its own agent."""
        given = self.brought(record.workspace)
        try:
            return Workspace.resolve(record.workspace, record.agent, given, self.database)
        except NotFound:  # the role is gone from the binding; what is there can still be shown
            return Workspace.resolve(record.workspace, None, given, self.database, default_agent=record.agent)

    # ---- conversations -------------------------------------------------------------------------------------------------

    async def found(self, word: str, fork: bool = False, origin: str = "") -> Conversation:
        """By id, unique prefix, name or path; a conversation file that the log does not know is taken in (`adoption.adopt`).

        Raises ConversationNotFound, Conflict, FileRefused.
        """
        try:
            known = self.conversation(word)
        except ConversationNotFound:
            if not os.path.isfile(word):
                raise
        else:
            if not os.path.isfile(word) or whereabouts.holds(word, known.record):
                return known
        record = await adoption.adopt(self, word, fork, origin)
        if moved := self.conversations.get(record.id):
            moved.moved(record)
            return moved
        return self.conversation(record.id)

    async def begun(self, record: Record) -> Conversation:
        """A conversation whose file is there already. Raises Conflict when its id is taken."""
        await self.database.write(lambda db: rows.insert(db, record), barrier=True)
        return self.conversations.get(record.id) or self._adopt(Conversation(record, self.look_again(record), self.shared))

    def conversation(self, ident: str) -> Conversation:
        """By id, unique prefix, name or path. Raises ConversationNotFound."""
        record = self.database.read(lambda db: rows.find(db, ident))
        known = self.conversations.get(record.id)
        if known is not None:
            return known
        workspace = self.look_again(record)
        self.workspaces.setdefault(workspace.path, workspace)
        self.watching.add(workspace)
        return self._adopt(Conversation(record, workspace, self.shared))

    def _adopt(self, conversation: Conversation) -> Conversation:
        record = conversation.record
        conversation.queue.extend(self.database.read(lambda db: turn_rows.unfinished(db, record.id)))
        self.conversations[record.id] = conversation
        self._consumers[record.id] = self.shared.spawn(conversation.consume(), f"conversation-{record.id}")
        return conversation

    async def create(self, workspace: Workspace, agent: str | None, title: str, parent: str = "") -> Conversation:
        """A new conversation with its file in the workspace. `parent`: the file of the one that calls."""
        role = agent or workspace.binding.agent
        if role is None:
            raise NotFound(f"no agent is bound to {workspace.path}", hint=f"opagent init {shlex.quote(workspace.path)}")
        workspace.runtime(role)  # raises when there is none of that name
        self.mirrors.refuse(workspace.path)
        folder, title = workspace.conversations_directory(), self.shared.known.hide(title)
        self.shared.ownership.take(workspace.path)
        for _ in range(20):
            ident = new_conversation(secrets.token_bytes(16))
            taken = {name.lower() for name in os.listdir(folder)}
            name = file_name(time.strftime("%Y-%m-%d"), title or role, lambda name: name.lower() in taken)  # noqa: B023
            record = Record(ident, workspace.path, str(Path(folder) / name), role, title[:200], timestamp())
            try:
                conversation = Conversation(record, workspace, self.shared)
                conversation.file.subject.parent = parent
                return await self.enter(conversation)
            except Conflict:
                continue  # the name or the id was taken meanwhile
        raise Conflict("no free name for a new conversation", folder)

    async def enter(self, conversation: Conversation) -> Conversation:
        """A new one with its file. Raises Conflict when the name or the id is taken."""
        record = conversation.record
        await conversation.file.create()
        await self.database.write(lambda db: rows.insert(db, record), barrier=True)
        made = self.conversations.get(record.id) or self._adopt(conversation)
        made.changed(watched=True)  # it is new, and the watch of its directory may begin after the first save
        return made

    def by_process(self, word: str) -> Conversation:
        """By the id (or a prefix) of its process, by conversation or file, or the last active one of a directory.

        Raises ProcessNotFound.
        """
        if os.path.isdir(word):
            real = os.path.realpath(word)
            inside = [c for c in self.conversations.values() if c.record.workspace == real]
            if not inside:
                raise ProcessNotFound(f"no agent runs in {real}", hint="opagent ps -a")
            return max(inside, key=lambda c: (c.busy, c.agent is not None, c.idle_since))
        meant = [c for c in self.conversations.values() if c.agent is not None and c.agent.id.startswith(word)]
        if len(meant) > 1:
            raise Conflict(
                f"{word!r} fits several processes", ", ".join(str(c.agent and c.agent.id) for c in meant), "opagent ps"
            )
        if meant:
            return meant[0]
        try:
            return self.conversation(word)
        except NotFound as error:
            raise ProcessNotFound(f"no process or conversation is called {word!r}", hint="opagent ps -a") from error

    def log_of(self, word: str) -> str:
        """The id of the process whose log is meant: a process (living or recorded), or the last one of a conversation."""
        try:
            conversation = self.by_process(word)
        except ProcessNotFound:
            if toolprocess.logged(word):
                return word
            return self.database.read(lambda db: process_rows.find(db, word)).id
        if conversation.agent is not None:
            return conversation.agent.id
        last = self.database.read(lambda db: process_rows.last_of(db, conversation.record.id))
        if last is None:
            raise ProcessNotFound(f"no process of {conversation.record.id} has run yet", hint="opagent ps -a")
        return last.id

    def _metered(self, process: ProcessId, usage: Usage) -> None:
        """What the proxy read of one response to an agent."""
        if (found := self.conversations.get(usage.conversation)) is not None:
            self.shared.spawn(spending.metered(found, {"input": usage.input, "output": usage.output}), "metered")

    def refuse_agents(self, client: Client) -> None:
        """A person's word must not come from what an agent started. Raises Denied."""
        if client.agent:
            raise Denied("an agent cannot speak for a person", f"process {client.pid} was started by one", "opagent approvals")

    def counts(self) -> dict[str, int]:
        running = sum(c.current is not None for c in self.conversations.values())
        live = [c for c in self.conversations.values() if c.process_state is not ProcessState.STOPPED]
        return {"conversations": len(self.conversations), "processes": len(live), "running": running}


def host_id() -> str:
    """A name for this host that outlives restarts: made once, kept in the state directory."""
    path = paths.host_id_file()
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        name = f"{socket.gethostname().split('.')[0]}-{secrets.token_hex(4)}"
        path.write_text(name + "\n")
        return name
