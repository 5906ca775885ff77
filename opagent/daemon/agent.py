"""One agent process of one conversation: its pipes, and its way from spawn to a session; decides nothing about turns.

`Agent` has a reader task (stdout -> connection -> inbox) and a writer task (outbox -> stdin). The consumer of the inbox
calls `on_reply` and `on_refusal` while the agent is coming up; they send the next request of the handshake:
initialize, then session/resume, session/load or session/new, then the settings of the role. Ready is the reply, not the pid.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from opagent import jsonrpc
from opagent.acp import messages, pace
from opagent.acp.connection import Connection, Noise, Refusal, Reply
from opagent.daemon import inbox
from opagent.daemon.confinement import Plan
from opagent.daemon.shared import Shared
from opagent.errors import AgentFailed, AgentStuck, OpAgentError, SignInNeeded
from opagent.model import ExitReport
from opagent.process.privategit import Private
from opagent.process.supervisor import Launch, Process

OUTBOX_LIMIT = 64 * 2**20  # bytes that may wait for an agent that does not read
SESSION_DEADLINE = 60.0
_DYING = 0.5  # seconds from "nobody reads" to the exit, when a process dies

Post = Callable[[inbox.Item], None]


@dataclass(frozen=True, slots=True)
class Role:
    """What the binding wants of the session."""

    runtime: str
    cwd: str
    services: tuple[str, ...] = ()
    model: str | None = None
    mode: str | None = None
    signin: str = ""
    ready_within: float = 30.0
    comes_back: bool = True  # false: its session/load is known not to work
    own: Mapping[str, Any] = field(default_factory=dict)  # `_meta.opagent` of session/new
    servers: tuple[messages.Body, ...] = ()  # `mcpServers` of session/new
    chosen: tuple[messages.Setting, ...] = ()  # what a person has set since, beyond the binding


class Agent:
    """A running agent. `session` is the agent's own id, `ready` true once the handshake is over."""

    def __init__(self, launch: Launch, generation: int, role: Role, post: Post, plan: Plan) -> None:
        self.id, self.generation, self.role, self._post = launch.id, generation, role, post
        self.plan, self.box = plan, launch.box  # how firmly it is held, and what it reaches
        self._launch = launch
        self.needed = 0  # bytes of memory that its runtime asks for, where no binding says how much it may have
        self.git: Private | None = None  # what it sees of the repository of its workspace
        self.notices: tuple[str, ...] = ()  # for the person, with its first turn
        self.began = 0  # its last turn, nanoseconds of the wall clock
        self.scripts: dict[str, str] = {}  # of package.json, as they were before that
        self.stale = False  # something that was mounted for it is not any more
        self.connection = Connection()
        self.facts = messages.AgentFacts()
        self.ready = False
        self.session: str | None = None
        self.fresh = False  # a new session: it knows nothing of the conversation so far
        self.replaying = False  # it comes back to a session; some say again what stands in the file already
        self.session_facts: dict[str, Any] = {}
        self.process: Process | None = None
        self.last_heard = 0.0  # loop time of the last byte
        self.stopping = False
        self.hit = ""  # the limit for which it is ended, as a sentence
        self._again: str | None = None  # the session to come back to
        self._settings: list[messages.Setting] = []
        self._setting: messages.Setting = ("", {})  # the one that the agent was asked for last
        self._outbox: asyncio.Queue[bytes] = asyncio.Queue()
        self._waiting_bytes = 0
        self._room = asyncio.Semaphore(inbox.UNREAD)
        self._gone = False  # nobody listens any more
        self.pace, self._slowed = pace.Pace(asyncio.get_running_loop().time()), False
        self._timers: dict[str, asyncio.TimerHandle] = {}

    # ---- process ---------------------------------------------------------------------------------------------------

    async def start(self, session: str | None, shared: Shared) -> None:
        """Spawn and begin the handshake. Raises the errors of `Process.start`."""
        self._again = session
        self.process = await Process.start(self._launch)
        self.last_heard = asyncio.get_running_loop().time()
        shared.spawn(self._read(self.process), name=f"reader-{self.id}")
        shared.spawn(self._write(self.process), name=f"writer-{self.id}")
        self.request("initialize", messages.initialize(self.role.services))
        self.deadline("initialize", self.role.ready_within)

    @property
    def lives(self) -> bool:
        """False from the moment of its death on, before the inbox hears of it."""
        return self.process is not None and self.process.lives

    async def _read(self, process: Process) -> None:
        """stdout to the inbox until the end, then the exit. Waits when the inbox is full, and so does the agent."""
        loop = asyncio.get_running_loop()
        try:
            while data := await process.read():
                self.last_heard = loop.time()
                if not self._gone and (incoming := self.connection.receive(data)):
                    await self._room.acquire()
                    self._post(inbox.FromAgent(self.generation, tuple(incoming)))
                    await self.slow_down(len(incoming))
            if not self._gone:
                await self._room.acquire()
            self._post(inbox.FromAgent(self.generation, tuple(self.connection.receive(b""))))
        except OpAgentError as error:
            self._post(inbox.Failed(self.generation, error))
        if not self.stopping:
            # it closed its stdout: whether it still lives or not, it is of no use any more
            why = "closed its output"
            report = await (process.wait() if process.ended else process.stop(stdin=0.5, term=2.0, reason=why))
            self._post(inbox.Exited(self.generation, report))

    async def slow_down(self, messages: int) -> None:
        """Nothing is read for a while from an agent that sends too much; a person is told once."""
        if wait := self.pace.wait(messages, asyncio.get_running_loop().time()):
            if not self._slowed:
                self._slowed = True
                said = f"the agent sends more than {pace.RATE:,.0f} messages a second: it is slowed down"
                await self._room.acquire()
                self._post(inbox.FromAgent(self.generation, (Noise(said, False, b""),)))
            await asyncio.sleep(wait)

    async def _write(self, process: Process) -> None:
        while not process.ended:
            data = await self._outbox.get()
            self._waiting_bytes -= len(data)
            if not data:
                return
            try:
                await process.send(data)
            except OpAgentError as error:
                await asyncio.sleep(0.0 if isinstance(error, AgentStuck) else _DYING)
                if not process.ended and not self.stopping:  # else its exit is on its way, and says more
                    self._post(inbox.Failed(self.generation, error))
                return

    def forget(self) -> None:
        """No more timers, nothing more to write: the process is gone or about to go."""
        self.ready = False
        self._gone = True
        self._room.release()  # the reader may wait for room that nobody makes any more
        for timer in self._timers.values():
            timer.cancel()
        self._outbox.put_nowait(b"")

    async def stop(self, force: bool = False) -> ExitReport | None:
        """The stop ladder; the tree is gone afterwards."""
        self.stopping = True
        self.forget()
        if self.process is None:
            return None
        return await (self.process.stop(stdin=0.0, term=0.0) if force else self.process.stop())

    def taken(self) -> None:
        """The consumer has dealt with one `FromAgent`: there is room for another."""
        self._room.release()

    def speaks_of(self, session: str) -> bool:
        """Whether an update with this session id belongs here: before the id is known all do, and so do those without one."""
        return self.session is None or session in ("", self.session)

    # ---- saying ----------------------------------------------------------------------------------------------------

    def say(self, data: bytes) -> None:
        """Put a line into the outbox. Raises AgentStuck when too much waits."""
        self._waiting_bytes += len(data)
        if self._waiting_bytes > OUTBOX_LIMIT:
            raise AgentStuck(f"{self.role.runtime} does not read", f"{self._waiting_bytes} bytes wait for it", "opagent restart")
        self._outbox.put_nowait(data)

    def request(self, method: str, params: Mapping[str, Any]) -> int:
        """Send a request; its number comes back with the reply. Raises AgentStuck when too much waits."""
        number, data = self.connection.request(method, params)
        self.say(data)
        return number

    def notify(self, method: str, params: Mapping[str, Any]) -> None:
        self.say(self.connection.notify(method, params))

    def answer(self, ident: jsonrpc.Id, result: Any) -> None:
        self.say(self.connection.answer(ident, result))

    def refuse(self, ident: jsonrpc.Id, code: int, words: str) -> None:
        self.say(self.connection.refuse(ident, code, words))

    def deadline(self, what: str, seconds: float) -> None:
        """Post `Deadline(what)` after so many seconds, unless `met(what)` came first."""
        self.met(what)
        item = inbox.Deadline(self.generation, what)
        self._timers[what] = asyncio.get_running_loop().call_later(seconds, self._post, item)

    def due(self, what: str) -> bool:
        """Whether a deadline that came was not met meanwhile."""
        return self._timers.pop(what, None) is not None

    def met(self, what: str) -> None:
        if timer := self._timers.pop(what, None):
            timer.cancel()

    # ---- handshake -------------------------------------------------------------------------------------------------

    def on_reply(self, reply: Reply) -> None:
        """The next step of the handshake. Raises AgentFailed when the agent cannot be used."""
        match reply.method:
            case "initialize":
                self.met("initialize")
                self.facts = messages.facts(reply.result)
                if self.facts.protocol not in (1, 2):  # some answer 2 and go on speaking 1
                    raise AgentFailed(
                        f"{self.role.runtime} speaks another protocol", f"it answered version {self.facts.protocol}, we speak 1"
                    )
                self._open_session()
            case "session/new" | "session/load" | "session/resume":
                self.replaying = False
                self.fresh = reply.method == "session/new"
                self.session = messages.as_text(reply.result.get("sessionId")) if self.fresh else self._again
                if not self.session:
                    raise AgentFailed(f"{self.role.runtime} gave no session id")
                self.session_facts = reply.result
                self._settings = [*self._wanted_settings()]
                self._next_setting()
            case "session/set_mode" | "session/set_model" | "session/set_config_option":
                self.session_facts = messages.after_setting(self.session_facts, self._setting, reply.result)
                self._next_setting()

    def on_refusal(self, refusal: Refusal) -> str | None:
        """An error as the answer of a handshake step. Returns a note, or raises AgentFailed when there is no way on."""
        if refusal.method in ("session/load", "session/resume"):
            self._again, self.replaying = None, False
            self._open_session()
            return None
        if refusal.method.startswith("session/set_"):
            self._next_setting()
            return f"the agent refused {refusal.method}: {refusal.message}"
        if refusal.code == messages.AUTH_REQUIRED:
            raise self.signed_out(refusal)
        raise AgentFailed(f"{self.role.runtime} refused {refusal.method}", f"it says: {refusal.message}")

    def signed_out(self, refusal: Refusal) -> SignInNeeded:
        """The agent wants an account: what a person has to type, and the ways that it names itself."""
        ways = messages.ways_to_sign_in(self.facts)
        why = f"it says: {refusal.message}" + (f"; its ways are: {ways}" if ways else "")
        return SignInNeeded(f"{self.role.runtime} wants you to sign in", why, self.role.signin or f"opagent logs {self.id}")

    def _open_session(self) -> None:
        self.deadline("session", SESSION_DEADLINE)
        if self._again and self.role.comes_back and (self.facts.resume or self.facts.load):
            method = "session/resume" if self.facts.resume else "session/load"
            self.replaying = True
            self.request(method, messages.session_again(self._again, self.role.cwd, self.role.own, self.role.servers))
        else:
            self.request("session/new", messages.session_new(self.role.cwd, self.role.own, self.role.servers))

    def _wanted_settings(self) -> list[messages.Setting]:
        wanted = [("model", self.role.model), ("mode", self.role.mode)]
        found = [messages.choices(self.session_facts, category, value) for category, value in wanted if value]
        return [*(one for one in found if one), *self.role.chosen]

    def _next_setting(self) -> None:
        if self._settings:
            method, params = self._setting = self._settings.pop(0)
            self.request(method, {"sessionId": self.session, **params})
        else:
            self.met("session")
            self.ready = True
