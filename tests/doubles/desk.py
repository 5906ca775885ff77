"""A person's directory with an agent of somebody else, and the command line in it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pexpect
import psutil
import pytest

from opagent.packages import catalog
from tests.doubles.patience import PATIENCE

ROOT = Path(__file__).resolve().parents[2]


def packages(name: str, version: str) -> Path:
    """The XDG_DATA_HOME with one runtime, installed once per user by us."""
    described = catalog.digest(catalog.find(name))[:12]  # what was installed by another description is another thing
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "opagent-tests"
    place = cache / f"{name}-{version}-{described}"
    place.mkdir(parents=True, exist_ok=True, mode=0o700)
    argv = [sys.executable, "-m", "opagent", "runtime", "install", f"{name}@{version}", "--yes", "--json"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_DATA_HOME": str(place)}
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        pytest.fail(f"{name} could not be installed, so nothing was tested:\n{done.stdout}{done.stderr[-2000:]}", pytrace=False)
    assert json.loads(done.stdout)["runtime"]["active"] == version
    return place


class Desk:
    """A person's directory and the command line in it."""

    def __init__(self, directory: Path, environment: dict[str, str]) -> None:
        self.directory, self.environment = directory, environment

    def run(self, *words: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "opagent", *words]
        done = subprocess.run(
            argv, cwd=self.directory, env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == status, (words, done.returncode, done.stdout[-2000:], done.stderr[-2000:])
        return done

    def ask(self, text: str, *words: str, status: int = 0) -> str:
        """What one turn of the last conversation printed, and what it said about itself."""
        done = self.run("open", ".", "--last", "-m", text, *words, status=status)
        return done.stdout + done.stderr

    def approval(self) -> dict[str, Any]:
        [found] = json.loads(self.run("approvals", "--json").stdout)["approvals"]
        return dict(found)

    def conversation(self) -> str:
        [path] = (self.directory / "conversations").glob("*.md")
        return path.read_text()

    def processes(self) -> list[psutil.Process]:
        """Everything that runs in the directory: the agent and what it left behind."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.cwd() == str(self.directory) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def kill(self) -> None:
        """All that runs in the directory, at once; some may end with another."""
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def trust(desk: Desk) -> None:
    """A person at a terminal reads the question and says yes."""
    argv = ["-m", "opagent", "trust", "."]
    child = pexpect.spawn(sys.executable, argv, cwd=str(desk.directory), env=desk.environment, timeout=PATIENCE, encoding="utf-8")
    child.expect(r"\[y/N\]")
    child.sendline("y")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
