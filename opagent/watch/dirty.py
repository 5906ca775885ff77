"""Whether an editor holds a changed buffer of a file, by what it leaves beside it; opens nothing but swap files, never waits.

API: `dirty`. vim, nvim and nano (with `set locking`) keep a swap file whose byte 1007 says so, Emacs a link that names it.
Other editors leave no trace. (Design: "When to write".)
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import suppress

from opagent import paths

_HEAD = 1008  # bytes of the first block of a swap file: magic, pid, host, name, flags
_PID, _HOST, _FLAG = slice(24, 28), slice(68, 100), 1007
_SUFFIXES = ("swp", "swo", "swn")  # the second and third editor of one file


def dirty(path: str) -> bool:
    """Never raises, and believes no process that is gone: a killed editor leaves its traces for ever."""
    return _locked_by_emacs(path) or any(_changed(swap, path) for swap in _swaps(path))


def _swaps(path: str) -> Iterator[str]:
    folder, name = os.path.split(path)
    flat = os.path.realpath(path).replace("/", "%")
    stems = [os.path.join(folder, f".{name}"), *(str(swaps / flat) for swaps in paths.editor_swaps())]
    return (f"{stem}.{suffix}" for stem in stems for suffix in _SUFFIXES)


def _changed(swap: str, path: str) -> bool:
    head, written_ns = _head(swap)
    if head[:2] != b"b0" or head[_FLAG:] != b"U" or not _here(head[_HOST].partition(b"\0")[0]):
        return False
    if head[2:7] == b"nano ":  # it never takes the flag back, but writes it anew with the first change after a save
        with suppress(OSError):
            if os.stat(path).st_mtime_ns >= written_ns:
                return False
    return _lives(int.from_bytes(head[_PID], "little"))


def _head(swap: str) -> tuple[bytes, int]:
    """The first bytes of a regular file and when it was written; nothing of anything else, without waiting for it."""
    try:
        fd = os.open(swap, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return b"", 0
    try:
        found = os.fstat(fd)
        return (os.read(fd, _HEAD) if stat.S_ISREG(found.st_mode) else b""), found.st_mtime_ns
    except OSError:
        return b"", 0
    finally:
        os.close(fd)


def _locked_by_emacs(path: str) -> bool:
    """`.#NAME` -> USER@HOST.PID, with `:BOOT` behind it where the system says when it was booted."""
    folder, name = os.path.split(path)
    try:
        owner = os.readlink(os.path.join(folder, f".#{name}"))
    except OSError:
        return False
    host, _, pid = owner.rpartition("@")[2].partition(":")[0].rpartition(".")
    return _here(os.fsencode(host)) and pid.isascii() and pid.isdigit() and len(pid) < 11 and _lives(int(pid))


def _here(host: bytes) -> bool:
    """A process of another machine cannot be asked for. Editors cut long names."""
    ours = os.fsencode(socket.gethostname())
    return host == ours or (len(host) >= _HOST.stop - _HOST.start - 1 and ours.startswith(host))


def _lives(pid: int) -> bool:
    """Whether a process of ours has this number."""
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except (OSError, OverflowError):
        return False
    return True
