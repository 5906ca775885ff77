"""Opening beneath a directory, private directories, whole-file writes and the exchange of two names; decides nothing.

A path that a stranger can influence is never opened by its full name: `open_beneath` asks the kernel to stay below a
directory descriptor (openat2, Linux 5.6), or walks without following any link where that call is missing.
"""

from __future__ import annotations

import errno
import functools
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from opagent.errors import FileRefused, NotPrivate

if TYPE_CHECKING:
    import ctypes

_OPENAT2 = 437  # the same number on every architecture
_NO_MAGICLINKS, _NO_SYMLINKS, _BENEATH = 0x02, 0x04, 0x08
_RENAME_EXCHANGE = 2
_AT_FDCWD = -100
_RETRIES = 16  # EAGAIN: somebody renamed meanwhile


@functools.cache
def _libc() -> ctypes.CDLL:
    import ctypes  # what only connects to the daemon has no use for it

    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    return libc


@contextmanager
def directory(path: str | Path) -> Iterator[int]:
    """A descriptor of a directory, for the functions below."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def open_beneath(directory_fd: int, path: str, flags: int, mode: int = 0o666, links: bool = True) -> int:
    """Open `path` relative to a directory and never outside it, whatever links say; without `links`, a link is an error.

    Raises OSError (EXDEV, ELOOP, ...).
    """
    import ctypes

    resolve = _BENEATH | _NO_MAGICLINKS | (0 if links else _NO_SYMLINKS)
    how = struct.pack("QQQ", flags | os.O_CLOEXEC, mode if flags & os.O_CREAT else 0, resolve)
    for _ in range(_RETRIES):
        fd = int(
            _libc().syscall(ctypes.c_long(_OPENAT2), ctypes.c_int(directory_fd), os.fsencode(path), how, ctypes.c_size_t(24))
        )
        if fd >= 0:
            return fd
        number = ctypes.get_errno()
        if number == errno.ENOSYS:
            return _open_by_walking(directory_fd, path, flags, mode)
        if number != errno.EAGAIN:
            raise OSError(number, os.strerror(number), path)
    raise OSError(errno.EAGAIN, "renamed again and again", path)


def _open_by_walking(directory_fd: int, path: str, flags: int, mode: int) -> int:
    """No link anywhere in the path: stricter than openat2, for kernels and systems without it."""
    if path.startswith("/"):
        raise OSError(errno.EXDEV, "leaves the directory", path)
    *parents, name = [part for part in path.split("/") if part not in ("", ".")] or ["."]
    if ".." in (*parents, name):
        raise OSError(errno.EXDEV, "leaves the directory", path)
    here = os.dup(directory_fd)
    try:
        for part in parents:
            below = os.open(part, os.O_DIRECTORY | os.O_NOFOLLOW | os.O_RDONLY | os.O_CLOEXEC, dir_fd=here)
            os.close(here)
            here = below
        return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=here)
    finally:
        os.close(here)


def read_regular(fd: int, limit: int, name: str) -> bytes:
    """All bytes of an open descriptor that must be a regular file of at most `limit` bytes. Raises FileRefused."""
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        raise FileRefused(f"{name} is not a regular file")
    if found.st_size > limit:
        raise FileRefused(f"{name} is too large", f"{found.st_size} bytes, the limit is {limit}")
    parts: list[bytes] = []
    left = limit + 1
    piece = max(1 << 20, found.st_size + 1)  # as a rule all of it, and nothing to be joined
    while left > 0 and (part := os.read(fd, min(left, piece))):
        parts.append(part)
        left -= len(part)
    if left <= 0:
        raise FileRefused(f"{name} is too large", f"the limit is {limit} bytes")
    return b"".join(parts)


def read_file(path: str | Path, limit: int) -> bytes:
    """All bytes of a file that may be anything: never blocks on a FIFO, never reads a device.

    Raises FileNotFoundError, PermissionError and other OSErrors as they come, FileRefused for what is no plain file.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        return read_regular(fd, limit, str(path))
    finally:
        os.close(fd)


def private_directory(path: Path) -> Path:
    """Make (with parents) and check a directory that only we may enter. Raises NotPrivate, OSError."""
    if path.parent.name == f"opagent-{os.getuid()}":  # `paths.local()`, beside which everybody may write
        private_directory(path.parent)
    for parent in reversed(path.parents):
        if not parent.is_dir():
            parent.mkdir(exist_ok=True, mode=0o700)
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        pass
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise NotPrivate(f"{path} cannot be used", error.strerror or str(error), f"ls -ld {path}") from error
    try:
        found = os.fstat(fd)
        if found.st_uid != os.geteuid():
            raise NotPrivate(f"{path} belongs to another user", f"its owner is uid {found.st_uid}", f"ls -ld {path}")
        if found.st_mode & 0o077:
            mode = stat.S_IMODE(found.st_mode)
            raise NotPrivate(f"others can enter {path}", f"its mode is {mode:04o}", f"chmod 700 {path}")
    finally:
        os.close(fd)
    return path


def write_whole(path: Path, content: bytes, mode: int = 0o600, sync: bool = True) -> None:
    """Put a file there whole or not at all: temporary name in the same directory, fsync, rename."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        write_all(fd, content)
        if sync:
            os.fsync(fd)
    except BaseException:
        os.unlink(temporary)
        raise
    finally:
        os.close(fd)
    os.rename(temporary, path)


def write_whole_at(directory_fd: int, name: str, content: bytes, mode: int) -> None:
    """`write_whole` in an open directory; what the name was before, a link too, is replaced and not followed."""
    temporary = f".{name[:200]}.{os.getpid()}.tmp"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=directory_fd)
    try:
        write_all(fd, content)
        os.fchmod(fd, mode)
        os.fsync(fd)
        os.rename(temporary, name, src_dir_fd=directory_fd, dst_dir_fd=directory_fd)
    except BaseException:
        os.unlink(temporary, dir_fd=directory_fd)
        raise
    finally:
        os.close(fd)


def write_all(fd: int, content: bytes) -> None:
    """os.write until everything is written."""
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view) :]


def exchange(first: str | Path, second: str | Path) -> None:
    """Swap two names in one step (renameat2 RENAME_EXCHANGE). Raises OSError: EINVAL or ENOSYS where it is not known."""
    import ctypes

    result = _libc().renameat2(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE)
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(second))


def owner_problem(path: str, found: os.stat_result) -> str | None:
    """Why a file or directory could have been written by somebody else, or None. A sticky directory is judged by its child."""
    if found.st_uid not in (os.geteuid(), 0):
        return f"{path} belongs to uid {found.st_uid}"
    if found.st_mode & 0o002 and not (stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX):
        return f"everybody can write {path}"
    if found.st_mode & 0o020 and not _group_is_ours(found.st_gid):
        return f"the group {found.st_gid} can write {path}"
    return None


def _group_is_ours(gid: int) -> bool:
    """A group without another member counts as the user (the usual private group), and so does root's."""
    import grp
    import pwd

    if gid == 0:
        return True
    try:
        group, user = grp.getgrgid(gid), pwd.getpwuid(os.geteuid())
    except KeyError:
        return False
    return group.gr_gid == user.pw_gid and not set(group.gr_mem) - {user.pw_name}
