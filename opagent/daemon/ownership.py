"""One daemon per workspace: a lock on the directory `.opagent/`, which the kernel frees whatever happens."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from opagent import paths
from opagent.errors import Conflict
from opagent.watch import workfiles


class Ownership:
    """The workspaces that this daemon writes in."""

    def __init__(self) -> None:
        self._locks: dict[str, int] = {}

    def take(self, workspace: str) -> None:
        """Make `.opagent/` and lock it, once. Raises Conflict when another daemon works there, NotPrivate."""
        if workspace in self._locks:
            return
        fd = os.open(workfiles.prepare(Path(workspace)), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(fd)
            what = f"another daemon works in {workspace}"
            raise Conflict(what, "it holds the lock of .opagent/", f"lsof {workspace}/{paths.WORK}") from error
        self._locks[workspace] = fd

    def release(self) -> None:
        while self._locks:
            os.close(self._locks.popitem()[1])
