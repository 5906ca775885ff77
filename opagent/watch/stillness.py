"""Whether anybody has a file open for writing, and waiting until nobody has; reads nothing of it.

API: `still`.

A read lease is granted exactly while no writer exists (fcntl(2), Linux, own files on local file systems). Elsewhere size and
time of change have to stand still. A broken lease would raise SIGIO, whose default action ends the process; we ask for
SIGURG instead, which is ignored by default.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import signal
import time

_POLL = 0.002
_STILL = 0.03  # seconds without a change on a local file system
_STILL_POLLED = 0.3  # on one that knows no leases: its times are polled and coarse


async def still(fd: int, deadline: float) -> bool:
    """Wait until nobody writes; False where the deadline (monotonic seconds) came first."""
    seen: tuple[int, int] | None = None
    since = time.monotonic()
    while True:
        needed = _lease(fd)
        if needed == 0:
            return True
        now = time.monotonic()
        found = os.fstat(fd)
        if (found.st_size, found.st_mtime_ns) != seen:
            seen, since = (found.st_size, found.st_mtime_ns), now
        elif needed is not None and now - since >= needed:
            return True
        if now >= deadline:
            return False
        await asyncio.sleep(_POLL)


def _lease(fd: int) -> float | None:
    """0: no writer now. None: there is one. Else how long the file must stand still, because leases say nothing here."""
    try:
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        if error.errno == errno.EAGAIN:
            return None
        return _STILL if error.errno == errno.EACCES else _STILL_POLLED
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return 0
