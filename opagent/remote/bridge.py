"""A connection to another machine with the daemon there at its other end: dialing, bringing our code, streams to its socket."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from opagent import control
from opagent.errors import HostUnreachable, OpAgentError
from opagent.remote import bootstrap
from opagent.remote.bootstrap import Facts, Landed, Wanted, facts_from_json
from opagent.remote.channels import Channels
from opagent.remote.dial import Settings, dial
from opagent.remote.payload import payload
from opagent.remote.portable import Portable
from opagent.remote.seam import Ask, Connection, Ended, Phase, Question, Stream, Tell
from opagent.target import Target

_FRESH = 5.0  # seconds for which a stream that has greeted is kept: the daemon there waits ten for an answer
_GREETS_WITHIN = 10.0
_PINGS, _PING_WITHIN = 5, 5.0  # how often a round trip is measured, and the seconds for all of them


class Greeted:
    """A stream whose first line was read: what came behind it is read first."""

    def __init__(self, stream: Stream, greeting: bytes, rest: bytes) -> None:
        self.greeting, self.at = greeting, time.monotonic()
        self._stream, self._rest = stream, rest

    async def read(self) -> bytes:
        rest, self._rest = self._rest, b""
        return rest or await self._stream.read()

    async def write(self, data: bytes) -> None:
        await self._stream.write(data)

    async def end(self) -> None:
        await self._stream.end()

    def close(self) -> None:
        self._stream.close()

    async def ended(self) -> Ended:
        return await self._stream.ended()


class Bridge:
    """`facts` are what the machine said of itself. Streams share the one to the landing, or each has a forwarded socket.

    `greeting` is the line that the daemon there begins every stream with: known beforehand, it need not be waited for.
    """

    def __init__(self, connection: Connection, facts: Facts, channels: Channels | None, first: Greeted, wanted: Wanted) -> None:
        self.connection, self.facts = connection, facts
        self.greeting = first.greeting
        self._channels, self._wanted = channels, wanted
        self._ready: Greeted | None = first

    async def stream(self) -> Stream:
        """A connection to the daemon's socket there, at its first byte. Raises OSError, OpAgentError."""
        if self._channels is None:
            found = await self.connection.socket(self.facts.socket)
            if found is not None:
                return found
            landed = await _landed(self.connection, self.facts, _nobody, _silent, self._wanted)
            self.facts, self._channels = landed.facts, _running(landed.stream)
        return await self._channels.open()

    def ready(self) -> Greeted | None:
        """The stream that greeted last, once and while it is fresh: nothing need be waited for."""
        found, self._ready = self._ready, None
        if found is not None and time.monotonic() - found.at > _FRESH:
            found.close()
            return None
        return found

    async def greets(self) -> None:
        """See that a daemon answers there. Raises HostUnreachable when none does, OSError."""
        found = await _greeted(await self.stream())
        before, self._ready = self._ready, found
        self.greeting = found.greeting
        if before is not None:  # nobody came for it
            before.close()

    async def lost(self) -> str:
        """Waits for the end of the connection, and says why."""
        return await self.connection.lost()

    def close(self) -> None:
        self.connection.close()


@dataclass(frozen=True, slots=True)
class Known:
    """What is remembered of the machine that had this identity; both empty for one that was never reached."""

    identity: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)

    def of(self, identity: str) -> Facts | None:
        """Only for the same machine: another one behind the name is another one."""
        if not self.facts or self.identity != identity:
            return None
        with contextlib.suppress(ValueError):  # an older version remembered less
            return facts_from_json(dict(self.facts))
        return None


async def once(
    target: Target, settings: Settings, known: Known, ask: Ask, tell: Tell, wanted: Wanted
) -> tuple[Landed, Connection]:
    """What a landing says to a verb, and the connection of its own, closed, that said who the machine is. Raises as `build`."""
    async with _anew(target, settings, known, ask, tell, wanted) as (landed, connection):
        landed.stream.close()
        return landed, connection


@dataclass(frozen=True, slots=True)
class Examined:
    """A landing that checked its machine, and the way there. `connection` is closed; `round_trip` in seconds, where measured."""

    landed: Landed
    connection: Connection
    round_trip: float | None
    forwards: bool  # sockets


async def examine(target: Target, settings: Settings, known: Known, ask: Ask, tell: Tell, wanted: Wanted) -> Examined:
    """By the verb `check`, on a connection of its own. Raises as `build` does."""
    async with _anew(target, settings, known, ask, tell, wanted) as (landed, connection):
        path = landed.report.get("socket") if isinstance(landed.report, dict) else None
        forwards = isinstance(path, str) and path != "" and await _forwards(connection, path)
        return Examined(landed, connection, await _round_trip(landed.stream), forwards)


@contextlib.asynccontextmanager
async def _anew(
    target: Target, settings: Settings, known: Known, ask: Ask, tell: Tell, wanted: Wanted
) -> AsyncIterator[tuple[Landed, Connection]]:
    tell(Phase("dialing", target.machine))
    connection = await dial(target, ask, tell, settings)
    try:
        yield await _landed(connection, known.of(connection.identity), ask, tell, wanted), connection
    finally:
        connection.close()
        tell(Phase("connected", target.machine))


async def _forwards(connection: Connection, path: str) -> bool:
    """Whether a socket where somebody listens can be reached."""
    try:
        stream = await connection.socket(path)
    except (OSError, OpAgentError):
        return False
    if stream is not None:
        stream.close()
    return stream is not None


async def _round_trip(stream: Stream) -> float | None:
    """The shortest of some, to a program that sends back what it reads."""
    took = []
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(_PING_WITHIN):
            for _ in range(_PINGS):
                began = time.monotonic()
                await stream.write(b".")
                if not await stream.read():
                    break
                took.append(time.monotonic() - began)
    return min(took, default=None)


async def build(target: Target, settings: Settings, known: Known, ask: Ask, tell: Tell, wanted: Wanted) -> Bridge:
    """Dial, and see that the daemon runs there: one that answers at the remembered socket is taken as it is.

    Raises HostUnreachable and its kinds.
    """
    tell(Phase("dialing", target.machine))
    connection = await dial(target, ask, tell, settings)
    try:
        facts, channels = known.of(connection.identity), None
        first = await _attached(connection, facts) if facts is not None else None
        if first is None:
            landed = await _landed(connection, facts, ask, tell, wanted)
            facts, channels = landed.facts, _running(landed.stream)
            first = await _greeted(await channels.open())
    except BaseException:
        connection.close()
        raise
    assert facts is not None
    tell(Phase("connected", target.machine))
    return Bridge(connection, facts, channels, first, wanted)


async def _landed(connection: Connection, facts: Facts | None, ask: Ask, tell: Tell, wanted: Wanted) -> Landed:
    removes = wanted.verb.startswith("purge")  # that puts nothing there first
    bring = None if removes else Portable(wanted.name, wanted.portable, ask).bring
    return await bootstrap.bootstrap(connection, await asyncio.to_thread(payload), tell, facts, wanted, bring)


async def _attached(connection: Connection, facts: Facts) -> Greeted | None:
    """A stream to the daemon that was there the last time, if it is still."""
    try:
        stream = await bootstrap.attach(connection, facts)
        return await _greeted(stream) if stream is not None else None
    except (OSError, OpAgentError):
        return None


async def _greeted(stream: Stream) -> Greeted:
    """Raises HostUnreachable for a stream that says nothing, or too much."""
    said = b""
    try:
        async with asyncio.timeout(_GREETS_WITHIN):
            while b"\n" not in said and len(said) < control.FRAME_LIMIT and (data := await stream.read()):
                said += data
    except TimeoutError:
        pass
    line, newline, rest = said.partition(b"\n")
    if not newline:
        stream.close()
        raise HostUnreachable("the daemon there does not answer", f"it said {len(said)} bytes", "opagent host check HOST")
    return Greeted(stream, line + newline, rest)


def _running(stream: Stream) -> Channels:
    """Its task ends with the stream."""
    channels = Channels(stream)
    channels.task = asyncio.create_task(channels.run(), name="channels")
    return channels


def _silent(_: Phase) -> None:
    """Nobody waits for this."""


async def _nobody(_: Question) -> None:
    """Nobody is there to be asked."""
