"""A program on this machine as a stream to another one: its stdin and stdout, the end of its stderr, its end. Knows no ssh."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, overload

from opagent.remote.flow import Flow
from opagent.remote.seam import Ended

GRACE = 3.0  # seconds between SIGTERM and SIGKILL


class Program(Flow, asyncio.SubprocessProtocol):
    """A child in a process group of its own, as a `Stream`.

    It stays in our session: the reaper of the daemon leaves those to who started them.
    """

    def __init__(self) -> None:
        super().__init__()
        self._transport: asyncio.SubprocessTransport | None = None
        self._exited = False
        self._gone_for_good = asyncio.Event()

    # what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.SubprocessTransport)
        self._transport = transport

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self.complained(data) if fd == 2 else self.received(data)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        if fd == 0:
            self.full(False)
        elif fd == 1:
            self.no_more()

    def pause_writing(self) -> None:
        self.full(True)

    def resume_writing(self) -> None:
        self.full(False)

    def process_exited(self) -> None:
        self._exited = True
        code = self._transport.get_returncode() if self._transport else None
        self.status = code if code is None or code >= 0 else None

    def connection_lost(self, exc: Exception | None) -> None:
        """It has ended and so have its pipes."""
        if self._transport is not None:
            self._transport.close()
        self._gone_for_good.set()
        self.over()

    @property
    def runs(self) -> bool:
        """The process, or somebody who holds its pipes."""
        return not self._gone_for_good.is_set()

    async def left(self) -> None:
        """Waits for the process itself, also after `close`."""
        await self._gone_for_good.wait()

    # what Flow asks for

    def hold(self) -> None:
        if (pipe := self._pipe(1)) is not None and not pipe.is_closing():
            pipe.pause_reading()

    def release(self) -> None:
        if (pipe := self._pipe(1)) is not None and not pipe.is_closing():
            pipe.resume_reading()

    def send(self, data: bytes) -> None:
        pipe = self._pipe(0)
        if pipe is None or pipe.is_closing():
            raise BrokenPipeError("the program reads no more")
        pipe.write(data)

    def finish(self) -> None:
        if (pipe := self._pipe(0)) is not None and not pipe.is_closing():
            pipe.close()

    def drop(self) -> None:
        if self._transport is None:
            return
        self._signal(signal.SIGTERM)
        for fd in (0, 1, 2):
            if (pipe := self._pipe(fd)) is not None and not pipe.is_closing():
                pipe.abort() if fd == 0 else pipe.close()
        if not self._exited:
            asyncio.get_running_loop().call_later(GRACE, self._signal, signal.SIGKILL)

    def _pipe(self, fd: int) -> Any:
        return self._transport.get_pipe_transport(fd) if self._transport else None

    def _signal(self, number: int) -> None:
        if self._transport is not None and not self._exited:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._transport.get_pid(), number)


class Programs:
    """Those that one connection started: they end with it."""

    def __init__(self) -> None:
        self._running: set[Program] = set()

    def add(self, program: Program) -> Program:
        self._running = {one for one in self._running if one.runs} | {program}
        return program

    def close(self) -> None:
        for program in self._running:
            program.close()

    async def left(self) -> None:
        for program in self._running:
            await program.left()


P = TypeVar("P", bound=Program)
PIPE = asyncio.subprocess.PIPE


@overload
async def start(
    argv: Sequence[str], env: Mapping[str, str] | None = None, *, stdin: int = PIPE, stdout: int = PIPE
) -> Program: ...
@overload
async def start(
    argv: Sequence[str], env: Mapping[str, str] | None = None, *, stdin: int = PIPE, stdout: int = PIPE, kind: type[P]
) -> P: ...
async def start(
    argv: Sequence[str],
    env: Mapping[str, str] | None = None,
    *,
    stdin: int = PIPE,
    stdout: int = PIPE,
    kind: type[Program] = Program,
) -> Program:
    """Raises OSError when there is no such program."""
    loop = asyncio.get_running_loop()
    _, program = await loop.subprocess_exec(kind, *argv, stdin=stdin, stdout=stdout, stderr=PIPE, env=env, process_group=0)
    return program


async def output(argv: Sequence[str], within: float, env: Mapping[str, str] | None = None) -> tuple[bytes, Ended]:
    """All that a program prints, at most 1 MiB. Raises OSError, TimeoutError."""
    program = await start(argv, env, stdin=asyncio.subprocess.DEVNULL)
    said = bytearray()
    try:
        async with asyncio.timeout(within):
            while len(said) < 1 << 20 and (part := await program.read()):
                said += part
            return bytes(said), await program.ended()
    finally:
        program.close()
        await program.left()
