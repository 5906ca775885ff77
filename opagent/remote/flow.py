"""The two directions of a stream with their limits: what every transport's `Stream` has in common. Moves no bytes itself."""

from __future__ import annotations

import asyncio
from collections import deque

from opagent.remote.seam import BLOCK, Ended

HIGH, LOW = 256 * 1024, 64 * 1024  # bytes read ahead of the reader: from here on the sender is held back, and may go on
TAIL = 4096  # bytes of stderr that are kept


class Flow:
    """A `Stream` without a wire: a subclass fills in the first five methods and calls the five after them."""

    def __init__(self) -> None:
        self.status: int | None = None
        self._buffer: deque[bytes] = deque()
        self._size = 0
        self._held = self._no_more = self._gone = False
        self._readable, self._writable, self._over = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._writable.set()
        self._stderr = bytearray()

    # what the wire does

    def hold(self) -> None:
        """Read nothing from the other side for now."""
        raise NotImplementedError

    def release(self) -> None:
        """Read again."""
        raise NotImplementedError

    def send(self, data: bytes) -> None:
        """Raises ConnectionError."""
        raise NotImplementedError

    def finish(self) -> None:
        """Send an end of file after what was sent."""
        raise NotImplementedError

    def drop(self) -> None:
        """End both directions at once."""
        raise NotImplementedError

    # what the wire tells

    def received(self, data: bytes) -> None:
        if self._gone or not data:
            return
        self._buffer.append(data)
        self._size += len(data)
        self._readable.set()
        if self._size > HIGH and not self._held:
            self._held = True
            self.hold()

    def complained(self, data: bytes) -> None:
        """On stderr."""
        self._stderr += data
        del self._stderr[:-TAIL]

    @property
    def gone(self) -> bool:
        return self._gone

    def complaint(self) -> str:
        return self._stderr.decode(errors="replace")

    def no_more(self) -> None:
        """The other side sends nothing after this."""
        self._no_more = True
        self._readable.set()

    def full(self, is_full: bool) -> None:
        """Whether who writes has to wait."""
        if is_full and not self._gone:
            self._writable.clear()
        else:
            self._writable.set()

    def over(self) -> None:
        """Nothing goes in either direction any more, and `status` is what there is to know."""
        self._gone = True
        self.no_more()
        self._writable.set()
        self._over.set()

    # what a Stream is

    async def read(self) -> bytes:
        while not self._buffer and not self._no_more:
            self._readable.clear()
            await self._readable.wait()
        if not self._buffer:
            return b""
        data = self._buffer.popleft()
        if len(data) > BLOCK:
            self._buffer.appendleft(data[BLOCK:])
            data = data[:BLOCK]
        self._size -= len(data)
        if self._held and self._size < LOW:
            self._held = False
            if not self._gone:
                self.release()
        return data

    async def write(self, data: bytes) -> None:
        for start in range(0, len(data), BLOCK):
            await self._writable.wait()
            if self._gone:
                raise ConnectionResetError("the stream has ended")
            self.send(data[start : start + BLOCK])
        await self._writable.wait()

    async def end(self) -> None:
        if not self._gone:
            self.finish()

    def close(self) -> None:
        if self._gone:
            return
        self._buffer.clear()
        self._size = 0
        self.over()
        self.drop()

    async def ended(self) -> Ended:
        await self._over.wait()
        return Ended(self.status, bytes(self._stderr))
