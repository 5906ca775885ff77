"""Whether a git operation brought a save: a gesture that came out of a repository sends nothing; looks at times, runs no git.

API: `moment`, `brought`, `switched`. No cache: a look costs less than 0.1 ms. (Design: "When a gesture counts", 4.)
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from opagent import files
from opagent.errors import FileRefused

# Touched by everything that moves HEAD, fetches, merges or takes from the stash; AUTO_MERGE is all that `stash pop` leaves.
# The index is not among them: editors refresh it.
_TOUCHED = ("HEAD", "ORIG_HEAD", "FETCH_HEAD", "logs/HEAD", "MERGE_HEAD", "AUTO_MERGE")
# In the reflog: what puts other versions into the work tree, where a commit leaves it as it is.
_SWITCHES = re.compile(rb"> (\d+) [-+]\d{4}\t(?:checkout|reset|rebase|pull|merge|cherry-pick|revert)\b")
_TAIL = 4096  # bytes of the reflog
_POINTER = 4096 + 16  # bytes of a `.git` that is a file


BEFORE = 2.0  # seconds: a look comes later than what it sees


@dataclass(frozen=True, slots=True)
class GitMoment:
    """`directory`: of git, the work tree's own; "" outside a repository. `changed_ns`: 0 where nothing was ever touched."""

    directory: str
    locked: bool
    changed_ns: int


def moment(path: str) -> GitMoment:
    """How the repository around a file stands now. Never raises."""
    directory = _git_directory(os.path.dirname(os.path.abspath(path)))
    if not directory:
        return GitMoment("", False, 0)
    times = [_mtime(os.path.join(directory, name)) for name in _TOUCHED]
    return GitMoment(directory, os.path.lexists(os.path.join(directory, "index.lock")), max(times))


def brought(path: str, saved_at_ns: int, before: float = BEFORE) -> bool:
    """Whether git is at work, or was since `before` seconds before the save (its time as the file system stamped it)."""
    now = moment(path)
    return now.locked or now.changed_ns > max(0, saved_at_ns - int(before * 1e9))


def switched(path: str, saved_at_ns: int, before: float = BEFORE) -> int:
    """In which second (of the epoch) git last put another version of the tree there, since shortly before the save; else 0."""
    directory = _git_directory(os.path.dirname(os.path.abspath(path)))
    try:
        with open(os.path.join(directory or os.devnull, "logs/HEAD"), "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
            times = [int(found[1]) for found in _SWITCHES.finditer(file.read())]
    except OSError:
        return 0
    return times[-1] if times and times[-1] >= saved_at_ns // 10**9 - before else 0


def _git_directory(folder: str) -> str:
    while True:
        dot = os.path.join(folder, ".git")
        directory = dot if os.path.isdir(dot) else _pointed(dot)
        if directory and os.path.lexists(os.path.join(directory, "HEAD")):
            return directory
        if folder == os.path.dirname(folder):
            return ""
        folder = os.path.dirname(folder)


def _pointed(dot: str) -> str:
    """What a `.git` file of a work tree or submodule names."""
    try:
        words = os.fsdecode(files.read_file(dot, _POINTER))
    except (OSError, FileRefused):
        return ""
    name = words.removeprefix("gitdir: ").rstrip("\r\n")
    return os.path.join(os.path.dirname(dot), name) if name != words and "\0" not in name else ""


def _mtime(path: str) -> int:
    try:
        return os.lstat(path).st_mtime_ns
    except OSError:
        return 0
