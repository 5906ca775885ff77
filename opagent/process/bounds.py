"""What an agent may use of the machine: numbers of the binding, how the kernel is told; watches nothing and kills nothing."""

from __future__ import annotations

import os
import resource
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from opagent.process.profile import Level, Limits

PRLIMIT = ("/usr/bin/prlimit", "/bin/prlimit")  # of util-linux; nobody's PATH decides which


def of(binding: Mapping[str, Any], needed: int = 0) -> Limits:
    """The `limits:` of a binding, with the defaults where it says nothing; `needed`: memory that the runtime asks for, bytes."""
    names = {name: int(binding[name]) for name in Limits.__dataclass_fields__ if name in binding}
    return Limits(**{"memory": max(Limits().memory, needed)} | names)


def present() -> str:
    """The program that sets limits, or "" where there is none."""
    return next((path for path in PRLIMIT if os.access(path, os.X_OK)), "")


def prefix(limits: Limits, program: str) -> tuple[str, ...]:
    """What stands before the agent's argv. Set *inside* a user namespace: one that counts before keeps bwrap from making it."""
    if not program:
        return ()
    wanted = {"nproc": limits.processes, "data": limits.memory, "fsize": limits.file, "nofile": limits.files}
    return (program, *(f"--{name}={number}" for name, number in wanted.items() if number), "--core=0")


def put(pid: int, limits: Limits) -> None:
    """Give a process that just started its limits, all but the number of processes: it hands them on. Raises OSError."""
    wanted = {
        resource.RLIMIT_DATA: limits.memory, resource.RLIMIT_FSIZE: limits.file, resource.RLIMIT_NOFILE: limits.files,
    }  # fmt: skip
    for kind, number in wanted.items():
        if number:
            resource.prlimit(pid, kind, (lowest := _allowed(kind, number), lowest))
    resource.prlimit(pid, resource.RLIMIT_CORE, (0, 0))


def processes(limits: Limits) -> int:
    return _allowed(resource.RLIMIT_NPROC, limits.processes)


def _allowed(kind: int, number: int) -> int:
    """Nobody but root has more than there was before."""
    hard = resource.getrlimit(kind)[1]
    return number if hard == resource.RLIM_INFINITY else min(number, hard)


@dataclass(frozen=True, slots=True)
class Hit:
    """More was used than is allowed. `what`: the key of `limits:`; bytes, or a number of processes or ports."""

    what: str
    used: int
    allowed: int

    def sentence(self, origin: str) -> str:
        """`origin`: where the limit was written."""
        used, allowed = (
            map(size, (self.used, self.allowed)) if self.what not in _COUNTED else map(number, (self.used, self.allowed))
        )
        return f"{_SAID[self.what].format(used)}, and limits.{self.what} allows {allowed} ({origin})"


_SAID = {
    "memory": "it took {} of memory",
    "processes": "it was {} processes at once",
    "tmp": "its home and temporary files took {}",
    "disk": "the directory grew by {} in this conversation",
    "ports": "it listened on {} ports at once",
}
_COUNTED = ("processes", "ports")
SLACK = 8  # processes of the sandbox itself, and such as end at this moment


def over(memory: int, processes: int, ports: int, limits: Limits) -> Hit | None:
    """What a tree of this weight goes beyond, if anything."""
    if limits.memory and memory > limits.memory:
        return Hit("memory", memory, limits.memory)
    if limits.processes and processes > limits.processes + SLACK:
        return Hit("processes", processes, limits.processes)
    if ports > limits.ports:
        return Hit("ports", ports, limits.ports)
    return None


def number(value: int) -> str:
    return f"{value:,}"


def size(value: int) -> str:
    """As the binding writes it: `2G`, `512M`."""
    for unit, letter in ((1 << 30, "G"), (1 << 20, "M"), (1 << 10, "k")):
        if value >= unit:
            return f"{value / unit:.1f}".removesuffix(".0") + letter
    return f"{value} bytes"


_HELD, _WATCHED, _OPEN = "by the kernel", "watched", "not applied at this level"
_BOXED = (Level.STRICT, Level.LANDLOCK)


def applied(name: str, level: Level) -> str:
    """How a key of `limits:` is held at this level, in words for `explain`."""
    match name:
        case "memory":
            return f"each process {_HELD}, all together {_WATCHED}" if level in _BOXED else _WATCHED
        case "processes":
            return _HELD if level is Level.STRICT else _WATCHED
        case "file" | "files":
            return _HELD if level in _BOXED else _OPEN
        case "tmp":
            return {Level.STRICT: _HELD, Level.LANDLOCK: _WATCHED}.get(level, _OPEN)
        case "disk" | "ports":
            return _WATCHED
    raise KeyError(name)
