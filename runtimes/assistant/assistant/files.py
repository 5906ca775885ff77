"""Files of the workspace: read, listed, written whole. Nothing outside the workspace, nothing through a link that leads out."""

import errno
import fnmatch
import os
import stat
from collections.abc import Iterator

MAX_BYTES = 2 << 20
LISTED = 500
# a directory that is read-only around a file that is not; a file that is a mount of its own
ONLY_IN_PLACE = (errno.EROFS, errno.EACCES, errno.EPERM, errno.EBUSY)
SKIPPED = {".git", ".hg", "node_modules", "__pycache__", ".venv"}


class ToolFailed(Exception):
    """A tool cannot do what it was asked; the sentence is for the model."""


def resolve(root: str, path: str) -> str:
    """The real path of a name of the model. Raises ToolFailed."""
    if not path or "\0" in path:
        raise ToolFailed("no path was given")
    real = os.path.realpath(os.path.join(root, path))
    if real != root and not real.startswith(root.rstrip("/") + "/"):
        raise ToolFailed(f"{path} lies outside the workspace {root}")
    return real


def shown(root: str, path: str) -> str:
    return os.path.relpath(path, root)


def text(path: str) -> str:
    """A text file with its line ends as they are. Raises ToolFailed."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(fd, "rb") as file:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                raise ToolFailed(f"{path} is no regular file")
            if found.st_size > MAX_BYTES:
                raise ToolFailed(f"{path} has {found.st_size} bytes, the limit is {MAX_BYTES}; use `run` to look at a part of it")
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ToolFailed(f"{path}: {error.strerror}") from error
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ToolFailed(f"{path} is no UTF-8 text") from error


def numbered(content: str, start: int, count: int, limit: int) -> str:
    """Lines from `start` (1 is the first) with their numbers, at most `count` lines and about `limit` characters."""
    lines = content.splitlines()
    found: list[str] = []
    size = 0
    for number, line in enumerate(lines[start - 1 : start - 1 + count], start):
        row = f"{number}\t{line if len(line) <= 2000 else line[:2000] + ' [cut]'}"
        size += len(row) + 1
        if size > limit:
            break
        found.append(row)
    end = start - 1 + len(found)
    if end < len(lines):
        found.append(f"[lines {start} to {end} of {len(lines)}; read on with start={end + 1}]")
    return "\n".join(found) or "[the file is empty]"


def listed(root: str, folder: str, pattern: str) -> str:
    """The names in a directory, or with a pattern all names below it that fit."""
    if not os.path.isdir(folder):
        raise ToolFailed(f"{shown(root, folder)} is no directory")
    rows: list[str] = []
    for row in _matching(root, folder, pattern) if pattern else _names(folder):
        if len(rows) == LISTED:
            rows.append(f"[more than {LISTED}]")
            break
        rows.append(row)
    return "\n".join(rows) or "[nothing]"


def _names(folder: str) -> Iterator[str]:
    try:
        for entry in sorted(os.scandir(folder), key=lambda each: each.name):
            yield _plain(entry.name + "/" * entry.is_dir())
    except OSError as error:
        raise ToolFailed(f"{folder}: {error.strerror}") from error


def _matching(root: str, folder: str, pattern: str) -> Iterator[str]:
    for here, folders, names in os.walk(folder):
        folders[:] = sorted(set(folders) - SKIPPED)
        for name in sorted(names):
            path = os.path.join(here, name)
            if fnmatch.fnmatch(name, pattern) or fnmatch.fnmatch(os.path.relpath(path, folder), pattern):
                yield _plain(shown(root, path))


def _plain(name: str) -> str:
    return name.encode("utf-8", "replace").decode().replace("\n", "?")


def write(path: str, before: str | None, after: str) -> None:
    """Write a file whole, but only over what was read: `before`, or None for a file that is new. Raises ToolFailed."""
    try:
        now = text(path) if os.path.lexists(path) else None
        if now != before:
            raise ToolFailed(f"{path} was changed meanwhile; read it again")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        _replace(path, before is not None, after.encode("utf-8"))
    except UnicodeEncodeError as error:
        raise ToolFailed("the text has signs that are no Unicode") from error
    except OSError as error:
        raise ToolFailed(f"{path}: {error.strerror}") from error


def _replace(path: str, exists: bool, data: bytes) -> None:
    """By a new file in the old one's place; where a sandbox lets only this file be written, in the file itself."""
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            with open(fd, "wb") as file:
                file.write(data)
                file.flush()
                if exists:
                    os.fchmod(fd, stat.S_IMODE(os.stat(path).st_mode))
                os.fsync(fd)
            os.rename(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        if not exists or error.errno not in ONLY_IN_PLACE:
            raise
        with open(os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "wb") as file:
            file.write(data)
            file.truncate()
            file.flush()
            os.fsync(file.fileno())
