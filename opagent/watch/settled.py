"""A conversation file read when nobody writes it; changes nothing, knows no format.

API::

    place = locate(workspace, path)          # links resolved; FileRefused outside the workspace
    unchanged(place, stamp)                  # whether the file is still what it was, without opening it
    reading = await settled_read(place)      # FileRefused, FileNotFoundError; waits are awaits with a deadline

(Design: "Reading settled".)
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from opagent import files
from opagent.errors import FileRefused
from opagent.watch.stillness import still

LIMIT = 16 << 20  # bytes
PATIENCE = 3.0  # seconds to wait for a writer, a torn file or a missing one
POLL = 0.002
_COARSE = 20_000_000  # ns; older kernels stamp two writes within one tick of their clock alike


@dataclass(frozen=True, slots=True)
class Place:
    """A file of a workspace: the directory's real path and the file's path below it, no link in either."""

    workspace: Path
    inside: str

    @property
    def path(self) -> Path:
        return self.workspace / self.inside


class Stamp(NamedTuple):
    """By which a file is known to be as it was, unread."""

    inode: int
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, found: os.stat_result) -> Stamp:
        return cls(found.st_ino, found.st_size, found.st_mtime_ns)


@dataclass(frozen=True, slots=True)
class Reading:
    """`torn`: empty or only blanks, for as long as we looked. `quiet`: nobody wrote it then; else it may be half a save.

    `links` above 1: the exchange will split a hard link. `stamp`: from before the bytes were read.
    """

    content: bytes
    torn: bool
    links: int
    quiet: bool
    stamp: Stamp


def locate(workspace: Path, path: Path) -> Place:
    """Where a conversation file really is (`path` absolute or below the workspace). Raises FileRefused for one outside."""
    root = Path(os.path.realpath(workspace))
    real = Path(os.path.realpath(root / path))
    if not real.is_relative_to(root) or real == root:
        raise FileRefused(f"{path} leads out of the workspace", f"to {real}", f"ls -l {path}")
    return Place(root, str(real.relative_to(root)))


def unchanged(place: Place, stamp: Stamp | None) -> bool:
    """Whether the file is still the one that the stamp was taken of, and cannot have been saved in the same tick of a clock."""
    try:
        found = os.stat(place.path, follow_symlinks=False)
    except OSError:
        return False
    return Stamp.of(found) == stamp and time.time_ns() - found.st_mtime_ns > _COARSE


async def settled_read(place: Place, patience: float = PATIENCE) -> Reading:
    """The bytes once no writer has the file open, of the file that the path names then.

    Waits up to `patience` seconds for writers, for a file that is missing between an editor's rename and its create, and
    for one that is empty or holds NUL bytes. Raises FileNotFoundError, PermissionError, FileRefused (no regular file,
    another's, too large, NUL bytes, UTF-16).
    """
    deadline = time.monotonic() + patience
    while True:
        over = time.monotonic() >= deadline
        reading = None
        try:
            reading = await _read_once(place, deadline)
        except FileNotFoundError:
            if over:
                raise
        if reading is not None and (over or not (reading.torn or b"\0" in reading.content)):
            return _text(reading, place)
        if over and reading is None:
            raise FileNotFoundError(errno.ENOENT, "replaced again and again", str(place.path))
        await asyncio.sleep(POLL)


async def _read_once(place: Place, deadline: float) -> Reading | None:
    """None where the path names another file after the wait for its writers."""
    with files.directory(place.workspace) as root:
        fd = _opened(root, place)
    try:
        found = os.fstat(fd)
        _ours(found, place)
        quiet = await still(fd, deadline)
        read = os.fstat(fd)
        content = files.read_regular(fd, LIMIT, str(place.path))
        named = os.stat(place.path, follow_symlinks=False)
        if (named.st_dev, named.st_ino) != (found.st_dev, found.st_ino):
            return None
        return Reading(content, not content.strip(), found.st_nlink, quiet, Stamp.of(read))
    finally:
        os.close(fd)


def _opened(root: int, place: Place) -> int:
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY
    try:
        return files.open_beneath(root, place.inside, flags)
    except OSError as error:
        if error.errno in (errno.ENXIO, errno.ELOOP, errno.EXDEV, errno.ENODEV):  # a socket, a link, a device without driver
            raise FileRefused(f"{place.path} is not a regular file", error.strerror or "") from error
        raise


def _ours(found: os.stat_result, place: Place) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise FileRefused(f"{place.path} is not a regular file")
    if found.st_size > LIMIT:
        raise FileRefused(f"{place.path} is too large", f"{found.st_size} bytes, the limit is {LIMIT}")
    if found.st_uid != os.geteuid() != 0:
        raise FileRefused(f"{place.path} belongs to another user", f"its owner is uid {found.st_uid}", f"ls -l {place.path}")


def _text(reading: Reading, place: Place) -> Reading:
    if reading.content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise FileRefused(f"{place.path} is UTF-16", "a conversation is UTF-8", f"iconv -f UTF-16 -t UTF-8 {place.path}")
    if b"\0" in reading.content:
        raise FileRefused(f"{place.path} holds NUL bytes", "it is damaged, or no text")
    return reading
