"""Who descends from a program we started, and ending all of it; Linux only, and starts nothing.

psutil shows processes everywhere (table.py), but one recursive walk of it takes seconds where a raw pass over /proc takes
milliseconds, and this pass is repeated until nothing is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import signal
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from opagent.model import ProcessId

MARKER = "OPAGENT_PROCESS"
NO_MARK = -1
SWEEP_DEADLINE = 5.0  # seconds; a killed process lives on only while the kernel waits for a device
LOOKS = 6  # that find nothing, where somebody forked during each of them
_EXEC = 1.0  # seconds, longer than a process replaces its program
_KTHREADD = 2  # the parent of the kernel's own threads

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Row:
    """One process: `start` in clock ticks since boot, which with the pid and the boot id is its identity."""

    pid: int
    parent: int
    state: str
    group: int
    session: int
    start: int


@dataclass(frozen=True, slots=True)
class Family:
    """A launched program and how whatever it started is recognised: descent, OPAGENT_PROCESS=id, or the limit `mark`."""

    id: ProcessId
    pid: int
    start: int
    mark: int = NO_MARK


async def end_family(family: Family, within: float = SWEEP_DEADLINE) -> int:
    """Kill the program and everything that belongs to it until nothing is left; gives how many processes outlive the deadline."""
    return await _until_none(lambda table: members(family, table), within)


async def kill_leftover(pid: int, start: int, boot: str, within: float = SWEEP_DEADLINE) -> bool:
    """Kill a process that an earlier daemon recorded, with its descendants; False when it is not that process any more."""
    if boot != boot_id() or start_time(pid) != start:
        return False
    await end_family(Family(ProcessId(""), pid, start), within)
    return True


async def sweep(ids: Collection[str], within: float = SWEEP_DEADLINE) -> int:
    """Kill everything that carries OPAGENT_PROCESS with one of these ids, and its descendants; gives how many outlive it."""
    wanted = frozenset(ids)
    if not wanted:
        return 0
    return await _until_none(lambda table: table.below(pid for pid in table.rows if table.marker(pid) in wanted), within)


def members(family: Family, table: Table | None = None) -> list[Row]:
    """What lives of the family: below the program, adopted by us with its limit, or anywhere with its id in the environment."""
    table = table or Table()
    return table.below(
        row.pid for row in table.rows.values() if row.start >= family.start and row.state != "Z" and _belongs(row, family, table)
    )


def _belongs(row: Row, family: Family, table: Table) -> bool:
    if row.pid == family.pid:
        return row.start == family.start
    if family.id and table.marker(row.pid) == family.id:
        return True
    adopted = row.parent == table.here and row.session != table.session
    return adopted and family.mark != NO_MARK and table.mark(row.pid) == family.mark


class Table:
    """One pass over /proc: every process that can be seen, by pid. What a pid carries is read when asked, and once."""

    def __init__(self) -> None:
        self.here, self.session = os.getpid(), os.getsid(0)
        self.rows = {row.pid: row for name in os.listdir("/proc") if name.isdigit() and (row := _row(name))}
        self.unsure: set[tuple[int, int]] = set()  # (pid, start): in the middle of an exec, or started like that
        self._markers: dict[int, str | None] = {}
        self._marks: dict[int, int] = {}
        self._children: dict[int, list[int]] = {}
        for row in self.rows.values():
            self._children.setdefault(row.parent, []).append(row.pid)

    def marker(self, pid: int) -> str | None:
        """The value of OPAGENT_PROCESS it was started with; None also for a foreign process and a zombie."""
        if pid not in self._markers:
            environment, row = _read(f"/proc/{pid}/environ"), self.rows.get(pid)
            self._markers[pid] = _marked(environment)
            lives = row is not None and row.state != "Z" and _KTHREADD not in (pid, row.parent)
            if row is not None and lives and not environment and _replacing(pid):
                self.unsure.add((pid, row.start))
        return self._markers[pid]

    def mark(self, pid: int) -> int:
        """Its limit of message queues in bytes, see spawn.py."""
        if pid not in self._marks:
            match = _LIMIT.search(_read(f"/proc/{pid}/limits"))
            self._marks[pid] = int(match[1]) if match else NO_MARK
        return self._marks[pid]

    def below(self, roots: Iterable[int]) -> list[Row]:
        """The roots and all below them that are no zombies; never this process, even when it carries a marker itself."""
        found: dict[int, Row] = {}
        todo = list(roots)
        while todo:
            pid = todo.pop()
            if pid not in found and pid != self.here and pid in self.rows:
                found[pid] = self.rows[pid]
                todo += self._children.get(pid, [])
        return [row for row in found.values() if row.state != "Z"]


def row(pid: int) -> Row | None:
    """One process, a zombie too; None when there is none."""
    return _row(str(pid))


def start_time(pid: int) -> int | None:
    """Clock ticks since boot at which the process began, or None when there is none (a zombie counts as none)."""
    row = _row(str(pid))
    return row.start if row and row.state != "Z" else None


def boot_id() -> str:
    """The kernel's random id of this boot: pids and start times of another boot mean nothing."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def marker(pid: int) -> str | None:
    """The value of OPAGENT_PROCESS in the environment the process was started with; None also for a foreign process."""
    return _marked(_read(f"/proc/{pid}/environ"))


def _marked(environment: bytes) -> str | None:
    match = _MARKED.search(environment)
    return match[1].decode(errors="replace") if match else None


def _replacing(pid: int) -> bool:
    """Whether a process that just showed no environment is, or was then, in the middle of an exec."""
    return not _read(f"/proc/{pid}/cmdline") or bool(_read(f"/proc/{pid}/environ"))


def speaks_for_an_agent(pid: int) -> bool:
    """Whether it, or a process above it, is an agent's: marked, or below this process, which takes in what agents leave.

    Yes too for one that has gone already, or that the kernel cannot name (0: another pid namespace): it may have handed its
    connection on. Costs two small reads for each process above it, no pass over all of them.
    """
    for _ in range(_CLIMBS):
        answer = _climb(pid)
        if answer is not None:
            return answer
    return True


def _climb(pid: int) -> bool | None:
    """One way up; None when somebody above ended meanwhile, and it has another parent now."""
    row, here = _row(str(pid)), os.getpid()
    for _ in range(_HIGHEST):
        if row is None or row.pid == here or marker(row.pid) is not None:
            return True
        if row.parent < 1:
            return False
        above = _row(str(row.parent))
        if above is None:  # gone, or of a user whose processes are hidden from us, and so no agent of ours
            now = _row(str(row.pid))
            return False if now is not None and now.parent == row.parent else None
        row = above
    return True


def processes() -> dict[int, Row]:
    """Every process that can be seen, by pid."""
    return Table().rows


_CLIMBS, _HIGHEST = 5, 256  # ways up that may be cut off beneath us, and processes above one another that a person has


_MARKED = re.compile(rb"(?:\A|\0)OPAGENT_PROCESS=([^\0]*)")


_LIMIT = re.compile(rb"^Max msgqueue size\s+(\d+)", re.MULTILINE)


def _row(pid: str) -> Row | None:
    fields = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()  # the name before may hold anything, also a bracket
    if len(fields) < 20:
        return None
    return Row(int(pid), int(fields[1]), fields[0].decode(), int(fields[2]), int(fields[3]), int(fields[19]))


def _read(path: str) -> bytes:
    """The file of a process, empty when the process is gone or foreign; no descriptors left is an error, not an empty answer."""
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return b""


_started_bare: set[tuple[int, int]] = set()


async def _until_none(look: Callable[[Table], list[Row]], within: float) -> int:
    """Look and kill until a look finds nothing although no process was born meanwhile.

    A pass takes milliseconds, and what forks and leaves all the time may have another pid at each moment of it. A process that
    is replacing its program shows no environment meanwhile, so nobody can say whose it is.
    """
    end, pause, empty, left = time.monotonic() + within, 0.001, 0, [Row(0, 0, "", 0, 0, 0)]
    unsure: set[tuple[int, int]] = set()
    patient = time.monotonic() + _EXEC
    while empty < LOOKS:
        if time.monotonic() > end:
            log.warning("processes that cannot be killed: %s", sorted(row.pid for row in left))
            return len(left)
        with contextlib.suppress(OSError):  # no descriptors left: look again
            before, table = await _shared_look()
            left = look(table)
            unsure = table.unsure - _started_bare
            if not left and not unsure and before == _newest():
                break
            empty = 0 if left or (unsure and time.monotonic() < patient) else empty + 1
        _kill(left)
        await asyncio.sleep(pause)
        pause = min(2 * pause, 0.05)
    _started_bare.update(unsure)
    return 0


Look = tuple[bytes, Table]
_coming: tuple[asyncio.AbstractEventLoop, asyncio.Future[Look]] | None = None


async def _shared_look() -> Look:
    """The newest pid and then a pass; one for all who ask in the same turn of the loop: hundreds of agents may end at once."""
    global _coming
    loop = asyncio.get_running_loop()
    if _coming is None or _coming[0] is not loop:
        _coming = loop, loop.create_future()
        loop.call_soon(_take_look, _coming[1])
    return await asyncio.shield(_coming[1])


def _take_look(answer: asyncio.Future[Look]) -> None:
    global _coming
    _coming = None
    try:
        answer.set_result((_newest(), Table()))
    except OSError as error:
        answer.set_exception(error)


def _newest() -> bytes:
    """The pid given last: it changes with every process that is born anywhere."""
    with open("/proc/loadavg", "rb") as file:
        return file.read().split()[-1]


def _kill(rows: Collection[Row]) -> None:
    """SIGKILL to exactly these processes, and to their groups, which also reaches what they fork at this moment.

    A descriptor pins the pid, the start time says that it is still the same. A group lies within one session, and a session
    that is not ours was made by the family.
    """
    own = os.getsid(0)
    for row in rows:
        with contextlib.suppress(OSError):
            pidfd = os.pidfd_open(row.pid)
            try:
                if start_time(row.pid) == row.start:
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            finally:
                os.close(pidfd)
    for group in {row.group for row in rows if row.session != own and row.group > 1}:
        with contextlib.suppress(OSError):
            os.killpg(group, signal.SIGKILL)
