"""The three pipes of a program on the event loop: read when asked, written patiently, stderr always drained; no spawning."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import os
import select
from pathlib import Path

from opagent import files
from opagent.errors import AgentCrashed, AgentStuck, OpAgentError
from opagent.policy.redact import Redactor, Secrets

BLOCK = 256 * 1024
REST_LIMIT = 1024 * 1024  # bytes kept of what a dead program left in its stdout; more than the pipe holds
TAIL_LIMIT = 32 * 1024
LOG_LIMIT = 4 * 1024 * 1024


class Source:
    """stdout. Nothing is read unless somebody asks: an agent that talks faster than we work waits in its own write."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._rest = b""
        self._waiter: asyncio.Future[None] | None = None

    async def read(self) -> bytes:
        """The next bytes, `b""` at the end and ever after. One reader at a time."""
        await asyncio.sleep(0)  # a flood must not keep the loop for itself
        while self._fd >= 0:
            try:
                data = os.read(self._fd, BLOCK)
            except BlockingIOError:
                await self._readable()
                continue
            if data:
                return data
            self._close()
        data, self._rest = self._rest, b""
        return data

    @property
    def held(self) -> bool:
        """Somebody still has the other end open."""
        return self._fd >= 0 and held(self._fd)

    def finish(self) -> None:
        """The program is dead: keep what the pipe still holds for `read`, and close it."""
        with contextlib.suppress(BlockingIOError):
            while self._fd >= 0 and len(self._rest) < REST_LIMIT and (data := os.read(self._fd, BLOCK)):
                self._rest += data
        self._close()

    async def _readable(self) -> None:
        loop, fd = asyncio.get_running_loop(), self._fd
        self._waiter = loop.create_future()
        loop.add_reader(fd, _wake, self._waiter)
        try:
            await self._waiter
        finally:
            self._waiter = None
            if self._fd >= 0:
                loop.remove_reader(fd)

    def _close(self) -> None:
        self._fd = _closed(self._fd)
        if self._waiter:
            _wake(self._waiter)


class Sink:
    """stdin. It has no buffer: whoever sends waits until the program has taken everything."""

    def __init__(self, fd: int, name: str) -> None:
        self._fd, self._name = fd, name
        self._turn = asyncio.Lock()
        self._torn = False
        self._waiter: asyncio.Future[None] | None = None

    async def send(self, data: bytes, patience: float) -> None:
        """Write everything. Raises AgentStuck when nothing moves for `patience` seconds, AgentCrashed when nobody reads any more.

        After AgentStuck or a cancellation half a message may be in the pipe: every later call raises AgentStuck.
        """
        async with self._turn:
            if self._torn:
                raise AgentStuck(f"{self._name} got only half a message before", hint="opagent restart")
            self._torn, view = True, memoryview(data)
            while view:
                if self._fd < 0:
                    raise AgentCrashed(f"{self._name} reads no more", "its input is closed", "opagent logs")
                try:
                    view = view[os.write(self._fd, view) :]
                except BlockingIOError:
                    await self._writable(patience)
                except BrokenPipeError as error:
                    self.close()
                    raise AgentCrashed(f"{self._name} reads no more", "it closed its input", "opagent logs") from error
            self._torn = False

    def close(self) -> None:
        """The program reads an end of file. May be called twice."""
        self._fd = _closed(self._fd)
        if self._waiter:
            _wake(self._waiter)

    async def _writable(self, patience: float) -> None:
        loop, fd = asyncio.get_running_loop(), self._fd
        self._waiter = loop.create_future()
        loop.add_writer(fd, _wake, self._waiter)
        try:
            async with asyncio.timeout(patience):
                await self._waiter
        except TimeoutError as error:
            raise AgentStuck(f"{self._name} does not read", f"its input is full for {patience:g} s", "opagent restart") from error
        finally:
            self._waiter = None
            if self._fd >= 0:
                loop.remove_writer(fd)


class Tail:
    """stderr: the last 32 KiB in memory, all of it in a log that keeps one old file; never makes the program wait for long.

    Secrets are hidden in both; every other byte is as it was written.
    """

    def __init__(self, fd: int, path: Path, secrets: Secrets | None = None) -> None:
        self._fd, self._path = fd, path
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._redactor = Redactor(secrets) if secrets is not None else None
        self._last = bytearray()
        self._log = -1
        self._size = 0
        asyncio.get_running_loop().add_reader(fd, self._drain)

    @property
    def held(self) -> bool:
        """Somebody still has the other end open."""
        return self._fd >= 0 and held(self._fd)

    def text(self) -> str:
        return self._last[-TAIL_LIMIT:].decode(errors="replace")

    def finish(self) -> None:
        """The program is dead: take what the pipe still holds, and close pipe and log."""
        while self._fd >= 0 and self._drain():
            pass
        self._close()
        self._keep(self._hidden(b"", final=True))
        self._log = _closed(self._log)

    def _drain(self) -> bool:
        try:
            data = os.read(self._fd, BLOCK)
        except BlockingIOError:
            return False
        if not data:
            self._close()
            return False
        self._keep(self._hidden(data))
        return True

    def _hidden(self, data: bytes, final: bool = False) -> bytes:
        """What may be kept by now: the end is held back while it may be the beginning of a secret."""
        if self._redactor is None:
            return data
        text = self._redactor.feed(self._decoder.decode(data, final)) + (self._redactor.finish() if final else "")
        return text.encode("utf-8", "surrogateescape")

    def _keep(self, data: bytes) -> None:
        if not data:
            return
        self._last += data
        if len(self._last) > 2 * TAIL_LIMIT:
            del self._last[:-TAIL_LIMIT]
        with contextlib.suppress(OSError, OpAgentError):  # a full disk must not stop the agent; the tail stays in memory
            self._write(data)

    def _write(self, data: bytes) -> None:
        if self._log >= 0 and self._size + len(data) > LOG_LIMIT:
            self._log = _closed(self._log)
            os.replace(self._path, self._path.with_name(self._path.name + ".1"))
        if self._log < 0:
            files.private_directory(self._path.parent)
            self._log = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            self._size = os.fstat(self._log).st_size
        files.write_all(self._log, data)
        self._size += len(data)

    def _close(self) -> None:
        self._fd = _closed(self._fd)


def held(fd: int) -> bool:
    """Whether a pipe we read has a writer left, without reading from it."""
    poll = select.poll()
    poll.register(fd, 0)
    return not poll.poll(0)


def _closed(fd: int) -> int:
    if fd >= 0:
        loop = asyncio.get_running_loop()
        loop.remove_reader(fd)
        loop.remove_writer(fd)
        os.close(fd)
    return -1


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
