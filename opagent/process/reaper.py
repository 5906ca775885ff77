"""Makes the daemon the heir of what dead agents leave behind, and buries those children; never takes a status others wait for."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import resource
import signal
import sys

from opagent.process import tree
from opagent.process.spawn import unawaited

_PR_SET_DUMPABLE, _PR_SET_CHILD_SUBREAPER = 4, 36  # linux/prctl.h
PAUSE = 0.05  # seconds between a child's death and the look: a falling tree sends many signals


def become_subreaper() -> None:
    """Orphans of our children become our children; no core files; other processes of this user can neither trace nor read us.

    Called once, before the first program starts; what it starts inherits the limit, and nothing else of it.
    """
    unreadable()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def unreadable() -> None:
    """No core files of this process, and other processes of this user can neither trace nor read it."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


class Reaper:
    """Collects adopted children that died. `start` and `stop` on the thread of the loop, around everything else."""

    def __init__(self) -> None:
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, self._soon)

    def stop(self) -> None:
        asyncio.get_running_loop().remove_signal_handler(signal.SIGCHLD)
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _soon(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(PAUSE, self._collect)

    def _collect(self) -> None:
        self._timer = None
        try:
            collect()
        except OSError:  # no descriptors left: later
            self._soon()


def collect() -> int:
    """Take the status of every dead child that we adopted; gives how many there were.

    Adopted is who is in another session: what an agent starts never is in ours, since the agent itself has its own. Children
    that other code of the daemon starts (Popen, asyncio) are in ours, and those of the supervisor stand in `unawaited`.
    """
    here, session, taken = os.getpid(), os.getsid(0), 0
    for row in tree.Table().rows.values():
        if row.parent == here and row.state == "Z" and row.session != session and row.pid not in unawaited:
            with contextlib.suppress(ChildProcessError):
                taken += os.waitpid(row.pid, os.WNOHANG)[0] == row.pid
    return taken
