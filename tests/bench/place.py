"""A home of its own for one run: directories, a workspace, the command line, one client; ends the daemon it started."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from opagent.client import Client
from opagent.model import Event

PATIENCE = 60.0  # seconds
_HERE = Path(__file__).resolve().parent
_ENDS = ("done", "failed", "interrupted", "cancelled")
_PACED = 'name: paced\ntitle: Paced\nabout: Says stamped chunks at a steady rate\nversion: "1.0.0"\ncommand: {command}\n'


class Place:
    """Used in a `with`; the environment of this process names its directories meanwhile."""

    def __enter__(self) -> Place:
        self.folder = Path(tempfile.mkdtemp(prefix="ob-", dir="/var/tmp"))
        self.workspace = self.folder / "workspace"
        self._before = dict(os.environ)
        for name in [name for name in os.environ if name.startswith(("OPAGENT_", "XDG_")) and name != "OPAGENT_TEST_ID"]:
            del os.environ[name]
        for name in ("home", "state", "run", "config", "workspace", "paced"):
            (self.folder / name).mkdir(mode=0o700)
        os.environ["HOME"] = str(self.folder / "home")
        os.environ["OPAGENT_SYSTEM_POLICY"] = str(self.folder / "no-policy.yaml")
        for name in ("state", "run", "config"):
            os.environ[f"OPAGENT_{name.upper()}_DIR"] = str(self.folder / name)
        (self.workspace / ".agent.yaml").write_text("version: 1\nagent: echo\n")
        (self.folder / "paced/.agent.yaml").write_text("version: 1\nagent: paced\n")
        package = self.folder / "config/runtimes/paced"
        package.mkdir(parents=True)
        command = [sys.executable, "-I", "-S", str(_HERE / "paced.py")]
        (package / "runtime.yaml").write_text(_PACED.format(command=command))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self.stop_daemon()
        finally:
            os.environ.clear()
            os.environ.update(self._before)
            shutil.rmtree(self.folder, ignore_errors=True)

    def command(self, *words: str) -> list[str]:
        return [str(Path(sys.executable).with_name("opagent")), *words]

    def run(self, *words: str) -> str:
        """The command line's answer. Raises CalledProcessError."""
        return subprocess.run(self.command(*words), stdout=subprocess.PIPE, check=True, text=True, cwd=self.workspace).stdout

    def daemon(self) -> psutil.Process:
        with Client("bench") as client:
            return psutil.Process(client.greeting.daemon)

    def stop_daemon(self) -> None:
        """Returns when its process and all that it started are gone."""
        try:
            with Client("bench", start=False) as client:
                daemon = psutil.Process(client.greeting.daemon)
                everybody = [daemon, *daemon.children(recursive=True)]
                client.request("daemon/stop")
        except Exception as error:
            if getattr(error, "code", "") != "daemon_unavailable":
                raise
            return
        psutil.wait_procs(everybody, timeout=PATIENCE)
        left = [process for process in everybody if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
        assert not left, f"still there: {left}"

    @contextlib.contextmanager
    def talk(self, agent: str = "echo") -> Iterator[Talk]:
        """A new conversation, subscribed, its agent ready."""
        with Client("bench") as client:
            folder = self.workspace if agent == "echo" else self.folder / agent
            params = {"path": str(folder), "environment": dict(os.environ)}
            if agent != "echo":
                client.request("trust/grant", {**params, "digest": client.request("trust/show", params)["digest"]})
            client.request("workspace/open", params)
            talk = Talk(client, client.request("conversation/create", params)["id"])
            client.subscribe(talk.conversation, None)
            yield talk


def processor(process: psutil.Process) -> float:
    """Seconds of processor time so far, of all its threads."""
    spent = process.cpu_times()
    return float(spent.user + spent.system)


class Talk:
    """One conversation, followed by one client."""

    def __init__(self, client: Client, conversation: str) -> None:
        self.client, self.conversation = client, conversation
        self._turns = 0

    def start(self, text: str) -> str:
        """The new turn's id."""
        self._turns += 1
        params = {"conversation": self.conversation, "text": text, "request": f"bench-{time.monotonic_ns()}"}
        answer: dict[str, Any] = self.client.request("turn/start", params)
        return str(answer["turn"]["id"])

    def events(self, turn: str = "") -> Iterator[Event]:
        """Everything that belongs to a turn (the next one that ends), its end included."""
        while event := self.client.next_event(PATIENCE):
            if event.turn == turn or not turn:
                yield event
                if event.kind == "turn_state" and event.body["state"] in _ENDS:
                    assert event.body["state"] == "done", event.body
                    return
        raise TimeoutError(f"turn {turn} did not end")

    def turn(self, text: str) -> float:
        """Seconds from the request to its end as this client hears of it."""
        began = time.perf_counter()
        self.until_end(self.start(text))
        return time.perf_counter() - began

    def until_end(self, turn: str = "") -> None:
        for _ in self.events(turn):
            pass
