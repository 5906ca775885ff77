"""Copies sign-in and settings of an agent from the person's home to what that agent keeps of its own; decides not for whom.

    said = copy(home, kept, names)     # for a thread; names are relative, of files and directories

Who ran in `kept` before wrote what it liked there: no link in it is followed, and each file is put there whole. The newer one
counts: an agent that renewed its sign-in keeps that, and a person who signs in again is heard.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from opagent import files
from opagent.errors import FileRefused

MOST, BYTES = 200, 8 << 20  # files and bytes of one name
_OPEN = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_one_at_a_time = threading.Lock()


@dataclass(slots=True)
class Copied:
    """`new`: files that were not there before; `left`: sentences about what was left out."""

    new: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Found:
    path: str  # relative to the home
    mode: int
    time: int  # ns
    content: bytes


def copy(home: str, kept: Path, names: Iterable[str]) -> Copied:
    """What is missing in `kept` or older there. `kept` and the directories of its that hold these names exist."""
    said = Copied()
    with _one_at_a_time:
        for name in names:
            try:
                with files.directory(home) as top, files.directory(kept) as own:
                    for each in _newer(top, own, name, said):
                        _put(own, each)
            except FileRefused as error:
                said.left.append(f"{error.what}: {error.why}")
            except OSError as error:
                said.left.append(f"{name}: {_words(error)}")
    return said


def present(home: str, names: Iterable[str]) -> list[str]:
    """Those that there are; reads none."""
    return [name for name in names if os.path.lexists(os.path.join(home, name))]


def _newer(top: int, own: int, name: str, said: Copied) -> list[_Found]:
    """All of one name before any of it is copied: it has a limit. Raises FileRefused, OSError."""
    found, count, size = [], 0, 0
    for path, fd in _files(top, name, said):
        try:
            seen = os.fstat(fd)
            count, size = count + 1, size + seen.st_size
            if count > MOST or size > BYTES:
                raise FileRefused(f"{name} is too large", f"more than {MOST} files or {BYTES >> 20} MiB")
            there = _time(own, path)
            if there is None or there < seen.st_mtime_ns:
                content = files.read_regular(fd, BYTES, path)
                found.append(_Found(path, stat.S_IMODE(seen.st_mode) & 0o700, seen.st_mtime_ns, content))
                said.new += [path] if there is None else []
        finally:
            os.close(fd)
    return found


def _files(top: int, name: str, said: Copied) -> Iterator[tuple[str, int]]:
    """Open files below a name, for the caller to close. A link is followed as long as it stays in the home; below, none is."""
    try:
        fd = files.open_beneath(top, name, _OPEN)
    except (FileNotFoundError, NotADirectoryError):
        return
    yield from _walked(name, fd, said)


def _walked(path: str, fd: int, said: Copied) -> Iterator[tuple[str, int]]:
    kind = os.fstat(fd).st_mode
    if stat.S_ISREG(kind):
        yield path, fd
        return
    try:
        entries = sorted(os.listdir(fd)) if stat.S_ISDIR(kind) else None
        if entries is None:
            said.left.append(f"{path} is no file and no directory")
            return
        for entry in entries:
            try:
                below = files.open_beneath(fd, entry, _OPEN, links=False)
            except OSError as error:
                said.left.append(f"{path}/{entry}: {_words(error)}")
                continue
            yield from _walked(f"{path}/{entry}", below, said)
    finally:
        os.close(fd)


def _time(own: int, path: str) -> int | None:
    """When what the agent has was written last; None: nothing that counts is there."""
    try:
        folder = _folder(own, path, make=False)
    except OSError:
        return None
    try:
        seen = os.stat(os.path.basename(path), dir_fd=folder, follow_symlinks=False)
    except OSError:
        return None
    finally:
        os.close(folder)
    return seen.st_mtime_ns if stat.S_ISREG(seen.st_mode) else None


def _put(own: int, each: _Found) -> None:
    folder, name = _folder(own, each.path, make=True), os.path.basename(each.path)
    try:
        files.write_whole_at(folder, name, each.content, each.mode)
        os.utime(name, ns=(each.time, each.time), dir_fd=folder, follow_symlinks=False)
    finally:
        os.close(folder)


def _folder(own: int, path: str, make: bool) -> int:
    """The directory of a path, by names that are no links; made where it is missing."""
    here = os.dup(own)
    try:
        for part in Path(path).parts[:-1]:
            if make:
                try:
                    os.mkdir(part, 0o700, dir_fd=here)
                except FileExistsError:
                    pass
            below = os.open(part, _FOLDER, dir_fd=here)
            os.close(here)
            here = below
    except BaseException:
        os.close(here)
        raise
    return here


_WORDS = {
    errno.EXDEV: "a link that leads out of your home directory",
    errno.ELOOP: "a link",
    errno.ENXIO: "a socket",
    errno.EISDIR: "a directory has that name here",
}


def _words(error: OSError) -> str:
    return _WORDS.get(error.errno or 0, error.strerror or str(error))
