"""Another machine that is this one: the line runs in a real shell with a home and an environment of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from opagent.remote.seam import BLOCK, Ended, Stream

PYTHONS = f"{sys.base_prefix}/bin:/usr/bin:/bin"  # a PATH with the interpreter of the tests, without wrappers around it


def machine(home: Path, **more: str) -> dict[str, str]:
    """The environment of another machine below the home of a test: little, and a home that the check for leftovers sees."""
    there = home / "there"
    there.mkdir(mode=0o700, exist_ok=True)
    return {"HOME": str(there), "PATH": PYTHONS, "OPAGENT_TEST_ID": os.environ["OPAGENT_TEST_ID"], **more}


def on(environment: Mapping[str, str], work: Callable[[LocalShell], Awaitable[Any]], **more: Any) -> Any:
    """What `work` gives, on a connection that is closed afterwards, with all that ran on it."""

    async def whole() -> Any:
        connection = LocalShell(environment, **more)
        try:
            return await work(connection)
        finally:
            await connection.gone()

    return asyncio.run(whole())


class LocalShell:
    """A `Connection`. `shell`: the login shell's words; `forwards`: whether it gives streams to sockets."""

    identity, transport = "local shell", "test"

    def __init__(self, environment: Mapping[str, str], shell: Sequence[str] = ("/bin/sh", "-c"), forwards: bool = False) -> None:
        self.environment, self.shell, self.forwards = dict(environment), tuple(shell), forwards
        self.lines: list[str] = []
        self._streams: list[_Program] = []
        self._lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def run(self, line: str) -> Stream:
        self.lines.append(line)
        ours, its = socket.socketpair()  # as sshd does it: one socket is its standard input and output
        stderr = tempfile.TemporaryFile()  # noqa: SIM115
        with its:
            process = await asyncio.create_subprocess_exec(
                *self.shell, line, env=self.environment, cwd="/", start_new_session=True, stdin=its, stdout=its, stderr=stderr
            )
        stream = _Program(*await asyncio.open_connection(sock=ours), process, stderr)
        self._streams.append(stream)
        return stream

    async def socket(self, path: str) -> Stream | None:
        return _Socket(*await asyncio.open_unix_connection(path)) if self.forwards else None

    async def lost(self) -> str:
        return await self._lost

    def close(self) -> None:
        for stream in self._streams:
            stream.close()
        if not self._lost.done():
            self._lost.set_result("closed")

    async def gone(self) -> None:
        """Closed, and every program has ended."""
        self.close()
        for stream in self._streams:
            await stream.ended()


class _Socket:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def read(self) -> bytes:
        try:
            return await self._reader.read(BLOCK)
        except ConnectionError:
            return b""

    async def write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def end(self) -> None:
        with contextlib.suppress(OSError, RuntimeError):
            self._writer.write_eof()

    def close(self) -> None:
        self._writer.close()

    async def ended(self) -> Ended:
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()
        return Ended(None)


class _Program(_Socket):
    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        process: asyncio.subprocess.Process,
        stderr: IO[bytes],
    ) -> None:
        super().__init__(reader, writer)
        self._process, self._stderr = process, stderr
        self._last = b""

    def close(self) -> None:
        """As a lost connection: nothing more is read or written, and the group is hung up."""
        super().close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGHUP)

    async def ended(self) -> Ended:
        status = await self._process.wait()
        if not self._stderr.closed:
            self._last = os.pread(self._stderr.fileno(), 1 << 24, 0)[-4096:]
            self._stderr.close()
        self._writer.close()
        return Ended(None if status < 0 else status, self._last)
