"""What lies beside the database: the ballast that a full disk gets back; opens no database."""

from __future__ import annotations

import os
from pathlib import Path

BALLAST = 2**20  # bytes


class Ballast:
    """A file of 1 MiB beside the database. Taken away when the disk is full, put back when there is room again."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def put(self) -> bool:
        """Whether the ballast is there, with as much again left free. Never raises: a disk without room has none."""
        try:
            if self._path.exists():
                return True
            room = os.statvfs(self._path.parent)
            if room.f_bavail * room.f_frsize < 2 * BALLAST:
                return False
            fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError:
            return False
        try:
            os.posix_fallocate(fd, 0, BALLAST)
        except OSError:
            self.drop()
            return False
        finally:
            os.close(fd)
        return True

    def drop(self) -> None:
        try:
            self._path.unlink(missing_ok=True)
        except OSError:
            return  # a file system that went read-only: there is nothing to be gained
