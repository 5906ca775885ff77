"""A machine behind a command: any argv that gives a program's stdio there (`docker exec -i C`, `kubectl exec -i P --`).

Each program is a new process of that command, with `sh -c LINE` appended as three words: no shell of this machine reads them.
"""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Sequence

from opagent.errors import Usage
from opagent.remote import pipes, refusals
from opagent.remote.seam import Stream


class CommandConnection:
    """There is nothing that stays open between two programs, so nothing that could be lost."""

    transport = "command"

    def __init__(self, machine: str, argv: Sequence[str]) -> None:
        self.identity = shlex.join(argv)
        self._machine, self._argv = machine, tuple(argv)
        self._programs = pipes.Programs()
        self._closed: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def run(self, line: str) -> Stream:
        if self._closed.done():
            raise refusals.lost(self._machine, self._closed.result())
        try:
            return self._programs.add(await pipes.start([*self._argv, "sh", "-c", line]))
        except OSError as error:
            raise refusals.no_program(self._machine, self._argv[0]) from error

    async def socket(self, path: str) -> Stream | None:
        return None

    async def lost(self) -> str:
        why = await asyncio.shield(self._closed)
        await self._programs.left()
        return why

    def close(self) -> None:
        if not self._closed.done():
            self._closed.set_result("it was closed here")
            self._programs.close()


def dial(machine: str, argv: Sequence[str]) -> CommandConnection:
    """Starts nothing yet. Raises Usage without an argv."""
    if not argv or not argv[0]:
        raise Usage(f"no command leads to {machine}", "the transport `command` needs one", "opagent host list")
    return CommandConnection(machine, argv)
