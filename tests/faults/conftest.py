"""What every test of a fault needs: a workspace with an oracle agent, clients that kill and carry on, and the checker at the end.

`scripts/test tests/faults --long` runs ten times as many rounds of the random kills.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from opagent import launch, paths
from opagent.client import Client
from opagent.errors import OpAgentError
from tests.doubles import decoy, oracle_agent
from tests.doubles import shim as shim_of
from tests.doubles.checker import Checker, of_test
from tests.doubles.patience import PATIENCE, until
from tests.integration.conftest import FINAL, Talk

REPOSITORY = Path(__file__).resolve().parents[2]
RUNTIME = """name: oracle
title: Oracle
version: "1.0.0"
command: ["{{python}}", "-I", "-S", "{{package}}/oracle.py", "{echo}", "{{state}}"]
timeouts: {{ready: {ready}s}}
client: [fs, terminal]
"""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="faults: ten times as many rounds of random kills")


TIMEOUT = 900  # seconds: dozens of daemons start in one test, on a machine that may be busy


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    timeout = TIMEOUT * (10 if config.getoption("--long", False) else 1)
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.timeout(timeout))


@pytest.fixture
def rounds(request: pytest.FixtureRequest) -> int:
    """By how much to multiply the rounds of a random test."""
    return 10 if request.config.getoption("--long", False) else 1


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`fault.so`; without a compiler what needs it is skipped."""
    return shim_of.built(tmp_path_factory.mktemp("shim"))


@pytest.fixture
def shim(library: Path, tmp_path: Path) -> shim_of.Shim:
    return shim_of.Shim(library, tmp_path)


class Place(Talk):
    """A trusted workspace bound to the oracle agent. Everything that is acknowledged to it is remembered by its checker."""

    def __init__(self, client: Client, directory: Path) -> None:
        super().__init__(client, directory)
        self.checker = Checker(directory)
        self.at_end: list[Callable[[], None]] = []

    def start(self, conversation: Mapping[str, Any], text: str, request: str | None = None) -> dict[str, Any]:
        params = {"conversation": conversation["id"], "text": text, "request": request, "environment": dict(os.environ)}
        turn: dict[str, Any] = self.client.request("turn/start", params)["turn"]
        self.checker.acknowledge(turn)
        return turn

    def allow(self, approval: str) -> None:
        self.checker.allowed.add(approval)
        self.client.request("approval/answer", {"approval": approval, "allow": True})

    # ---- processes -----------------------------------------------------------------------------------------------------

    def daemon(self) -> int:
        """The pid of the daemon that runs now, without asking it."""
        return int((paths.run() / "daemon.pid").read_text() or 0)

    def anew(self, words: tuple[str, ...] = launch.DAEMON, **environment: str) -> int:
        """Another daemon with this environment, which no agent and no client gets; its pid."""
        self.kill_daemon(signal.SIGTERM)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(launch, "DAEMON", words)
            for name, value in environment.items():
                patch.setenv(name, value)
            self.client.request("daemon/status", {})
        self.back()
        return self.daemon()

    def kill_daemon(self, number: int = signal.SIGKILL) -> None:
        """Kill it and wait until it is gone, as the kernel sees it. None may be running: the last kill may have been slow."""
        pid = self.daemon()
        with contextlib.suppress(ProcessLookupError):
            if is_daemon_of_test(pid):
                os.kill(pid, number)
        until(lambda: not is_daemon_of_test(pid))

    def agents(self, conversation: Mapping[str, Any] | None = None) -> list[int]:
        """Pids of the agents that live, of one conversation or of all."""
        rows = self.client.request("process/list", {})["processes"]
        return [row["pid"] for row in rows if row["pid"] and (conversation is None or row["conversation"] == conversation["id"])]

    def kill_agents(self, conversation: Mapping[str, Any] | None = None, number: int = signal.SIGKILL) -> int:
        killed = 0
        for pid in self.agents(conversation):
            try:
                os.kill(pid, number)
                killed += 1
            except ProcessLookupError:
                continue
        return killed

    # ---- the command line ----------------------------------------------------------------------------------------------

    def command(self, *words: str, timeout: float = PATIENCE, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """`opagent WORDS` as a person runs it."""
        argv = [sys.executable, "-m", "opagent", *words]
        env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        return subprocess.run(
            argv, cwd=self.directory, env=env, capture_output=True, text=True, timeout=timeout, input=stdin, check=False
        )

    def began(self, *words: str) -> subprocess.Popen[bytes]:
        """The same, not waited for."""
        env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        nothing = subprocess.DEVNULL
        argv = [sys.executable, "-m", "opagent", *words]
        return subprocess.Popen(argv, cwd=self.directory, env=env, stdin=nothing, stdout=nothing, stderr=nothing)

    # ---- the end of every test -----------------------------------------------------------------------------------------

    def back(self) -> None:
        """Until the daemon answers again; it then hears, as from every person's command, where programs are."""
        self.client.request("daemon/status", {})
        with contextlib.suppress(OpAgentError):  # a test may have broken just that
            self.client.request("workspace/open", {"path": str(self.directory), "environment": dict(os.environ)})

    def settle(self) -> None:
        """Until every turn has ended, then everything must hold."""
        deadline = time.monotonic() + PATIENCE
        while left := self.unfinished():
            said = paths.daemon_log().read_text().splitlines()[-40:]
            assert time.monotonic() < deadline, "\n".join(["these turns do not end:", *left, *said])
            time.sleep(0.05)
        self.checker.check(settled=True)

    def unfinished(self) -> list[str]:
        listed = self.client.request("conversation/list", {"all": True})["conversations"]
        shown = [self.client.request("conversation/show", {"conversation": each["id"], "limit": 0}) for each in listed]
        turns = [turn for each in shown for turn in each["turns"]]
        return [
            f"{turn['id']} {turn['state']} {turn['conversation']} {turn['text'][:40]!r}"
            for turn in turns
            if turn["state"] not in FINAL
        ]


def is_daemon_of_test(pid: int) -> bool:
    """A pid file names a process that may be gone, and numbers are given again soon: to somebody else's work."""
    try:
        process = psutil.Process(pid)
        ours = process.environ().get("HOME") == os.environ["HOME"] and "opagent.daemon.main" in process.cmdline()
        return ours and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def install_oracle(ready: int = 30) -> None:
    package = paths.config() / "runtimes/oracle"
    package.mkdir(parents=True, exist_ok=True)
    shutil.copy(oracle_agent.__file__, package / "oracle.py")
    (package / "runtime.yaml").write_text(RUNTIME.format(echo=REPOSITORY / "runtimes/echo", ready=ready))


def bind_oracle(client: Client, directory: Path) -> None:
    """A workspace of the oracle agent, trusted as a person would."""
    (directory / ".oracle").mkdir(parents=True)
    (directory / ".agent.yaml").write_text("version: 1\nagent: oracle\ncan: {write: {default: allow}, read: {default: allow}}\n")
    trust(client, directory)


def trust(client: Client, directory: Path) -> None:
    """The answer of a person to the question as it is now."""
    asked = client.request("trust/show", {"path": str(directory)})
    client.request("trust/grant", {"path": str(directory), "digest": asked["digest"]})


@pytest.fixture
def place(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setenv(decoy.VARIABLE, decoy.SECRET)  # every client has it, no agent and no file
    install_oracle()
    directory = home / "notes"
    with Client("test") as client:
        bind_oracle(client, directory)
        place = Place(client, directory)
        place.checker.decoy = decoy.Decoy(home)
        yield place
        for leave in place.at_end:
            leave()
        place.settle()


__all__ = ["OpAgentError", "Place", "of_test", "until"]
