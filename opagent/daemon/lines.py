"""The socket of its own that each agent gets: who comes here with the token is that agent. Carries requests, answers none.

    launch = await shared.lines.attach(c, launch)     # before the spawn; `detach(ident)` after the end
    shared.lines.argv(ident, "mcp")                   # what the agent starts to come here

In a box of mounts no other agent sees the socket. Where nothing holds an agent the token, which lies beside the socket in a file
of mode 0600, tells agents apart as far as anything does there. At level landlock it is named pipes (`fifos.py`): to let an agent
connect to a socket would let it connect to every socket of the user's that has a path. (Design: protocol.md 5, "agents' own
connection".)
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import secrets
import shlex
import shutil
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from opagent import control, files, jsonrpc, paths
from opagent.daemon import confinement
from opagent.daemon.fifos import Fifos
from opagent.model import ProcessId
from opagent.process import toolbox
from opagent.process.landlock import Landlock
from opagent.process.profile import SOCKETS, Mount
from opagent.process.programs import Programs
from opagent.process.sandbox import Bwrap
from opagent.process.supervisor import Launch

if TYPE_CHECKING:
    from opagent.daemon.conversation import Conversation
    from opagent.daemon.shared import Shared

log = logging.getLogger(__name__)

TOOLBOX = "/opt/opagent/toolbox.py"  # where an agent in a box of mounts finds it
MOST_LINES = 16  # connections of one agent at a time
OUTBOX_LIMIT = 64 * 2**20  # bytes that may wait for one that does not read
_HELLO_LIMIT, _HELLO_WITHIN = 1024, 10.0  # bytes and seconds


class Speaker(Protocol):
    """One connection as its protocol understands it. Called in the order of the lines; it answers by `send` when it can."""

    def take(self, line: bytes) -> None:
        """One whole line. ConnectionError ends the connection; it raises nothing else."""

    def end(self) -> None:
        """The connection is over: nobody hears the answers that are still to come."""


Send = Callable[[bytes], None]


@dataclass(eq=False, slots=True)
class Line:
    """An agent's socket."""

    id: ProcessId
    conversation: Conversation
    token: str
    argv: tuple[str, ...]  # of toolbox.py with its directory, as the agent sees them
    server: asyncio.Server | Fifos | None = None
    open: set[asyncio.StreamWriter] = field(default_factory=set)


class Lines:
    """One per daemon. `speakers`: by the word that a connection begins with, who makes its `Speaker`."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._lines: dict[ProcessId, Line] = {}
        self.speakers: dict[str, Callable[[Line, Send], Speaker]] = {}
        self.named: Callable[[Line, Send, str], Speaker | None] = lambda line, send, name: None  # a server of the binding
        self.gone: Callable[[Line], Awaitable[None]] | None = None

    def __contains__(self, ident: object) -> bool:
        return ident in self._lines

    async def attach(self, c: Conversation, launch: Launch) -> Launch:
        """The launch, which has its box, with the way here. Raises OSError."""
        token = secrets.token_urlsafe(32)
        folder = paths.agent_sockets(launch.id)
        await asyncio.to_thread(_furnish, folder, token)
        opened, argv = await asyncio.to_thread(_inside, launch, c, folder)
        await asyncio.to_thread(_command, folder, argv)
        line = self._lines[launch.id] = Line(launch.id, c, token, argv)
        connected = lambda reader, writer: self._connected(line, reader, writer)  # noqa: E731
        if isinstance(opened.box, Landlock):
            line.server = Fifos(folder, connected, lambda work: self._shared.spawn(work, f"line-{launch.id}"))
        else:
            server = await asyncio.start_unix_server(connected, str(paths.agent_tools(launch.id)), limit=control.FRAME_LIMIT)
            os.chmod(paths.agent_tools(launch.id), 0o600)
            line.server = server
        seen = _seen(opened, folder)
        return replace(opened, env={**opened.env, paths.TOOLS: seen, "PATH": f"{opened.env.get('PATH', '')}:{seen}"})

    def variables(self, ident: ProcessId) -> dict[str, str]:
        """For a command that the agent runs through us: with them it comes here, too."""
        line = self._lines.get(ident)
        return {paths.TOOLS: line.argv[-1]} if line is not None else {}

    def argv(self, ident: ProcessId, *words: str) -> tuple[str, ...]:
        """How the agent starts something that comes here; () for one without a line."""
        line = self._lines.get(ident)
        return (*line.argv, *words) if line is not None else ()

    def detach(self, ident: ProcessId) -> None:
        """The agent is gone: so are its socket, its connections, and what it asked for."""
        line = self._lines.pop(ident, None)
        if line is None:
            return
        if line.server is not None:
            line.server.close()
        for writer in line.open:
            writer.close()
        shutil.rmtree(paths.agent_sockets(ident), ignore_errors=True)

    def close(self) -> None:
        for ident in list(self._lines):
            self.detach(ident)

    async def _connected(self, line: Line, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if len(line.open) >= MOST_LINES:
                return
            line.open.add(writer)
            speaker = await self._greeted(line, reader, writer)
            if speaker is not None:
                await _listen(reader, speaker)
        except (ConnectionError, TimeoutError, ValueError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # cancelled: the daemon ends, and a stream's task that says so is logged as a mistake
        finally:
            line.open.discard(writer)
            writer.close()

    async def _greeted(self, line: Line, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Speaker | None:
        """Who speaks here; None for one who does not know the token, or speaks nothing that we know."""
        async with asyncio.timeout(_HELLO_WITHIN):
            hello = await reader.readuntil(b"\n")
        said = json.loads(hello[:_HELLO_LIMIT])
        given = str(said.get("token", "")) if isinstance(said, dict) else ""
        if not secrets.compare_digest(given.encode(), line.token.encode()):
            log.warning("%s: somebody came to its socket without its token", line.id)
            return None
        word, _, name = str(said.get("speaks")).partition("/")
        make = self.speakers.get(word)

        def send(data: bytes) -> None:
            if data and not writer.is_closing():
                writer.write(data)
                if writer.transport.get_write_buffer_size() > OUTBOX_LIMIT:  # it does not read
                    writer.transport.abort()

        if word == "server":
            return self.named(line, send, name)
        return make(line, send) if make is not None else None


async def _listen(reader: asyncio.StreamReader, speaker: Speaker) -> None:
    framer = jsonrpc.Framer(control.FRAME_LIMIT)
    try:
        while data := await reader.read(1 << 16):
            for each in framer.feed(data):
                speaker.take(each)
    finally:
        speaker.end()


def _furnish(folder: Path, token: str) -> None:
    files.private_directory(folder)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(folder / toolbox.SOCKET)
    fd = os.open(folder / toolbox.TOKEN, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w", encoding="ascii") as file:
        file.write(token)


def _command(folder: Path, argv: tuple[str, ...]) -> None:
    """`opagent` for the agent's shell: calls, notes and questions; all else it has to leave to the person."""
    fd = os.open(folder / "opagent", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o700)
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        file.write(f'#!/bin/sh\nexec {shlex.join(argv)} "$@"\n')


def _seen(launch: Launch, folder: Path) -> str:
    """The directory of the sockets, as the agent sees it."""
    return SOCKETS if isinstance(launch.box, Bwrap) else str(folder)


def _inside(launch: Launch, c: Conversation, folder: Path) -> tuple[Launch, tuple[str, ...]]:
    """The launch with what leads here, and the argv as it is inside. For a thread."""
    box, script = launch.box, toolbox.__file__
    if isinstance(box, Landlock):
        return _shown(launch, box, c, folder)
    if not isinstance(box, Bwrap):
        return launch, (sys.executable, "-I", "-S", script, str(folder))
    seen = Programs(launch.env.get("PATH", ""), confinement.private(c.workspace), c.workspace.path)
    (python, *_), programs = seen.show((sys.executable,), sys.base_prefix)
    wanted = (Mount(str(folder), SOCKETS), Mount(script, TOOLBOX))
    mounts = (*box.profile.mounts, *(each for each in wanted if each not in box.profile.mounts))
    programs = (*box.profile.programs, *(each for each in programs if each not in box.profile.programs))
    held = Bwrap(replace(box.profile, mounts=mounts, programs=programs), box.program)
    return replace(launch, box=held), (python, "-I", "-S", TOOLBOX, SOCKETS)


def _shown(launch: Launch, box: Landlock, c: Conversation, folder: Path) -> tuple[Launch, tuple[str, ...]]:
    """The same without mounts of its own: it may read our script and its Python, and make pipes in its directory."""
    seen = Programs(launch.env.get("PATH", ""), confinement.private(c.workspace), c.workspace.path)
    (python, *_), programs = seen.show((sys.executable,), sys.base_prefix)
    wanted = (*programs, Mount(toolbox.__file__, toolbox.__file__))
    programs = (*box.profile.programs, *(each for each in wanted if each not in box.profile.programs))
    profile = replace(
        box.profile, programs=programs, mounts=(*box.profile.mounts, Mount(str(folder), str(folder), writable=True))
    )
    held = Landlock(profile, box.private, box.port)
    return replace(launch, box=held), (python, "-I", "-S", toolbox.__file__, str(folder))
