"""Another machine behind a line that can be spoiled: a real sshd, a directory there, clients here as the command line makes them."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

from opagent.client import Client
from opagent.elsewhere import Elsewhere
from opagent.model import Event
from tests.doubles.daemons import command, environment
from tests.doubles.patience import PATIENCE, until
from tests.doubles.sshd import Sshd, public, sshd
from tests.doubles.tcpline import TcpLine, tcp_line

FINAL = ("done", "failed", "interrupted", "cancelled")


class Far:
    """`docs` is the directory there."""

    def __init__(self, server: Sshd, line: TcpLine, folder: Path) -> None:
        self.server, self.line, self.folder = server, line, folder
        self.docs = server.home / "docs"
        self.docs.mkdir(exist_ok=True)
        self.told: list[Mapping[str, Any]] = []  # phases of the link
        server.known_hosts.write_text(f"[127.0.0.1]:{line.port} {public(server.host_key)}\n")
        server.configure(Port=str(line.port))

    @property
    def target(self) -> str:
        return f"there:{self.docs}"

    def client(self, tell: Callable[[Mapping[str, Any]], None] | None = None) -> Elsewhere:
        """Nobody answers its questions."""
        local = Client("test")
        try:
            return Elsewhere("there", local, None, tell or self.told.append, "test")
        except BaseException:
            local.close()
            raise

    def began(self, *words: str) -> subprocess.Popen[bytes]:
        """A command line that runs; its output is collected."""
        return subprocess.Popen(
            command(*words), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
        )

    # ---- daemons -----------------------------------------------------------------------------------------------------------

    def daemon_here(self) -> psutil.Process | None:
        return daemon_of(os.environ["HOME"])

    def daemon_there(self) -> psutil.Process | None:
        return daemon_of(str(self.server.home))

    # ---- what is known -----------------------------------------------------------------------------------------------------

    def state(self) -> str:
        """Of the link, without wanting it."""
        with Client("test") as client:
            hosts = client.request("host/list", {})["hosts"]
        return next((str(host["state"]) for host in hosts if host["name"] == "there"), "")


def daemon_of(home: str) -> psutil.Process | None:
    """The daemon that runs with this HOME."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            ours = "opagent.daemon.main" in process.cmdline() and process.environ().get("HOME") == home
            if ours and process.status() != psutil.STATUS_ZOMBIE:
                return process
    return None


def kill(process: psutil.Process | None) -> None:
    """SIGKILL, and wait until it is gone."""
    if process is None:
        return
    with contextlib.suppress(psutil.Error):
        process.kill()
    until(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE)


def followed(client: Client, turn: str, events: list[Event]) -> str:
    """Adds what comes to `events` until the turn has ended; its last state."""
    while event := client.next_event(PATIENCE):
        events.append(event)
        if event.kind == "turn_state" and event.turn == turn and event.body["state"] in FINAL:
            return str(event.body["state"])
    raise AssertionError(f"turn {turn} does not end; the last event is {events[-1:]}")


def words(events: list[Event], turn: str) -> str:
    """What the agent said in a turn."""
    return "".join(str(event.body["text"]) for event in events if event.turn == turn and event.kind == "text")


@contextlib.contextmanager
def far(folder: Path, **options: object) -> Iterator[Far]:
    """`folder` is outside of everybody's home; OPAGENT_SSH_CONFIG is the caller's to set (`server.config`)."""
    with sshd(folder, **options) as server, tcp_line(server.port) as line:
        yield Far(server, line, folder)
