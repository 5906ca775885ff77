"""Sends a head of the journal out of the reach of this daemon: to the system's log, to a program of the user's; keeps none.

A line `opagent audit head HOST SEQ:LINK AT`. Whoever has it can show later that the journal is not the one it was.
"""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

from opagent import files, paths
from opagent.process import environment

WITHIN = 5.0  # seconds that the program has
_NOTICE = 5  # severity of a line in a log, and its facility: user
_USER = 1


def line(host: str, seq: int, link: str, at: str) -> str:
    return f"opagent audit head {host} {seq}:{link} {at}"


async def send(text: str) -> list[str]:
    """The names of those that took it."""
    wanted = os.environ.get("OPAGENT_ANCHOR", "").split(",")
    return await asyncio.to_thread(
        lambda: [name for name, take in _ALL.items() if ("" in wanted or name in wanted) and take(text)]
    )


def journald(text: str, path: Path | None = None) -> bool:
    """The native protocol of systemd's journal: fields as lines, one datagram."""
    fields = (f"MESSAGE={text}", f"PRIORITY={_NOTICE}", "SYSLOG_IDENTIFIER=opagent", f"SYSLOG_PID={os.getpid()}")
    return _datagram(path or paths.journald(), "".join(f"{field}\n" for field in fields).encode())


def syslog(text: str, path: Path | None = None) -> bool:
    """Only where no journal takes it: that one listens here too."""
    if path is None and paths.journald().exists():
        return False
    return _datagram(path or paths.syslog(), f"<{_USER * 8 + _NOTICE}>opagent[{os.getpid()}]: {text}".encode())


def program(text: str, path: Path | None = None) -> bool:
    """The user's own, which gets the line on its stdin. Nobody else may be able to write it."""
    path = path or paths.anchor_program()
    try:
        found = path.stat()
        if files.owner_problem(str(path), found) or not stat.S_ISREG(found.st_mode) or not os.access(path, os.X_OK):
            return False
        env = {**environment.DEFAULTS, **{name: os.environ[name] for name in environment.BASE if name in os.environ}}
        done = subprocess.run(
            [str(path)], input=f"{text}\n", text=True, env=env, timeout=WITHIN, capture_output=True, cwd="/", check=False
        )
        return done.returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _datagram(path: Path, data: bytes) -> bool:
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as there:
            there.connect(str(path))
            there.send(data)
            return True
    except OSError:
        return False


_ALL: dict[str, Callable[[str], bool]] = {"journald": journald, "syslog": syslog, "program": program}
