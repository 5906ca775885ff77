"""The dialling side of the multiplexed stream under asyncio: each channel is a `Stream` to the daemon's socket there."""

from __future__ import annotations

import asyncio
from collections import deque

from opagent.errors import HostUnreachable, ProtocolMismatch
from opagent.remote import mux
from opagent.remote.seam import BLOCK, Ended, Stream


class Channels:
    """Over a stream that has just landed. `run` must be running, as a task of the owner, who keeps it here."""

    task: asyncio.Task[None] | None = None

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._mux = mux.Mux(dialled=True)
        self._channels: dict[int, Channel] = {}
        self._first: int | None = mux.FIRST
        self._writing = asyncio.Lock()
        self._lost: str | None = None
        self._telling: asyncio.Task[None] | None = None
        self._add(mux.FIRST)

    async def run(self) -> None:
        """Until the stream ends; never raises."""
        why = "the connection ended"
        try:
            while data := await self._stream.read():
                for event in self._mux.feed(data):
                    self._came(event)
                await self.flush()
        except ConnectionError:
            pass
        except ProtocolMismatch as error:
            why = str(error)
        finally:
            self._lose(why)

    async def open(self) -> Stream:
        """A new connection to the daemon there; the first one costs nothing. Raises HostUnreachable."""
        channel, self._first = self._first, None
        if channel is None and self._lost is None:
            channel = self._mux.open()
            if channel is None:
                raise HostUnreachable("too many streams to this machine", f"{mux.CHANNELS} are open", "opagent ps -a")
            self._add(channel)
        if channel is None or self._lost is not None:
            raise HostUnreachable("the connection to this machine is lost", self._lost or "", "try again")
        try:
            await self.flush()
        except ConnectionError as error:
            raise HostUnreachable("the connection to this machine is lost", str(error), "try again") from error
        return self._channels[channel]

    def close(self) -> None:
        """All channels end. Harmless twice."""
        self._lose("closed")

    async def flush(self) -> None:
        """Send what is due, in order. Raises ConnectionError."""
        async with self._writing:
            while self._mux.waiting:
                await self._stream.write(self._mux.outgoing())

    def forget(self, channel: int) -> None:
        """The other side hears of it at once: it keeps a client for as long as it does not."""
        self._channels.pop(channel, None)
        if self._mux.waiting and self._telling is None:
            self._telling = asyncio.create_task(self._tell(), name="channel closed")

    async def _tell(self) -> None:
        try:
            await self.flush()
        except ConnectionError:
            pass  # then it hears of the end of all
        finally:
            self._telling = None

    def _came(self, event: mux.Event) -> None:
        channel = self._channels.get(event.channel)
        if isinstance(event, mux.Opened):
            self._mux.close(event.channel, "nothing is served here")
        elif channel is not None:
            channel.came(event)
        if isinstance(event, mux.Closed):
            self.forget(event.channel)

    def _add(self, channel: int) -> None:
        self._channels[channel] = Channel(self, self._mux, channel)

    def _lose(self, why: str) -> None:
        if self._lost is None:
            self._lost = why
            self._stream.close()
            for channel in list(self._channels.values()):
                channel.came(mux.Closed(channel.number, why))
            self._channels.clear()


class Channel:
    """A `Stream` of its own."""

    def __init__(self, channels: Channels, core: mux.Mux, number: int) -> None:
        self.number = number
        self._channels, self._mux = channels, core
        self._received: deque[bytes] = deque()
        self._changed = asyncio.Event()
        self._ended = False  # nothing more is received
        self._closed: str | None = None

    def came(self, event: mux.Event) -> None:
        if isinstance(event, mux.Received):
            self._received.append(event.data)
        elif isinstance(event, mux.Ended):
            self._ended = True
        elif isinstance(event, mux.Closed):
            self._ended, self._closed = True, self._closed if self._closed is not None else event.why
        self._changed.set()

    async def read(self) -> bytes:
        while not self._received:
            if self._ended:
                return b""
            self._changed.clear()
            await self._changed.wait()
        data = self._received.popleft()
        if len(data) > BLOCK:
            self._received.appendleft(data[BLOCK:])
            data = data[:BLOCK]
        self._mux.taken(self.number, len(data))
        try:
            await self._channels.flush()
        except ConnectionError:
            pass  # the pump sees the same end
        return data

    async def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            if self._closed is not None:
                raise ConnectionResetError(self._closed or "the channel is closed")
            view = view[self._mux.send(self.number, view) :]
            await self._channels.flush()
            if view and not self._mux.room(self.number):
                self._changed.clear()
                await self._changed.wait()

    async def end(self) -> None:
        self._mux.end(self.number)
        try:
            await self._channels.flush()
        except ConnectionError:
            pass

    def close(self) -> None:
        if self._closed is None:
            self._mux.close(self.number)
            self._received.clear()
            self.came(mux.Closed(self.number, "closed here"))
            self._channels.forget(self.number)

    async def ended(self) -> Ended:
        while self._closed is None:
            self._changed.clear()
            await self._changed.wait()
        return Ended(None, self._closed.encode())
