"""Connections of an agent that may make no sockets (level landlock): two named pipes for each, in a directory of its own.

The other end is `process/toolbox.py`: it makes the two, and says their names through the pipe `hello`. Nobody else reaches them:
the rules of the box show the directory to this agent alone. What comes through is a reader and a writer, as of a socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import stat
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

from opagent import control
from opagent.process import toolbox

_NAME = re.compile(r"[a-z0-9-]{1,40}")
_HELLO_LIMIT = 64 * 1024  # bytes of names that may wait

Connected = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Spawn = Callable[[Coroutine[Any, Any, None]], object]


class Fifos:
    """`spawn` runs a connection as a task."""

    def __init__(self, folder: Path, connected: Connected, spawn: Spawn) -> None:
        self._connected, self._spawn = connected, spawn
        os.mkfifo(folder / toolbox.HELLO, 0o600)
        self._folder = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
        # for writing, too: then it never reads an end
        self._hello = os.open(folder / toolbox.HELLO, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
        self._held = b""
        asyncio.get_running_loop().add_reader(self._hello, self._heard)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._hello)
        os.close(self._hello)
        os.close(self._folder)

    def _heard(self) -> None:
        with contextlib.suppress(BlockingIOError):
            *lines, self._held = (self._held + os.read(self._hello, _HELLO_LIMIT)).split(b"\n")
            self._held = self._held[-1000:]
            for line in lines[:100]:
                up, _, down = line.decode("ascii", "replace").partition(" ")
                if _NAME.fullmatch(up) and _NAME.fullmatch(down):
                    self._spawn(self._joined(up, down))

    async def _joined(self, up: str, down: str) -> None:
        with contextlib.ExitStack() as opened:
            try:
                ends = []
                for name, flags in ((up, os.O_RDONLY), (down, os.O_WRONLY)):
                    fd = os.open(name, flags | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._folder)
                    ends.append(opened.enter_context(os.fdopen(fd, "rb" if flags == os.O_RDONLY else "wb", buffering=0)))
                    if not stat.S_ISFIFO(os.fstat(fd).st_mode):
                        return
                    os.unlink(name, dir_fd=self._folder)
            except OSError:  # it left before, or never was there
                return
            loop = asyncio.get_running_loop()
            reader = asyncio.StreamReader(limit=control.FRAME_LIMIT)
            await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), ends[0])
            transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, ends[1])
            opened.pop_all()  # the transports close them
        await self._connected(reader, asyncio.StreamWriter(transport, protocol, reader, loop))
