"""The environment of this machine's user for whoever brings none: the daemon's own, with the PATH of a login shell."""

from __future__ import annotations

import asyncio
import os

from opagent.process import login


class Own:
    """One per daemon; the shell is asked once."""

    def __init__(self) -> None:
        self._path: asyncio.Task[str] | None = None

    def ask(self) -> asyncio.Task[str]:
        """Begin to ask, so that nobody has to wait for it later."""
        if self._path is None:
            self._path = asyncio.create_task(asyncio.to_thread(login.path, dict(os.environ)), name="PATH of a login shell")
        return self._path

    async def environment(self) -> dict[str, str]:
        return {**os.environ, "PATH": await asyncio.shield(self.ask())}
