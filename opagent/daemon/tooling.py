"""The MCP servers of the binding, between each agent and them: one consumer per connection, which waits for no person.

    shared.tooling = Tooling(shared)                    # hears of every connection that asks for a server by name
    await shared.tooling.ended(agent.id)                # no server outlives the agent that it runs for

A connection is one client and one process of its server, started when the agent first says something and ended with the
connection. What passes is in `mcp/proxy.py`, what may happen in `toolcalls.py`, how a server runs in `toolprocess.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shlex
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from opagent import jsonrpc
from opagent.acp import pace
from opagent.daemon import inbox, toolbook, toolcalls, toolprocess
from opagent.daemon.connecting import Refusals
from opagent.daemon.lines import Line, Send, Speaker
from opagent.daemon.toolcalls import Verdict
from opagent.daemon.toolprocess import Running
from opagent.errors import AgentFailed, OpAgentError
from opagent.mcp import inventory
from opagent.mcp.inventory import Standing, State
from opagent.mcp.out import Answered, Broken, Out, ToAgent, Tools, ToServer, Wanted, Withdrawn
from opagent.mcp.passing import READS
from opagent.mcp.proxy import Proxy
from opagent.model import Effect, ProcessId

if TYPE_CHECKING:
    from opagent.daemon.shared import Shared

log = logging.getLogger(__name__)

LINE_LIMIT = 16 * 2**20  # bytes of one message of a server
MOST_WAITING = 256  # lines of an agent that may wait; more, and the connection ends
MOST_SESSIONS = 8  # connections of one agent to servers at a time
STARTS, WITHIN = 4, 600.0  # so many starts in so many seconds, then no more
ANSWER_WITHIN, CALL_WITHIN = 60.0, 600.0  # seconds
_WORDS = {
    State.NEW: "is new since its server was first started",
    State.CHANGED: "is described otherwise than it was when it was allowed",
    State.INVISIBLE: "has characters in its description that nobody sees",
}

_Step = Callable[[], Awaitable[None]]


class Tooling:
    """One per daemon."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self.sessions: set[Session] = set()
        shared.lines.named = self._speaker

    def _speaker(self, line: Line, send: Send, name: str) -> Speaker | None:
        """For a connection that asks for a server; None where it gets none."""
        same = [each for each in self.sessions if each.agent == line.id]
        if name not in line.conversation.workspace.binding.tools or len(same) >= MOST_SESSIONS:
            return None
        session = Session(self, line, send, name)
        self.sessions.add(session)
        self._shared.spawn(session.run(), f"tool-{line.id}-{name}")
        return session

    async def ended(self, agent: ProcessId) -> None:
        """The agent is gone: so are its servers, when this returns."""
        await self._close([each for each in self.sessions if each.agent == agent])

    async def close(self) -> None:
        await self._close(list(self.sessions))

    async def _close(self, sessions: Iterable[Session]) -> None:
        ends = []
        for each in sessions:
            each.end()
            ends.append(each.over.wait())
        await asyncio.gather(*ends)

    def running(self, workspace: str, name: str) -> list[ProcessId]:
        """The processes of a server of a directory."""
        found = [each.process for each in self.sessions if (each.workspace, each.name) == (workspace, name)]
        return [ident for ident in found if ident is not None]

    def changed(self, workspace: str) -> None:
        """A person said something about the tools of a directory: what its agents see is another list now."""
        for each in self.sessions:
            if each.workspace == workspace:
                each.changed()


class Session:
    """One connection of one agent to one server. Everything that happens to it passes through one queue."""

    def __init__(self, tooling: Tooling, line: Line, send: Send, name: str) -> None:
        self._tooling, self._c, self._shared = tooling, line.conversation, line.conversation.shared
        self.agent, self.name, self._send = line.id, name, send
        self.workspace = self._c.workspace.path
        self.over = asyncio.Event()
        closed = frozenset(read for read in READS if self._rule(read) is Effect.DENY)
        self._proxy = Proxy(name, Path(self.workspace).as_uri(), closed)
        self._steps: asyncio.Queue[_Step | None] = asyncio.Queue()
        self._room = asyncio.Semaphore(2)  # reads of the server that may wait
        self._running: Running | None = None
        self._reader: asyncio.Task[None] | None = None
        self._starts: list[float] = []
        self._deciding: dict[int, asyncio.Task[None]] = {}
        self._calls: dict[int, Verdict] = {}  # what happens, by the number under which its end comes
        self._timers: set[asyncio.TimerHandle] = set()
        self._refusals = Refusals()
        self._ended = False

    def _rule(self, name: str) -> Effect:
        return toolcalls.rule(self._c, self.name, name).effect

    @property
    def process(self) -> ProcessId | None:
        return self._running.id if self._running is not None else None

    # ---- from other tasks --------------------------------------------------------------------------------------------------

    def take(self, line: bytes) -> None:
        """One that sends and sends without hearing the answers is not listened to any more."""
        if self._ended or self._steps.qsize() > MOST_WAITING:
            self.end()
            raise ConnectionAbortedError("it is not listened to any more")
        self._put(lambda: self._do(self._proxy.from_agent(line)))

    def end(self) -> None:
        if not self._ended:
            self._ended = True
            self._steps.put_nowait(None)

    def changed(self) -> None:
        self._put(lambda: self._do(self._proxy.changed()))

    def _put(self, step: _Step) -> None:
        self._steps.put_nowait(step)

    # ---- the consumer ------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        try:
            while (step := await self._steps.get()) is not None:
                try:
                    await step()
                except OpAgentError as error:  # the store, most of all: nothing is done that is not recorded
                    await self._fail(str(error))
        finally:
            self._ended = True
            await self._forget()

    async def _forget(self) -> None:
        self._tooling.sessions.discard(self)
        for task in [*self._deciding.values()]:
            task.cancel()
        for timer in self._timers:
            timer.cancel()
        try:
            await self._stop()
            for out in self._proxy.lost("the connection ended"):
                if isinstance(out, Answered):
                    await self._answered(out)
        finally:
            self.over.set()

    async def _fail(self, why: str) -> None:
        """Whoever waits for the server hears why, and it is started anew when it is needed."""
        await self._stop()
        await self._do(self._proxy.lost(why))

    async def _do(self, outs: Iterable[Out]) -> None:
        waiting = deque(outs)
        while waiting:
            match waiting.popleft():
                case ToAgent(line):
                    self._send(line)
                case ToServer() as out:
                    waiting.extendleft(reversed(await self._to_server(out)))
                case Tools(items, more):
                    waiting.extend(await self._judged(items, more))
                case Wanted() as wanted:
                    self._decide(wanted)
                case Withdrawn(number):
                    if task := self._deciding.pop(number, None):
                        task.cancel()
                case Answered() as how:
                    await self._answered(how)
                case Broken(why):
                    await self._stop()
                    waiting.extend(self._proxy.lost(why))

    async def _answered(self, how: Answered) -> None:
        if (verdict := self._calls.pop(how.number, None)) is not None:
            await toolcalls.ended(self._c, verdict, how)

    # ---- the server --------------------------------------------------------------------------------------------------------

    async def _to_server(self, out: ToServer) -> list[Out]:
        """Sent; or what has to be done before, where the server has to be started first."""
        if self._running is None or self._running.process.ended:
            if not out.number:
                return []  # a word that wants no answer starts nothing
            try:
                await self._start()
            except OpAgentError as error:
                return self._proxy.lost(str(error))
            return self._proxy.again([out])
        assert self._running is not None
        try:
            await self._running.process.send(out.line)
        except OpAgentError as error:
            await self._stop()
            return self._proxy.lost(str(error))
        if out.number:
            self._within(out.number, CALL_WITHIN if out.number in self._calls else ANSWER_WITHIN)
        return []

    async def _start(self) -> None:
        now = self._shared.clock()
        self._starts = [each for each in self._starts if now - each < WITHIN]
        if len(self._starts) >= STARTS:
            why = f"it ended {STARTS} times within {WITHIN / 60:.0f} minutes"
            raise AgentFailed(f"the tool server {self.name} is not started again", why, f"opagent logs {self._c.record.id}")
        agent = self._c.agent
        if agent is None or agent.id != self.agent:
            raise AgentFailed(f"the tool server {self.name} is not started", "its agent is gone")
        await self._stop()
        self._starts.append(now)
        running = self._running = await toolprocess.start(self._c, agent, self.name)
        self._reader = asyncio.create_task(self._read(running), name=f"tool-{running.id}")

    async def _read(self, running: Running) -> None:
        """Its words, as fast as they are dealt with and not faster than an agent's; then its end."""
        framer, rate = jsonrpc.Framer(LINE_LIMIT), pace.Pace(self._shared.clock())
        while data := await running.process.read():
            before, lines = framer.dropped, framer.feed(data)
            await self._room.acquire()
            self._put(lambda lines=lines, lost=framer.dropped > before: self._heard(running, lines, lost))  # type: ignore[misc]
            if wait := rate.wait(len(lines), self._shared.clock()):
                await asyncio.sleep(wait)
        self._put(lambda: self._gone(running))

    async def _heard(self, running: Running, lines: list[bytes], lost: bool) -> None:
        self._room.release()
        if running is not self._running:
            return  # of one that was ended
        for line in lines:
            await self._do(self._proxy.from_server(line))
        if lost:
            await self._fail(f"it sent a message of more than {LINE_LIMIT // 2**20} MiB")

    async def _gone(self, running: Running) -> None:
        if running is self._running:
            self._running = None
            said = await toolprocess.stop(self._c, running)
            await self._do(self._proxy.lost(f"the server ended: {said}"))

    async def _stop(self) -> None:
        running, self._running = self._running, None
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
            self._reader, self._room = None, asyncio.Semaphore(2)
        if running is not None:
            await toolprocess.stop(self._c, running)

    def _within(self, number: int, seconds: float) -> None:
        """The server has so long for its answer to this."""

        def late() -> None:
            self._timers.discard(timer)
            self._put(lambda: self._do(self._proxy.late(number, f"it did not answer within {seconds:.0f} s")))

        timer = asyncio.get_running_loop().call_later(seconds, late)
        self._timers.add(timer)

    # ---- tools and calls ---------------------------------------------------------------------------------------------------

    async def _judged(self, items: tuple[object, ...], more: bool) -> list[Out]:
        tools, refused = inventory.read(items)
        try:
            look = await toolbook.look(self._shared, self.workspace, self.name, tools)
        except OpAgentError as error:
            return self._proxy.not_listed(str(error))
        hidden = {each.name: f"it cannot be used: {each.why}" for each in refused}
        shown = []
        for each in look.standing:
            name = each.tool.name
            decision = toolcalls.rule(self._c, self.name, name)
            if decision.effect is Effect.DENY:
                hidden[name] = f"denied by {decision.rule}"
            elif each.state is not State.ALLOWED:
                hidden[name] = f"it {_WORDS[each.state]}; a person lets it be used: opagent tools allow {self.name}/{name}"
            else:
                shown.append(each.tool)
        self._tell([each for each in look.fresh if self._rule(each.tool.name) is not Effect.DENY], more)
        return self._proxy.judged(shown, hidden)

    def _tell(self, fresh: list[Standing], more: bool) -> None:
        """In the conversation, once: what the agent does not get."""
        for each in fresh[:20]:
            text = f"The tool {self.name}/{each.tool.name} {_WORDS[each.state]}, and is hidden from the agent."
            hint = f"opagent tools show {self.name}/{each.tool.name} -C {shlex.quote(self.workspace)}"
            body = {"severity": "warning", "hint": hint}
            self._c.post(inbox.Notes(self._c.generation, text, body))
        if more:
            log.warning("%s: %s has more tools than are read", self.agent, self.name)

    def _decide(self, wanted: Wanted) -> None:
        task = asyncio.create_task(self._decided(wanted), name=f"tool-call-{self.agent}-{wanted.number}")
        self._deciding[wanted.number] = task

    async def _decided(self, wanted: Wanted) -> None:
        try:
            verdict = await toolcalls.decided(self._c, self.agent, self.name, wanted, self._refusals)
        except OpAgentError as error:  # what cannot be recorded does not happen
            verdict = Verdict(False, str(error))
        self._put(lambda: self._verdict(wanted.number, verdict))

    async def _verdict(self, number: int, verdict: Verdict) -> None:
        self._deciding.pop(number, None)
        if not verdict.allow:
            await self._do(self._proxy.refuse(number, verdict.why))
            return
        ours, outs = self._proxy.perform(number)
        if not ours:
            why = "it is not wanted any more, or its tool is another one now"
            await toolcalls.ended(self._c, verdict, Answered(0, why))
            if verdict.approval is not None:
                with contextlib.suppress(OpAgentError):
                    await self._shared.approvals.void_answer(self._c, verdict.approval, why)
        else:
            self._calls[ours] = verdict
        await self._do(outs)
