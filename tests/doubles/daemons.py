"""What tests do with daemons: take the fake one instead of the real one, and end all of them."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from opagent import launch, paths
from tests.doubles.patience import until

FAKE = Path(__file__).with_name("fake_daemon.py")
ROOT = FAKE.parents[2]


def use_fake(monkeypatch: pytest.MonkeyPatch, mode: str = "ok") -> None:
    monkeypatch.setenv("FAKE_MODE", mode)
    monkeypatch.setattr(launch, "DAEMON", (str(FAKE),))


def starts() -> list[int]:
    """The pids of all fake daemons that came up in this test."""
    path = paths.state() / "starts"
    return [int(line) for line in path.read_text().splitlines()] if path.exists() else []


def end_all() -> None:
    """Kill the fake daemons of this test."""
    for pid in starts():
        kill(pid)


def kill(pid: int) -> None:
    """SIGKILL, and wait until it is gone (or our own zombie)."""
    try:
        process = psutil.Process(pid)
        process.send_signal(signal.SIGKILL)
    except psutil.NoSuchProcess:
        return
    until(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE)


def command(*words: str, fake: bool = False) -> list[str]:
    """An argv of the command line; with the fake daemon when `fake`."""
    if not fake:
        return [sys.executable, "-m", "opagent", *words]
    code = f"import sys; from opagent import launch; launch.DAEMON = ({str(FAKE)!r},); from opagent.cli.main import main; "
    return [sys.executable, "-c", code + "sys.exit(main())", *words]


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), **more}
