"""One look at what lies in a workspace before an agent starts there: its names, and files that have another name outside.

Follows no link, opens no file, and looks into no repository's own data. For a thread: a large tree takes a while.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from typing import Any

MOST = 50_000  # names; what lies beyond them is not looked at
SKIPPED = frozenset((".git", "node_modules", "__pycache__", ".venv", "venv", ".tox", ".mypy_cache", ".pytest_cache"))


@dataclass(slots=True)
class Census:
    """`tree`: policy/reach.py; `linked`: files with a name outside the workspace; `whole` false: there was more than MOST."""

    tree: dict[str, Any] = field(default_factory=dict)
    linked: list[str] = field(default_factory=list)
    whole: bool = True
    names: list[str] = field(default_factory=list)  # every path of the tree


def take(workspace: str, links: bool = True) -> Census:
    """`links` false: hard links do not matter. What cannot be read is left out: the agent cannot read it either."""
    found = Census()
    names: dict[tuple[int, int], list[str]] = {}  # of files with several names: those in here
    total: dict[tuple[int, int], int] = {}
    count = 0
    waiting: list[tuple[str, dict[str, Any]]] = [("", found.tree)]
    while waiting:
        path, here = waiting.pop()
        for entry in _entries(os.path.join(workspace, path) if path else workspace):
            count += 1
            if count > MOST:
                found.whole = False
                return found
            name = f"{path}/{entry.name}" if path else entry.name
            is_directory = entry.is_dir(follow_symlinks=False)
            found.names.append(name)
            here[entry.name] = {} if is_directory else None
            if is_directory and entry.name not in SKIPPED:
                waiting.append((name, here[entry.name]))
            elif links and not is_directory and (several := _several(entry)) is not None:
                names.setdefault(several[0], []).append(name)
                total[several[0]] = several[1]
    found.linked = sorted(name for file, known in names.items() if len(known) < total[file] for name in known)
    return found


def _several(entry: os.DirEntry[str]) -> tuple[tuple[int, int], int] | None:
    try:
        status = entry.stat(follow_symlinks=False)
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode) or status.st_nlink < 2:
        return None
    return (status.st_dev, status.st_ino), status.st_nlink


def _entries(path: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError:
        return []
