"""The figures of processes as Linux tells them, in /proc; a `Source` of table.py, without a compiled module."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from opagent.process import tree

_LISTENS = "0A"  # the state of a TCP socket, include/net/tcp_states.h
_SOCKET = re.compile(r"socket:\[(\d+)\]")


def parents() -> dict[int, int]:
    return {pid: row.parent for pid, row in tree.processes().items()}


def used(pid: int) -> tuple[int, float] | None:
    fields = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    if len(fields) < 22 or fields[0] == b"Z":
        return None
    ticks = int(fields[11]) + int(fields[12])
    return int(fields[21]) * os.sysconf("SC_PAGE_SIZE"), ticks / os.sysconf("SC_CLK_TCK")


def described(pid: int) -> str | None:
    words = _read(f"/proc/{pid}/cmdline").rstrip(b"\0").replace(b"\0", b" ") or _read(f"/proc/{pid}/comm").strip()
    return words.decode("utf-8", "replace") or None


def terminal(pid: int) -> str:
    """The terminal that a process sits at (`/dev/pts/3`), "" without one. The numbers are those of Linux' devices.txt."""
    fields = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    device = int(fields[4]) if len(fields) > 4 else 0
    major, minor = os.major(device), os.minor(device)
    if 136 <= major <= 143:
        return f"/dev/pts/{(major - 136) * 256 + minor}"
    return f"/dev/tty{minor}" if major == 4 else ""


def listening(pids: Iterable[int]) -> set[int]:
    found: set[int] = set()
    for pid in pids:
        sockets = _sockets(pid)
        if sockets:  # the table of its own network: it may have one that is not ours
            found |= _ports(f"/proc/{pid}/net/tcp", sockets) | _ports(f"/proc/{pid}/net/tcp6", sockets)
    return found


def _sockets(pid: int) -> set[str]:
    """The inodes of its sockets."""
    found = set()
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            match = _SOCKET.fullmatch(os.readlink(f"/proc/{pid}/fd/{name}"))
            if match:
                found.add(match[1])
    except OSError:  # it ended meanwhile, or closed that one
        pass
    return found


def _ports(path: str, sockets: set[str]) -> set[int]:
    """Ports of the listening sockets among these; a row is: number, local, remote, state, ..., inode in the tenth place."""
    rows = (line.split() for line in _read(path).decode("ascii", "replace").splitlines()[1:])
    return {int(row[1].rpartition(":")[2], 16) for row in rows if len(row) > 9 and row[3] == _LISTENS and row[9] in sockets}


def _read(path: str) -> bytes:
    """Empty when the process is gone or foreign."""
    try:
        with open(path, "rb", buffering=0) as file:
            parts = []
            while part := file.read(1 << 16):  # a file of the kernel gives at most a page or so at once
                parts.append(part)
            return b"".join(parts)
    except OSError:
        return b""
