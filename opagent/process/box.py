"""The seam between starting a program and confining it: what `spawn` asks of a box; confines nothing itself.

    box = Bwrap(profile, ...)                 # or any other `Box`; one for each launch
    spawn(Launch(..., box=box))               # calls `start` on the thread of the event loop, once, and `close` afterwards

A box gets the argv, environment and directory as they are meant to be inside, and may change them for the outside.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from opagent.process.profile import Level, Profile


@dataclass(frozen=True, slots=True)
class Pipes:
    """Their ends of the three pipes."""

    stdin: int
    stdout: int
    stderr: int


@dataclass(frozen=True, slots=True)
class Started:
    """`status`: the reading end of a pipe where the box says who runs inside, as JSON; -1 when `popen` is the program itself."""

    popen: subprocess.Popen[bytes]
    status: int = -1


class Box(Protocol):
    """Confines one program."""

    @property
    def level(self) -> Level: ...

    @property
    def profile(self) -> Profile: ...

    def start(self, argv: tuple[str, ...], env: Mapping[str, str], cwd: str, pipes: Pipes) -> Started:
        """Start it, in a session of its own, umask 077. Raises what Popen does, AgentFailed if it cannot confine."""

    def close(self) -> None:
        """Give back what only the start needed. May be called twice."""


def popen(
    argv: tuple[str, ...] | list[str], env: Mapping[str, str], cwd: str, pipes: Pipes, keep: tuple[int, ...] = ()
) -> subprocess.Popen[bytes]:
    """How every box starts its program, and how one without a box is started."""
    return subprocess.Popen(
        argv,
        stdin=pipes.stdin,
        stdout=pipes.stdout,
        stderr=pipes.stderr,
        cwd=cwd,
        env=dict(env),
        start_new_session=True,
        umask=0o077,
        pass_fds=keep,
    )
