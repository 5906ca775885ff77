"""Finds the daemon of this user and host or starts it, exactly one, and gives a connected socket. Speaks no protocol.

The order is that of tmux: dial; take the lock; dial again; start; wait for its byte; dial. The lock only serialises starting:
that there is one daemon is the work of the daemon's own lock, and under that one it removes a stale socket.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import socket
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from opagent import files, paths
from opagent.errors import DaemonUnavailable, NotPrivate

if TYPE_CHECKING:  # importing it takes as long as three requests, and only a start needs it
    import subprocess

DEADLINE = 10.0  # seconds: a daemon that is starting, a daemon that says nothing
_ROOT = str(Path(__file__).resolve().parent.parent)
_WITHOUT_SITE = ("-S", _ROOT) if sys.flags.no_site else ()  # run from a payload (remote/payload.py): nothing else is on the path


def module(name: str) -> tuple[str, ...]:
    """What follows the interpreter to run a module of ours: from wherever this one was loaded, in nobody's environment."""
    return ("-I", *_WITHOUT_SITE, "-m", name)


DAEMON = module("opagent.daemon.main")

_LISTENS_WITHIN = 0.5  # seconds between a daemon's lock and its socket
_started: list[subprocess.Popen[bytes]] = []  # daemons that this process started: kept so that their end can be collected


def connect(start: bool, end: float) -> socket.socket:
    """A socket to the running daemon, or to one that is started now, before the moment `end` of the monotonic clock.

    Raises DaemonUnavailable (none runs and `start` is false; it cannot start; it takes too long), NotPrivate.
    """
    if start:
        _private_directories()
    soon = time.monotonic() + _LISTENS_WITHIN
    while (stream := dial(paths.socket(), end)) is None:
        lives = _lives_unheard()
        if lives and (stream := _dial_older(end)) is not None:
            return stream
        if not (start or lives):
            if time.monotonic() < soon and _holder(paths.daemon_pid()) is not None:  # it makes its socket anew, or leaves
                time.sleep(0.02)
                continue
            raise DaemonUnavailable("no daemon is running", hint="opagent daemon start")
        if time.monotonic() > end:
            why = "it listens elsewhere: is OPAGENT_RUN_DIR another one here?" if lives else "it takes too long to be ready"
            raise silent(why)
        if lives:
            time.sleep(0.02)
            soon = time.monotonic() + _LISTENS_WITHIN
            continue
        with _lock() as ours:
            if not ours:
                time.sleep(0.01)
            elif (stream := dial(paths.socket(), end)) is None:
                _launch(end)
            else:
                return stream
    return stream


def _lives_unheard() -> bool:
    """Whether a daemon of this machine has the database, though the files it can be found by are gone.

    It makes them anew in a moment (`daemon/doorway.py`); another one could not have the database. One that still holds its lock
    is leaving, or has lost its socket only: the one that is started waits for that.
    """
    pid, _, place = (_holder(paths.database_lock(paths.database())) or "").partition(" ")
    return place in ("", paths.here()) and pid.isdigit() and _holder(paths.daemon_pid()) is None and _is_there(int(pid))


def _is_there(pid: int) -> bool:
    from opagent.process import tree  # slow to import, and seldom needed

    return tree.start_time(pid) is not None


def _holder(path: Path) -> str | None:
    """What the process that holds this lock wrote into it; None when nobody does."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return None
    except BlockingIOError:
        return os.pread(fd, 64, 0).decode("ascii", "replace").strip()
    finally:
        os.close(fd)


def _dial_older(end: float) -> socket.socket | None:
    """A daemon that was started by an older version listens elsewhere."""
    return next((stream for path in paths.former_sockets() if (stream := dial(path, end)) is not None), None)


def silent(why: str) -> DaemonUnavailable:
    return DaemonUnavailable("the daemon does not answer", f"{why}; its log is {paths.daemon_log()}", "opagent daemon status")


def _private_directories() -> None:
    try:
        files.private_directory(paths.state())
        files.private_directory(paths.run())
    except OSError as error:
        raise DaemonUnavailable(f"{error.filename} cannot be made", error.strerror or "", "opagent doctor") from error


def dial(path: Path, end: float) -> socket.socket | None:
    """A connection to a socket of ours, or None when nobody listens. Raises NotPrivate, DaemonUnavailable at the moment `end`."""
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        while not _connected(stream, path):
            if time.monotonic() > end:
                raise silent("too many clients are waiting for it")
            time.sleep(0.005)
        _, uid, _ = struct.unpack("3i", stream.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if uid != os.geteuid():
            raise NotPrivate(f"{path} belongs to another user", f"uid {uid} listens there", f"ls -l {path}")
    except (ConnectionRefusedError, FileNotFoundError):
        stream.close()
        return None
    except BaseException:
        stream.close()
        raise
    return stream


def _connected(stream: socket.socket, path: Path) -> bool:
    stream.setblocking(False)
    try:
        stream.connect(str(path))
    except BlockingIOError:  # the daemon's queue is full: many clients at once
        return False
    return True


@contextmanager
def _lock() -> Iterator[bool]:
    """Whether this process is now the one that may start the daemon; the kernel frees the lock of a killed one."""
    fd = _open(paths.lock(), os.O_RDWR)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        ours = True
    except BlockingIOError:
        ours = False
    try:
        yield ours
    finally:
        os.close(fd)


def _open(path: Path, flags: int) -> int:
    """A file of ours in a private directory, made when it is missing. Raises NotPrivate for a link, DaemonUnavailable."""
    try:
        return os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        kind = NotPrivate if error.errno == errno.ELOOP else DaemonUnavailable
        raise kind(f"{path} cannot be opened", error.strerror or "", f"ls -l {path}") from error


def _launch(end: float) -> None:
    """Start the daemon, detached, and wait for its byte; one that left because another is there is no error."""
    from opagent import staying  # with what it imports as slow as a request, and only a start needs it

    plan = staying.decide(staying.ask())
    if _ready(plan.prefix, end) or (plan.prefix and _ready((), end)):  # the user's manager may not be there after all
        return
    other = dial(paths.socket(), end)
    if other is not None:
        other.close()
    elif _started[-1].wait(DEADLINE) >= 0:  # less than 0: it was killed while it started, and is started again
        raise DaemonUnavailable("the daemon could not start", _last_line(), f"tail {paths.daemon_log()}")


def _ready(prefix: tuple[str, ...], end: float) -> bool:
    """Whether a daemon that is started now says that it is ready; false when it ended."""
    ready = _spawn(prefix)
    try:
        came, _, _ = select.select([ready], [], [], max(0.0, end - time.monotonic()))
        if not came:
            raise silent("it takes too long to be ready")
        return bool(os.read(ready, 1))
    finally:
        os.close(ready)


def _spawn(prefix: tuple[str, ...]) -> int:
    """The reading end of the daemon's ready pipe."""
    import subprocess

    from opagent import staying

    _started[:] = [process for process in _started if process.poll() is None]
    log = _open(paths.daemon_log(), os.O_WRONLY | os.O_APPEND)
    ready, its_end = os.pipe()
    try:
        _started.append(
            subprocess.Popen(
                [*prefix, sys.executable, *DAEMON, "--ready-fd", str(its_end)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                umask=0o077,
                start_new_session=True,
                pass_fds=(its_end,),
                env=staying.environment() if prefix else None,
            )
        )
    finally:
        os.close(its_end)
        os.close(log)
    return ready


def _last_line() -> str:
    """The last line of the daemon's log, which usually is the reason."""
    lines = paths.daemon_log().read_bytes()[-4096:].decode(errors="replace").split("\n")
    return next((line.strip().removeprefix("error: ") for line in reversed(lines) if line.strip()), "it wrote nothing to its log")
