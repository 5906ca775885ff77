"""What stands in a whole workspace, and how that differs from what stood there before a turn; judges nothing.

API, all of it blocking::

    before = take(workspace)                    # one lstat per name: 3 to 4 us
    after = take(workspace)
    for change in differences(before, after):   # made, changed, removed
        digest(workspace, change.path)          # of what stands there now; None where it cannot be read or is too large

Links are not followed. Named and not looked into: OpAgent's own directory (`SKIPPED`) and git's objects.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from dataclasses import dataclass
from typing import NamedTuple

from opagent import files, paths
from opagent.errors import FileRefused

MOST = 50_000  # names; beyond that nobody can say what a turn changed, and says so
WITHIN = 3.0  # seconds; a slow file system is given up like a large one
DIGESTED = 8 * 2**20  # bytes; of a larger file the size has to do
SKIPPED = frozenset({paths.WORK})  # a directory of this name, anywhere
_BULKY = frozenset(
    {"node_modules", ".venv", "venv", "__pycache__", ".tox", "target", "build"}
)  # last: the rest is not lost for it
_OBJECTS = (".git/objects", ".git/lfs")  # named by their content: what refers to them is looked at


class Entry(NamedTuple):
    """One name. Of a directory only what it is: its times change with every name in it."""

    inode: int
    mode: int  # with the type
    links: int
    size: int
    mtime: int  # ns
    ctime: int  # ns: no program sets it back

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.mode)


class Change(NamedTuple):
    """`before` is None for what was made, `after` for what was removed."""

    path: str  # relative to the workspace
    before: Entry | None
    after: Entry | None

    @property
    def how(self) -> str:
        return "made" if self.before is None else "removed" if self.after is None else "changed"


@dataclass(frozen=True, slots=True)
class Inventory:
    """`entries` by path relative to the workspace. `lacks`: why it is not all of it, or empty."""

    entries: dict[str, Entry]
    lacks: str = ""


def take(workspace: str, most: int = MOST) -> Inventory:
    """Everything below. Raises no OSError."""
    try:
        with files.directory(workspace) as top:
            return _taken(top, most)
    except OSError:
        return Inventory({})


def _taken(top: int, most: int) -> Inventory:
    entries: dict[str, Entry] = {}
    folders, bulky, end = [""], list[str](), time.monotonic() + WITHIN
    while folders or bulky:
        folder = folders.pop() if folders else bulky.pop()
        for path, entry in _listed(top, folder):
            if len(entries) >= most:
                return Inventory(entries, f"more than {most} files")
            entries[path] = entry
            if entry.is_directory and not _left_out(path):
                (bulky if os.path.basename(path) in _BULKY else folders).append(f"{path}/")
        if time.monotonic() > end:
            return Inventory(entries, f"looking at it took longer than {WITHIN:.0f} s")
    return Inventory(entries)


def _left_out(path: str) -> bool:
    return os.path.basename(path) in SKIPPED or f"/{path}".endswith(tuple(f"/{each}" for each in _OBJECTS))


def _listed(top: int, folder: str) -> list[tuple[str, Entry]]:
    """A directory that went, that may not be read, or that is a link by now, is empty."""
    listed: list[tuple[str, Entry]] = []
    try:
        fd = files.open_beneath(top, folder or ".", os.O_RDONLY | os.O_DIRECTORY, links=False)
    except OSError:
        return listed
    try:
        with os.scandir(fd) as found:  # by its descriptor: a name is looked up in it, and not from the root
            for each in found:
                try:
                    seen = each.stat(follow_symlinks=False)
                except OSError:
                    continue
                facts = (seen.st_ino, seen.st_mode, seen.st_nlink, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns)
                entry = _make(facts if not _is_directory(facts[1]) else (*facts[:2], 0, 0, 0, 0))
                listed.append((folder + each.name, entry))
    except OSError:
        pass
    finally:
        os.close(fd)
    return listed


_make, _is_directory = Entry._make, stat.S_ISDIR  # looked up once, not for every name


def differences(before: Inventory, after: Inventory) -> list[Change]:
    """By path, in its order. What one of the two lacks because it was given up is no difference."""
    old, new = before.entries, after.entries
    paths_ = {path for path, entry in new.items() if old.get(path) != entry and (path in old or not before.lacks)}
    if not after.lacks:
        paths_ |= old.keys() - new.keys()
    return [Change(path, old.get(path), new.get(path)) for path in sorted(paths_)]


def digest(workspace: str, path: str, limit: int = DIGESTED) -> str | None:
    """sha256 of what stands there now, of a link of where it points to; never through a link, never of a device or pipe."""
    try:
        with files.directory(workspace) as top:
            try:
                fd = files.open_beneath(top, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY, links=False)
            except OSError:
                return hashlib.sha256(os.fsencode(os.readlink(path, dir_fd=top))).hexdigest()
            try:
                return hashlib.sha256(files.read_regular(fd, limit, path)).hexdigest()
            finally:
                os.close(fd)
    except (OSError, FileRefused):
        return None
