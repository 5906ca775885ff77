"""How much memory, and how many processes, the trees of running agents are at this moment; looks only. Linux.

One pass over the process table for all of them. What a sandbox's own file systems hold without a process having it mapped is not
seen; a tmpfs has a size of its own.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from opagent.model import ProcessId
from opagent.process import tree

_PAGE = os.sysconf("SC_PAGE_SIZE")
_NUMBER = re.compile(rb"^(Pss|Pss_Shmem):\s+(\d+) kB", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Weight:
    """`memory` in bytes: exact (shared pages divided by who shares them) when it is above the limit, else at most this."""

    memory: int
    processes: int


def weigh(limits: Mapping[tree.Family, int]) -> dict[ProcessId, Weight]:
    """Each family whose program lives, with the limit of memory above which the sum is taken exactly. For a thread."""
    table = tree.Table()
    return {
        family.id: _weight([row.pid for row in table.below(roots)], limit)
        for family, limit in limits.items()
        if (roots := _roots(family, table))
    }


def _roots(family: tree.Family, table: tree.Table) -> list[int]:
    """The program, and what left it and is our child now: known by its mark, as no environment is read that often."""
    own = table.rows.get(family.pid)
    if own is None or own.start != family.start:
        return []
    adopted = (row for row in table.rows.values() if row.parent == table.here and row.session != table.session)
    marked = family.mark != tree.NO_MARK
    return [family.pid, *(row.pid for row in adopted if marked and table.mark(row.pid) == family.mark)]


def _weight(pids: list[int], limit: int) -> Weight:
    resident, files = sum(map(_resident, pids)), _memory_files(pids)
    if limit and resident + files > limit:
        return Weight(_exact(pids, files), len(pids))
    return Weight(resident + files, len(pids))


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


def _memory_files(pids: list[int]) -> int:
    """Bytes in files without a name in memory (memfd_create), which need not be mapped anywhere."""
    found: dict[int, int] = {}
    for pid in pids:
        try:
            for name in os.listdir(f"/proc/{pid}/fd"):
                path = f"/proc/{pid}/fd/{name}"
                if os.readlink(path).startswith("/memfd:"):
                    held = os.stat(path)
                    found[held.st_ino] = held.st_blocks * 512
        except OSError:  # it ended meanwhile, or shows its descriptors to nobody
            continue
    return sum(found.values())


def _read(path: str) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read()
    except OSError:
        return b""
