"""What running agents use of the machine, their whole trees counted; looks only, and stops nothing.

One pass over the process table serves all agents. The figures come from /proc, elsewhere from psutil, which a machine we only
reached through a connection does not have: then there are none, and nothing else changes.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol, cast

from opagent.process import proc

COMMAND = 300  # characters of a command line


class Source(Protocol):
    """Where the figures come from: a module. Asked in a thread. A process that ended meanwhile is None or left out."""

    def parents(self) -> dict[int, int]:
        """Every process that can be seen, with its parent."""

    def used(self, pid: int) -> tuple[int, float] | None:
        """Resident bytes, and seconds of CPU so far."""

    def described(self, pid: int) -> str | None:
        """Its command line, or its name where that cannot be seen."""

    def listening(self, pids: Iterable[int]) -> set[int]:
        """The TCP ports they listen on. Slow: reads every descriptor."""


def source() -> Source | None:
    """None where neither /proc nor psutil is at hand."""
    if os.path.exists("/proc/self/stat"):
        return cast(Source, proc)
    try:
        return cast(Source, importlib.import_module("opagent.process.foreign"))
    except ImportError:
        return None


@dataclass(frozen=True, slots=True)
class Usage:
    """A tree: resident bytes (shared pages counted once per process), seconds of CPU so far, number of processes."""

    memory: int
    cpu: float
    processes: int

    def as_json(self) -> dict[str, Any]:
        return {"memory": self.memory, "cpu": round(self.cpu, 3), "processes": self.processes}


def usage(roots: Iterable[int]) -> dict[int, Usage]:
    """The trees below these pids; a root that is gone is left out."""
    look = source()
    if look is None:
        return {}
    found = {}
    for root, members in _trees(roots, look.parents()).items():
        used = [each for each in map(look.used, members) if each is not None]
        if used:
            found[root] = Usage(sum(memory for memory, _ in used), sum(cpu for _, cpu in used), len(used))
    return found


def ports(roots: Iterable[int]) -> dict[int, tuple[int, ...]]:
    """The TCP ports that the trees listen on, sorted; slow, so only where somebody wants to see them."""
    look = source()
    if look is None:
        return {}
    return {root: tuple(sorted(look.listening(members))) for root, members in _trees(roots, look.parents()).items()}


@dataclass(frozen=True, slots=True)
class Child:
    """A process below an agent's own; `command` is its command line, or its name where that cannot be seen."""

    pid: int
    parent: int
    command: str

    def as_json(self) -> dict[str, Any]:
        return {"pid": self.pid, "parent": self.parent, "command": self.command}


def children(roots: Iterable[int]) -> dict[int, tuple[Child, ...]]:
    """What the trees below these pids consist of, without the roots; a parent stands before its children."""
    look = source()
    if look is None:
        return {}
    parents = look.parents()
    found = {}
    for root, members in _trees(roots, parents).items():
        said = [(pid, look.described(pid)) for pid in members[1:]]
        found[root] = tuple(Child(pid, parents[pid], command[:COMMAND]) for pid, command in said if command)
    return found


def _trees(roots: Iterable[int], parents: dict[int, int]) -> dict[int, list[int]]:
    """Each root that lives with all pids below it."""
    below: dict[int, list[int]] = {}
    for pid, parent in parents.items():
        below.setdefault(parent, []).append(pid)
    found: dict[int, list[int]] = {}
    for root in roots:
        if root in parents:
            members = [root]
            for pid in members:  # grows while it is walked
                members += below.get(pid, [])
            found[root] = members
    return found
