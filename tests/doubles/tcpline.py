"""A TCP line that can be spoiled, in a process of its own: late, slow, cut in every way, also in the middle of what it carries.

::

    with tcp_line(server.port) as line:
        line.delay(0.05)      # seconds each way
        line.hold()           # a black hole: both sides stay connected and hear nothing
        line.mend()
        line.reset(after=100) # RST to both sides when 100 more bytes have come from the server

Runs anywhere; a line of real packets, which also loses some, is `wan.py`. `python -m tests.doubles.tcpline HOST PORT` is the other process:
a command a line on its standard input, an answer a line on its output; it ends with its input.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parents[2]
_BLOCK = 16 * 1024
_WAITING = 1 << 20  # bytes of a direction that may be on the way
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close() sends RST


@dataclass(frozen=True, slots=True)
class Passed:
    """Since the line began: connections that came, those that are open, bytes to the server and from it."""

    came: int
    open: int
    up: int
    down: int


class TcpLine:
    """What a test does with it. Every method returns when it is done."""

    def __init__(self, port: int, host: str) -> None:
        words = [sys.executable, "-m", "tests.doubles.tcpline", host, str(port)]
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=_ROOT)
        self.port = int(self._answer()["port"])

    def delay(self, seconds: float) -> None:
        """Each way."""
        self._do("delay", seconds)

    def rate(self, count: int) -> None:
        """Bytes a second, each way; 0: no limit."""
        self._do("rate", count)

    def hold(self) -> None:
        """Nothing passes, and who comes is let in and hears nothing."""
        self._do("hold")

    def forget(self) -> None:
        """The connections of this moment stay open and carry nothing any more; others are not touched."""
        self._do("forget")

    def refuse(self) -> None:
        """Who comes is counted and turned away; connections of this moment are reset."""
        self._do("refuse")

    def mend(self) -> None:
        """As at the beginning, but for connections that are gone or forgotten. What was held goes on."""
        self._do("mend")

    def reset(self, after: int | None = None, up: bool = False) -> None:
        """Every connection, at once; or each, and the next one, until one is cut: when so many more bytes have come from the server
        (`up`: to it).
        """
        self._do("reset" if after is None else "reset_up" if up else "reset_down", after or 0)

    def passed(self) -> Passed:
        return Passed(**self._do("passed"))

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def _do(self, command: str, number: float = 0) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command} {number}\n".encode())
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        answer: dict[str, Any] = json.loads(self._process.stdout.readline() or "{}")
        return answer


@contextlib.contextmanager
def tcp_line(port: int, host: str = "127.0.0.1") -> Iterator[TcpLine]:
    """A new line on loopback to what listens there."""
    line = TcpLine(port, host)
    try:
        yield line
    finally:
        line.close()


class _Way:
    """One direction of a connection: what was read leaves after the delay, at the rate, while nothing holds it."""

    def __init__(self, pair: _Pair, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, up: bool) -> None:
        self.pair, self.up = pair, up
        self.cut: int | None = None  # bytes until both sides are reset
        self._reader, self._writer = reader, writer
        self._queue: deque[tuple[float, bytes]] = deque()
        self._size = 0
        self._changed, self._room = asyncio.Event(), asyncio.Event()

    async def read(self) -> None:
        loop, state = asyncio.get_running_loop(), self.pair.state
        data = b"-"
        while data:
            with contextlib.suppress(OSError):
                data = await self._reader.read(_BLOCK)
            self._queue.append((loop.time() + state.delay, data))
            self._size += len(data)
            self._changed.set()
            if self._size > _WAITING:
                self._room.clear()
                await self._room.wait()

    async def write(self) -> None:
        loop, state = asyncio.get_running_loop(), self.pair.state
        while True:
            while not self._queue:
                self._changed.clear()
                await self._changed.wait()
            due, data = self._queue.popleft()
            if due > loop.time():
                await asyncio.sleep(due - loop.time())
            await state.open.wait()
            if self.pair.forgotten:
                await asyncio.Event().wait()
            self._size -= len(data)
            self._room.set()
            if not data:
                with contextlib.suppress(OSError, RuntimeError):
                    self._writer.write_eof()
                return
            if state.rate:
                await asyncio.sleep(len(data) / state.rate)
            if self.cut is not None and len(data) >= self.cut:
                await self._send(data[: self.cut])
                state.cut = None
                self.pair.reset()
                return
            self.cut = None if self.cut is None else self.cut - len(data)
            await self._send(data)

    async def _send(self, data: bytes) -> None:
        if self.up:
            self.pair.state.up += len(data)
        else:
            self.pair.state.down += len(data)
        if self._writer.is_closing():
            return
        with contextlib.suppress(OSError):
            self._writer.write(data)
            await self._writer.drain()


class _Pair:
    """One connection through the line."""

    def __init__(self, state: _State, ends: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]) -> None:
        self.state, self.forgotten = state, False
        self._writers = [writer for _, writer in ends]
        (client, to_client), (server, to_server) = ends
        self.ways = [_Way(self, client, to_server, True), _Way(self, server, to_client, False)]

    async def run(self) -> None:
        """Until it is reset, or both sides have ended."""
        readers = [asyncio.create_task(way.read()) for way in self.ways]
        writers = [asyncio.create_task(way.write()) for way in self.ways]
        try:
            await asyncio.wait(writers)
        finally:
            for task in (*readers, *writers):
                task.cancel()
            for writer in self._writers:
                writer.close()

    def reset(self) -> None:
        for writer in self._writers:
            _abort(writer)


def _abort(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()


class _State:
    """The line, in its own process."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port
        self.delay, self.rate, self.refusing = 0.0, 0.0, False
        self.open = asyncio.Event()
        self.open.set()
        self.came = self.up = self.down = 0
        self.pairs: set[_Pair] = set()
        self.cut: tuple[str, int] | None = None  # of connections to come

    async def accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.came += 1
        if self.refusing:
            _abort(writer)
            return
        await asyncio.sleep(2 * self.delay)  # SYN and its answer; what the client sends meanwhile waits as long
        await self.open.wait()
        try:
            server = await asyncio.open_connection(self.host, self.port)
        except OSError:
            _abort(writer)
            return
        pair = _Pair(self, [(reader, writer), server])
        self.pairs.add(pair)
        self._arm(pair)
        try:
            await pair.run()
        except asyncio.CancelledError:
            pass  # the line ends, and a stream's task that says so is logged as a mistake
        finally:
            self.pairs.discard(pair)

    def _arm(self, pair: _Pair) -> None:
        if self.cut is not None:
            direction, count = self.cut
            pair.ways[0 if direction == "reset_up" else 1].cut = count

    def do(self, command: str, number: float) -> dict[str, Any]:
        if command == "passed":
            return {"came": self.came, "open": len(self.pairs), "up": self.up, "down": self.down}
        if command in ("delay", "rate"):
            setattr(self, command, number)
        elif command == "hold":
            self.open.clear()
        elif command == "mend":
            self.refusing, self.cut = False, None
            self.open.set()
        elif command == "forget":
            for pair in self.pairs:
                pair.forgotten = True
        elif command in ("reset_up", "reset_down"):
            self.cut = (command, int(number))
            for pair in self.pairs:
                self._arm(pair)
        else:
            self.refusing = command == "refuse"
            for pair in list(self.pairs):
                pair.reset()
        return {}


async def _serve(host: str, port: int) -> None:
    state, loop = _State(host, port), asyncio.get_running_loop()
    server = await asyncio.start_server(state.accepted, "127.0.0.1", 0, limit=_BLOCK)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    commands = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    while line := await commands.readline():
        command, number = line.decode().split()
        print(json.dumps(state.do(command, float(number))), flush=True)
    server.close()
    for pair in list(state.pairs):
        pair.reset()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], int(sys.argv[2])))
