"""The daemon's host in the test's own process: real database, files and agents; only the socket is missing."""

from __future__ import annotations

import asyncio
import ctypes
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from opagent import files, paths
from opagent.daemon.conversation import Conversation
from opagent.daemon.host import Host
from opagent.daemon.server import Server
from opagent.process.reaper import Reaper

WITHIN = 20.0


@asynccontextmanager
async def host() -> AsyncIterator[Host]:
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # the heir of orphans, like the daemon
    files.private_directory(paths.state())
    reaper = Reaper()
    reaper.start()
    try:
        async with asyncio.TaskGroup() as tasks:
            made = Host.open(tasks, asyncio.Event())
            made.server = Server(made.greeting(), {}, made.journal)
            await made.recover()
            await asyncio.sleep(0)  # what it began has begun, and can be cancelled
            try:
                yield made
            finally:
                await made.close()
                for task in asyncio.all_tasks() - {asyncio.current_task()}:
                    if task.get_name() == "housekeeping" or task.get_name().startswith(("reader-", "writer-")):
                        task.cancel()
    finally:
        reaper.stop()
        ctypes.CDLL(None).prctl(36, 0, 0, 0, 0)


async def talk(made: Host, directory: Path, agent: str = "echo") -> Conversation:
    """A new conversation in a directory."""
    workspace = await made.workspace(str(directory), agent, dict(os.environ))
    return await made.create(workspace, agent, "")


async def until(look: Callable[[], Any]) -> Any:
    """What `look` gives, as soon as it gives something."""
    async with asyncio.timeout(WITHIN):
        while not (found := look()):  # noqa: ASYNC110  (of files and processes nobody tells)
            await asyncio.sleep(0.01)
        return found
