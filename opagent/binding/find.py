"""Walks from a target up to the top of its chain and reads the file of each directory; understands nothing of what it reads.

Never blocks (FIFO, device), never follows a link for the file itself, and takes only what the user or root wrote: a file
that somebody else could have written is an error, not a binding.
"""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from opagent import files, paths
from opagent.errors import BindingInvalid, FileRefused, NotFound, WorkspaceRefused
from opagent.yamlfile import MAX_BYTES

MAX_LEVELS = 32
NEVER = ("/", "/etc")  # and home, and the state directory with its parents


@dataclass(frozen=True, slots=True)
class Found:
    """The bytes of one file, read once."""

    path: str
    directory: str
    content: bytes
    uid: int
    mode: int


@dataclass(frozen=True, slots=True)
class Chain:
    """The files above a target, nearest first. `start`: its directory; `target`: its real path."""

    target: str
    start: str
    files: tuple[Found, ...]


def chain(target: str, home: str) -> Chain:
    """The files from the target's real path up to the first of: home (included), a mount point (included), `/`.

    Whether a file says `root: true` is the caller's business. Raises NotFound, WorkspaceRefused for a target that is
    never a workspace, BindingInvalid for a file that is no plain file of ours.
    """
    try:
        real = os.path.realpath(target, strict=True)
        is_directory = stat.S_ISDIR(os.stat(real).st_mode)
    except OSError as error:
        what = "does not exist" if isinstance(error, FileNotFoundError) else "cannot be opened"
        raise NotFound(f"{target} {what}", error.strerror or "", f"ls -ld {shlex.quote(target)}") from error
    start = real if is_directory else os.path.dirname(real)
    if is_directory and never_a_workspace(start, home):
        raise WorkspaceRefused(f"{start} is never a workspace", "an agent there would see everything", "opagent init DIR")
    found = [file for directory in _upwards(start, os.path.realpath(home)) if (file := read(directory)) is not None]
    return Chain(real, start, tuple(found))


def never_a_workspace(directory: str, home: str) -> bool:
    """`/`, `/etc`, the home directory, the state directory and its parents."""
    state = os.path.realpath(paths.state())
    return directory in (*NEVER, os.path.realpath(home)) or f"{state}/".startswith(f"{directory}/")


def _upwards(directory: str, home: str) -> Iterator[str]:
    for level in range(MAX_LEVELS + 1):
        if level == MAX_LEVELS and directory != "/":
            what = f"more than {MAX_LEVELS} directories above the target"
            raise BindingInvalid(what, f"stopped at {directory}", "opagent explain")
        yield directory
        parent = os.path.dirname(directory)
        if directory in ("/", home) or os.stat(directory).st_dev != os.stat(parent).st_dev:
            return
        directory = parent


def read(directory: str) -> Found | None:
    """The `.agent.yaml` of one directory, or None. Raises BindingInvalid for anything but a readable plain file of ours."""
    return read_named(os.path.join(directory, paths.BINDING))


def read_named(path: str) -> Found | None:
    """A file that speaks about rights, or None where there is none. Raises BindingInvalid."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise _refused(path, "is a link, not a file" if os.path.islink(path) else error.strerror or str(error)) from error
    try:
        status = os.fstat(fd)
        if problem := files.owner_problem(path, status) or foreign_parent(os.path.dirname(path)):
            raise _refused(path, problem)
        content = files.read_regular(fd, MAX_BYTES, path)
    except FileRefused as error:
        raise _refused(path, str(error)) from error
    finally:
        os.close(fd)
    return Found(path, os.path.dirname(path), content, status.st_uid, stat.S_IMODE(status.st_mode))


def foreign_parent(directory: str) -> str | None:
    """The first directory from here up that somebody else could have changed, as a sentence; a sticky one is fine."""
    for folder in (Path(directory), *Path(directory).parents):
        if problem := files.owner_problem(str(folder), os.stat(folder)):
            return problem
    return None


def _refused(path: str, why: str) -> BindingInvalid:
    why = why.removeprefix(f"{path} ")
    return BindingInvalid(f"{path} cannot be used", f"{path}:1:1: {why}", f"ls -ld {shlex.quote(path)}")
