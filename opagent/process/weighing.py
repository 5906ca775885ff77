"""How much memory, how many processes and listening ports the trees of running agents are at this moment. Linux.

One pass over the process table for all of them. What a sandbox's own file systems hold without a process having it mapped is not
seen; a tmpfs has a size of its own. Ports are those of TCP; the one of our relay in a sandbox is not the agent's. It changes
nothing but the priority of what has not been given one yet.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from opagent.model import ProcessId
from opagent.process import priority, proc, relay, tree
from opagent.process.profile import Limits

_PAGE = os.sysconf("SC_PAGE_SIZE")
_NUMBER = re.compile(rb"^(Pss|Pss_Shmem):\s+(\d+) kB", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Weight:
    """`memory` in bytes: exact (shared pages divided by who shares them) when it is above the limit, else at most this.

    `ports` that it listens on: looked up when it has more sockets than it may listen on, else at most that, and said as 0.
    """

    memory: int
    processes: int
    ports: int = 0


def weigh(limits: Mapping[tree.Family, Limits]) -> dict[ProcessId, Weight]:
    """Each family whose program lives, with the limits above which memory and ports are taken exactly. For a thread."""
    table, found = tree.Table(), {}
    for family, limit in limits.items():
        if roots := _roots(family, table):
            pids = [row.pid for row in table.below(roots)]
            priority.lower(pids)
            found[family.id] = _weight(pids, limit)
    return found


def _roots(family: tree.Family, table: tree.Table) -> list[int]:
    """The program, and what left it and is our child now: known by its mark, as no environment is read that often."""
    own = table.rows.get(family.pid)
    if own is None or own.start != family.start:
        return []
    adopted = (row for row in table.rows.values() if row.parent == table.here and row.session != table.session)
    marked = family.mark != tree.NO_MARK
    return [family.pid, *(row.pid for row in adopted if marked and table.mark(row.pid) == family.mark)]


def _weight(pids: list[int], limit: Limits) -> Weight:
    resident, open_ = sum(map(_resident, pids)), _descriptors(pids)
    ports = len(proc.listening(pids) - {relay.PORT}) if len(open_.sockets) > limit.ports else 0
    if limit.memory and resident + open_.memory > limit.memory:
        return Weight(_exact(pids, open_.memory), len(pids), ports)
    return Weight(resident + open_.memory, len(pids), ports)


def _resident(pid: int) -> int:
    fields = _read(f"/proc/{pid}/statm").split()
    return int(fields[1]) * _PAGE if len(fields) > 1 else 0


def _exact(pids: list[int], files: int) -> int:
    """Proportional set sizes. Of files in memory some pages are mapped and some only held: the larger sum counts."""
    own = shared = 0
    for pid in pids:
        said = {name: int(number) << 10 for name, number in _NUMBER.findall(_read(f"/proc/{pid}/smaps_rollup"))}
        part = said.get(b"Pss_Shmem", 0)
        own += said.get(b"Pss", _resident(pid) if not said else 0) - part
        shared += part
    return own + max(shared, files)


@dataclass(frozen=True, slots=True)
class _Open:
    """Of a tree: files without a name in memory (memfd_create), which need not be mapped anywhere, and sockets."""

    files: dict[int, int] = field(default_factory=dict)  # bytes, by inode
    sockets: set[str] = field(default_factory=set)

    @property
    def memory(self) -> int:
        return sum(self.files.values())


def _descriptors(pids: list[int]) -> _Open:
    found = _Open()
    for pid in pids:
        try:
            for name in os.listdir(f"/proc/{pid}/fd"):
                path = f"/proc/{pid}/fd/{name}"
                target = os.readlink(path)
                if target.startswith("/memfd:"):
                    held = os.stat(path)
                    found.files[held.st_ino] = held.st_blocks * 512
                elif target.startswith("socket:"):
                    found.sockets.add(target)
        except OSError:  # it ended meanwhile, or shows its descriptors to nobody
            continue
    return found


def _read(path: str) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read()
    except OSError:
        return b""
