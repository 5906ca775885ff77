"""The links of this daemon to other machines, a local socket for each, and the questions that only a person can answer.

A client asks for a link (`link/open`) and gets the path of a socket: what it says there, the daemon on the other machine hears.
(Design: "Remote open", "The link".)
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opagent import control, files, jsonrpc, paths
from opagent.daemon import reflecting
from opagent.daemon.params import Params, maybe, text
from opagent.daemon.server import Client, peer
from opagent.errors import HostUnreachable, NotFound, OpAgentError
from opagent.process import tree
from opagent.remote.link import Link, LinkState
from opagent.remote.seam import Ask, Connection, Phase, Question, Stream, Tell
from opagent.store import machines as rows
from opagent.store.events import AuditKind, Draft, timestamp
from opagent.store.machines import Machine
from opagent.target import Target, machine

if TYPE_CHECKING:
    from opagent.daemon.host import Host
    from opagent.remote.bootstrap import Facts, Landed, Wanted
    from opagent.remote.bridge import Bridge, Examined, Known
    from opagent.remote.dial import Settings

    _Way = tuple[Target, Settings, Known, Ask, Tell, Wanted]

log = logging.getLogger(__name__)

_LOOK = 5.0  # seconds between two looks at the clocks
_RECORDED = {LinkState.CONNECTED: AuditKind.HOST_CONNECT, LinkState.LOST: AuditKind.HOST_LOST}
_SLEPT = 3.0  # seconds that the machine must have slept for its links to be doubted


@dataclass(eq=False, slots=True)
class Reached:
    """A machine that somebody asked for since the daemon began. `since`: of the link's state, ISO 8601."""

    record: Machine
    link: Link
    since: str
    agent: str | None = None  # the ssh-agent of who asked last
    config: str | None = None
    remembered: Bridge | None = None  # whose facts are in the record
    server: asyncio.Server | None = None
    door: asyncio.Lock = field(default_factory=asyncio.Lock)  # one opens it for all who come at once
    pumps: set[asyncio.Task[None]] = field(default_factory=set)


class Links:
    """One per host. Nothing is dialed unless a client asks."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._reached: dict[str, Reached] = {}
        self._questions: dict[str, tuple[Client, asyncio.Future[str | None]]] = {}

    # ---- methods ---------------------------------------------------------------------------------------------------------

    async def open(self, client: Client, params: Params) -> dict[str, Any]:
        """A socket to the daemon of a machine. `again`: the caller lost it; it waits, and a daemon that ended is started.

        Raises HostUnreachable and its kinds, Usage.
        """
        name = machine(text(params, "machine")).machine
        path = await self.socket(name, client, params)
        return {"machine": name, "socket": str(path), **_shown(self._reach(name))}

    async def socket(self, name: str, client: Client, params: Params) -> Path:
        """The socket to the daemon of a machine, once the link stands. Parameters and errors as for `open`."""
        again, asks = bool(params.get("again")), bool(params.get("asks"))
        reached = self._reach(name)
        if reached.link.bridge is None or "agent" in params or "config" in params:
            reached.agent, reached.config = maybe(params, "agent"), maybe(params, "config")
        if again:
            await reached.link.sound()
        ask = self._ask(client, asks) if asks else None
        up = asyncio.ensure_future(reached.link.up(ask, self._tell(client, name), patient=again))
        gone = asyncio.ensure_future(client.gone.wait())
        try:
            await asyncio.wait({up, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not up.done():
                raise HostUnreachable("nobody waits for the link any more")
            made = up.result()
        finally:
            up.cancel()
            gone.cancel()
        return await self._stands(reached, made)

    async def unasked(self, name: str) -> Path:
        """The same where no person is there who could be asked: one attempt. Raises HostUnreachable and its kinds."""
        reached = self._reach(name)
        return await self._stands(reached, await reached.link.up(None, reflecting.silent))

    async def _stands(self, reached: Reached, made: Bridge) -> Path:
        name = reached.record.name
        if new := reached.remembered is not made:
            await self._remember(reached, made)
        await self._listen(reached)
        self._host.attending.begin(name)
        if new:
            self._host.shared.spawn(self._host.heads.compare(name), f"the journal of {name}")
        self._host.mirrors.wake(name)
        return paths.machine_socket(name)

    async def finish(self, name: str) -> None:
        """One attempt, to its end, also where who wants it has no time: what is copied to a machine is not cut half-way."""
        reached = self._reach(name)
        try:
            made = await reached.link.up(None, reflecting.silent)
        except OpAgentError as error:
            log.info("%s: %s", name, error)
            return
        if reached.remembered is not made:
            await self._remember(reached, made)

    def connected(self, name: str) -> bool:
        """Whether its link stands. Dials nothing."""
        reached = self._reached.get(name)
        return reached is not None and reached.link.bridge is not None

    def alone(self, name: str) -> bool:
        """Whether nobody uses its link but one."""
        reached = self._reached.get(name)
        return reached is None or reached.link.streams <= 1

    def standing(self) -> list[str]:
        """The machines whose links stand and have a door."""
        return [name for name, each in self._reached.items() if each.link.bridge is not None and each.server is not None]

    async def doubt(self, name: str) -> None:
        """Its link may stand and its daemon be gone: then it is taken down, and made anew where somebody wants it."""
        if (reached := self._reached.get(name)) is not None:
            await reached.link.sound()

    def keep(self, record: Machine) -> Machine:
        """What is remembered of a machine from now on; its row is written by the caller."""
        if (reached := self._reached.get(record.name)) is not None:
            reached.record = record
        return record

    def drop(self, name: str) -> None:
        """Its link is given back, and what is remembered of it in this daemon."""
        if (reached := self._reached.pop(name, None)) is not None:
            self._end(reached, "it is no longer known")

    async def landed(self, name: str, client: Client, params: Params, verb: str) -> tuple[Landed, str]:
        """What a new landing says to a verb, and the identity of the machine. Raises HostUnreachable and its kinds."""
        from opagent.remote import bridge

        _, way = self._anew(name, client, params, verb)
        landed, connection = await bridge.once(*way)
        return landed, connection.identity

    async def examined(self, name: str, client: Client, params: Params) -> Examined:
        """A machine and the way to it, looked at by a new landing. Raises HostUnreachable and its kinds."""
        from opagent.remote import bridge, pythons

        reached, way = self._anew(name, client, params, "check")
        found = await bridge.examine(*way)
        if pythons.base_of(found.landed.facts.python):  # nobody is asked again for one that is there now
            await self._seen(reached, found.connection, found.landed.facts)
        return found

    def _anew(self, name: str, client: Client, params: Params, verb: str) -> tuple[Reached, _Way]:
        """How a machine is dialed for a client beside the link that others use."""
        from opagent.remote import bridge

        reached = self._reach(name)
        reached.agent, reached.config = maybe(params, "agent"), maybe(params, "config")
        ask, tell = self._ask(client, bool(params.get("asks"))), self._tell(client, name)
        known = bridge.Known(reached.record.identity, reached.record.facts)
        settings, wanted = _settings(reached, verb)
        return reached, (machine(reached.record.target), settings, known, ask, tell, wanted)

    def answer(self, question: str, answer: str | None, client: Client) -> None:
        """What a person said. Raises NotFound for a question that was not put to this client, or is over."""
        asked, future = self._questions.get(question, (None, None))
        if asked is not client or future is None or future.done():
            raise NotFound(f"no question {question} is open")
        future.set_result(answer)

    def listed(self) -> list[dict[str, Any]]:
        """Every machine that is known, with the state of its link."""
        known = {record.name: record for record in self._host.database.read(rows.listed)}
        found = []
        for name, record in known.items():
            reached = self._reached.get(name)
            journal = {"journal": back} if (back := self._host.heads.went_back(name)) else {}
            found.append({**record.as_json(), **(_shown(reached) if reached else {"state": LinkState.IDLE.value}), **journal})
        return found

    def close(self) -> None:
        for reached in self._reached.values():
            self._end(reached, "the daemon stops")

    def _end(self, reached: Reached, why: str) -> None:
        reached.link.close(why)
        if reached.server is not None:
            reached.server.close()
        paths.machine_socket(reached.record.name).unlink(missing_ok=True)
        for pump in reached.pumps:
            pump.cancel()

    async def doubt_after_sleep(self) -> None:
        """For ever: when this machine wakes up, see at once which links still stand."""
        slept = _asleep()
        while True:
            await asyncio.sleep(_LOOK)
            before, slept = slept, _asleep()
            if slept - before > _SLEPT:
                log.info("slept for %.0f s", slept - before)
                for reached in self._reached.values():
                    if reached.link.bridge is not None:
                        self._host.shared.spawn(self.doubt(reached.record.name), f"doubt {reached.record.name}")

    # ---- machines --------------------------------------------------------------------------------------------------------

    def _reach(self, name: str) -> Reached:
        known = self._reached.get(name)
        if known is not None:
            return known
        record = self._host.database.read(lambda db: rows.get(db, name)) or Machine(name, machine(name).machine)
        link = Link(lambda ask, tell: self._build(reached, ask, tell), self._host.shared.chance, lambda: self._moved(reached))
        reached = Reached(record, link, "")
        self._reached[name] = reached
        self._moved(reached)
        return reached

    def _moved(self, reached: Reached) -> None:
        reached.since = timestamp()
        if (kind := _RECORDED.get(reached.link.state)) is not None:
            obj = {"host": reached.record.name, **({"why": reached.link.why} if reached.link.why else {})}
            self._host.shared.record(Draft(kind, facts={"obj": obj}))
        reflecting.moved(self._host, reached)

    async def _build(self, reached: Reached, ask: Ask, tell: Tell) -> Bridge:
        from opagent.remote import bridge  # with all that dialing needs: most daemons never dial

        record, (settings, wanted) = reached.record, _settings(reached, "open")
        known = bridge.Known(record.identity, record.facts)
        return await bridge.build(machine(record.target), settings, known, ask, tell, wanted)

    async def _remember(self, reached: Reached, made: Bridge) -> None:
        """So that the next dial finds the daemon at once, and `host list` the machine."""
        reached.remembered = made
        await self._seen(reached, made.connection, made.facts)

    async def _seen(self, reached: Reached, connection: Connection, facts: Facts) -> None:
        record = reached.record.seen(connection.identity, facts.as_json(), connection.transport, self._host.shared.now())
        reached.record = record
        if self._reached.get(record.name) is reached:  # nobody has forgotten it meanwhile
            await self._host.database.write(lambda db: rows.put(db, record))

    # ---- the socket ------------------------------------------------------------------------------------------------------

    async def _listen(self, reached: Reached) -> None:
        async with reached.door:
            path = paths.machine_socket(reached.record.name)
            if reached.server is None or not path.exists():
                await self._open_door(reached, path)

    async def _open_door(self, reached: Reached, path: Path) -> None:
        if reached.server is not None:  # somebody removed its name
            reached.server.close()
        files.private_directory(path.parent)
        path.unlink(missing_ok=True)

        async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            reached.pumps.add(task)
            try:
                await _joined(reached.link, reader, writer)
            except asyncio.CancelledError:
                pass  # the daemon ends, and a stream's task that says so is logged as a mistake
            finally:
                reached.pumps.discard(task)
                writer.close()

        reached.server = await asyncio.start_unix_server(accepted, path=str(path), limit=control.FRAME_LIMIT)
        os.chmod(path, 0o600)

    # ---- the person ------------------------------------------------------------------------------------------------------

    def _tell(self, client: Client, name: str) -> Tell:
        def tell(phase: Phase) -> None:
            facts = {"machine": name, "phase": phase.name, "text": phase.text, "done": phase.done, "total": phase.total}
            client.send(jsonrpc.encode(jsonrpc.Notification("link", facts)))

        return tell

    def _ask(self, client: Client, asks: bool) -> Ask:
        async def ask(question: Question) -> str | None:
            if not asks or client.gone.is_set():
                return None
            ident = secrets.token_hex(4)
            future: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
            self._questions[ident] = (client, future)
            facts = {"id": ident, "kind": question.kind, "text": question.text, "secret": question.secret}
            client.send(jsonrpc.encode(jsonrpc.Notification("question", facts)))
            try:
                return await future
            finally:
                del self._questions[ident]

        return ask


def _settings(reached: Reached, verb: str) -> tuple[Settings, Wanted]:
    """How a machine is dialed, and what is wanted there."""
    from opagent.remote.bootstrap import Wanted
    from opagent.remote.dial import Settings

    said = dict(reached.record.settings)
    python, portable, command = str(said.pop("python", "")), str(said.pop("portable", "")), tuple(said.pop("command", ()))
    settings = Settings(**{"agent": reached.agent, "config": reached.config, **said, "command": command})
    return settings, Wanted(reached.record.name, python, verb, portable)


def _shown(reached: Reached) -> dict[str, Any]:
    link = reached.link
    return {"state": link.shown.value, "since": reached.since, **({"why": link.why} if link.why else {})}


def _asleep() -> float:
    """Seconds that this machine has slept since it was started."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic() if hasattr(time, "CLOCK_BOOTTIME") else 0.0


async def _joined(link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The bytes of a local client to the daemon there and back, until one of them ends."""
    pid, uid = peer(writer.get_extra_info("socket"))
    if uid != os.geteuid() or (pid != os.getpid() and tree.speaks_for_an_agent(pid)):
        log.warning("refused process %d of uid %d: a link speaks for a person", pid, uid)
        return
    try:
        bridge = link.enter()
    except OpAgentError as error:
        log.info("no stream: %s", error)
        return
    stream: Stream | None = None
    try:
        writer.write(bridge.greeting)  # at once: what the client says next travels with the opening of the stream
        ready = bridge.ready()
        stream = ready or await bridge.stream()
        async with asyncio.TaskGroup() as tasks:
            back = tasks.create_task(_back(stream, writer, b"" if ready is not None else bridge.greeting))
            tasks.create_task(_forth(reader, stream, back))
    except* (OSError, OpAgentError) as lost:
        log.debug("a stream ended: %s", lost.exceptions)
    finally:
        if stream is not None:
            stream.close()
        link.leave()


async def _back(stream: Stream, writer: asyncio.StreamWriter, greeting: bytes) -> None:
    """`greeting` was said already. A daemon that greets otherwise is another one: the client has to begin anew."""
    while data := await stream.read():
        if greeting:
            said = min(len(greeting), len(data))
            if data[:said] != greeting[:said]:
                break
            greeting, data = greeting[said:], data[said:]
        writer.write(data)
        await writer.drain()
    with contextlib.suppress(OSError):
        writer.close()  # the client reads the end, and asks for the link again


async def _forth(reader: asyncio.StreamReader, stream: Stream, back: asyncio.Task[None]) -> None:
    while data := await reader.read(1 << 16):
        await stream.write(data)
    back.cancel()
