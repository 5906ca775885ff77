"""What makes the daemon the only one here, and found: its lock and its socket; both are made anew when somebody removes them.

A cleaner of temporary files, a logout or a person may delete either. Clients that find no socket while a daemon lives wait
(`launch.py`), so a look now and then is enough.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import logging
import os
import shutil
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

from opagent import files, paths
from opagent.errors import Conflict, OpAgentError
from opagent.version import VERSION

log = logging.getLogger(__name__)

CHECK = 5.0  # seconds between two looks: a client waits ten
LEAVES_WITHIN = 9.0  # a client waits ten for a daemon
_FORGOTTEN = 30 * 86400.0  # seconds after which a directory of another machine is taken for left; it would be made anew

Listen = Callable[[], Awaitable[asyncio.Server]]


class Doorway:
    """Made by `the_only_one`, one per daemon."""

    def __init__(self, lock: int) -> None:
        self._lock = lock
        self._server: asyncio.Server | None = None
        self._socket: tuple[int, int] | None = None

    async def open(self, listen: Listen) -> None:
        """Binds the socket. Raises OSError."""
        server = await listen()
        if self._server is not None:
            self._server.close()
        self._server, self._socket = server, _identity(paths.socket())
        files.write_whole(paths.daemon_code(), f"{paths.code() or '-'} {VERSION}\n".encode(), sync=False)

    async def keep_open(self, listen: Listen) -> None:
        """For ever: looks whether socket and lock are still what clients find, and makes them anew."""
        said = ""
        while True:
            await asyncio.sleep(CHECK)
            if self._stands():
                continue
            try:
                self._take_again()
                await self.open(listen)
                log.warning("%s had been removed: listening anew", paths.socket())
                said = ""
            except (OpAgentError, OSError) as error:
                if str(error) != said:
                    log.warning("%s was removed, and cannot be made anew: %s", paths.socket(), error)
                said = str(error)

    def close(self) -> None:
        """Nobody finds it any more; the lock is held on."""
        if self._server is not None:
            if _identity(paths.socket()) == self._socket:
                paths.socket().unlink(missing_ok=True)
            self._server.close()

    def release(self) -> None:
        os.close(self._lock)

    def _stands(self) -> bool:
        return _identity(paths.socket()) == self._socket and _identity(paths.daemon_pid()) == _identity(self._lock)

    def _take_again(self) -> None:
        """The lock of the file that stands there now. Raises Conflict when another daemon holds it."""
        files.private_directory(paths.state())
        files.private_directory(paths.run())
        if _identity(paths.daemon_pid()) == _identity(self._lock):
            return
        fd = _opened(paths.daemon_pid())
        if not _locked(fd):
            os.close(fd)
            raise _taken(paths.daemon_pid())
        _sign(fd)
        os.close(self._lock)
        self._lock = fd


@contextlib.contextmanager
def the_only_one() -> Iterator[Doorway]:
    """Holds the daemon's lock for as long as it lives. Raises Conflict when another daemon does.

    One that takes no more connections is leaving: it is waited for, or the command after a stop would fail.
    """
    path = paths.daemon_pid()
    fd = _opened(path)
    end = time.monotonic() + LEAVES_WITHIN
    try:
        while not _locked(fd):
            if time.monotonic() > end or _somebody_listens():
                raise _taken(path)
            time.sleep(0.02)
    except BaseException:
        os.close(fd)
        raise
    _sign(fd)
    doorway = Doorway(fd)
    try:
        yield doorway
    finally:
        doorway.release()


def remove_old() -> None:
    """The directories of earlier boots of this machine, and those that another one has not touched for a month."""
    mine = paths.here()
    with contextlib.suppress(OSError):
        os.utime(paths.run())
        for folder in paths.runs().iterdir():
            machine, _, boot = folder.name.partition("-")
            if not boot or folder.name == mine or folder == paths.run():
                continue
            old = machine == mine.partition("-")[0] and boot[:8] != mine.partition("-")[2][:8]
            if old or abs(time.time() - folder.lstat().st_mtime) > _FORGOTTEN:
                shutil.rmtree(folder, ignore_errors=True)


def _identity(place: Path | int) -> tuple[int, int] | None:
    try:
        found = os.fstat(place) if isinstance(place, int) else place.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _opened(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _sign(fd: int) -> None:
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)


def _taken(path: Path) -> Conflict:
    return Conflict("a daemon is already running", f"it holds {path}", "opagent daemon status")


def _somebody_listens() -> bool:
    with socket.socket(socket.AF_UNIX) as stream:
        stream.setblocking(False)
        return stream.connect_ex(str(paths.socket())) in (0, errno.EAGAIN)  # EAGAIN: so many clients that its queue is full
