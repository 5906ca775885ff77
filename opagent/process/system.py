"""What a box shows of the machine itself: its programs, and a few files of /etc; nothing of anybody's.

    with contextlib.closing(System()) as system: ... system.options, system.fds

A mount costs bubblewrap a look at all mounts of the machine, some 0.1 ms. So a small file is copied into the box, which is
read-only there as well: it stays as it was at the launch.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator

SYSTEM = (
    "/usr", "/etc/ssl", "/etc/ca-certificates", "/etc/pki", "/etc/passwd", "/etc/group", "/etc/nsswitch.conf", "/etc/hosts",
    "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/localtime", "/etc/alternatives",
)  # fmt: skip
_MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")  # links into /usr, or directories of their own
_SMALL, _FEW = 512 << 10, 8  # bytes of a file, names in a directory
_OPEN = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


class System:
    """Options of bubblewrap, and the descriptors they name; `close` when it has inherited them."""

    def __init__(self) -> None:
        self.fds: list[int] = []
        self.options: list[str] = []
        try:
            for path in SYSTEM:
                self.options += self._copied(path) or (["--ro-bind", path, path] if os.path.lexists(path) else [])
        except BaseException:
            self.close()
            raise
        self.options += _merged()

    def close(self) -> None:
        while self.fds:
            os.close(self.fds.pop())

    def _copied(self, path: str, below: bool = False) -> list[str]:
        """The words that make the same in the box; none for what is large, or what we may not read."""
        try:
            fd = os.open(path, _OPEN)
        except OSError:
            return []
        kept = len(self.fds)
        try:
            found = os.fstat(fd)
            if stat.S_ISREG(found.st_mode) and found.st_size <= _SMALL:
                fd, taken = -1, high(fd)
                self.fds.append(taken)
                return ["--perms", "0644", "--file", str(taken), path]
            if below or not stat.S_ISDIR(found.st_mode) or len(names := os.listdir(fd)) > _FEW:
                return []
        finally:
            if fd >= 0:
                os.close(fd)
        words = [self._copied(f"{path}/{name}", below=True) for name in names]
        if all(words):
            return ["--dir", path, *(word for each in words for word in each)]
        while len(self.fds) > kept:
            os.close(self.fds.pop())
        return []


def _merged() -> Iterator[str]:
    for name in _MERGED:
        place = f"/{name}"
        if os.path.islink(place):
            yield from ("--symlink", os.readlink(place), place)
        elif os.path.isdir(place):
            yield from ("--ro-bind", place, place)


def high(fd: int) -> int:
    """The same under a number of two digits: those of one are for the agent's pipes. Closes the other one."""
    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10)
    finally:
        os.close(fd)
