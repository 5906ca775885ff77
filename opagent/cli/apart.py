"""A daemon that is not below this process: clients of `opagent acp` end it with all its descendants, and agents work on.

(acpx 0.19 signals every process that it saw below the agent's command.) The daemon is started by a process whose parent has left.
"""

from __future__ import annotations

import contextlib
import os

from opagent.client import Client
from opagent.errors import DaemonUnavailable, OpAgentError


def client(program: str) -> Client:
    """A client of the daemon here, started if need be; it does not start one itself. Raises what `Client` raises."""
    try:
        return Client(program, start=False)
    except (DaemonUnavailable, OSError):
        begin(program)
    try:
        return Client(program, start=False)
    except (DaemonUnavailable, OSError):
        return Client(program)  # says why there is none


def begin(program: str) -> None:
    """Start the daemon, whatever comes of it."""
    ended, its_end = os.pipe()
    child = os.fork()
    if child == 0:
        _elsewhere(program, ended)
    os.close(its_end)
    os.waitpid(child, 0)
    os.read(ended, 1)  # the end of the pipe: of the process that starts it
    os.close(ended)


def _elsewhere(program: str, reading: int) -> None:
    """In the child, whose own child does it; neither returns."""
    try:
        os.setsid()
        if os.fork() == 0:
            os.close(reading)
            null = os.open(os.devnull, os.O_RDWR)
            for fd in (0, 1):  # the editor's pipes end with the process that it started
                os.dup2(null, fd)
            with contextlib.suppress(OpAgentError, OSError):
                Client(program).close()
    finally:
        os._exit(0)
