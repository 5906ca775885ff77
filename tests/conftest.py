"""Isolation for every test: own HOME and XDG directories with short paths, nothing left behind."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import psutil
import pytest

# The gate tries the same examples every time; at a desk each run tries new ones.
hypothesis.settings.register_profile("ci", derandomize=True, deadline=None, database=None)
hypothesis.settings.register_profile("desk", deadline=None)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "desk")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # the shell started us in the background; every child would ignore it, too
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def home() -> Iterator[Path]:
    """The home of one test; a directory of tests that share their daemons has a `home` of its own, of a wider scope."""
    with isolated() as folder:
        yield folder


@contextlib.contextmanager
def isolated() -> Iterator[Path]:
    """A fresh home under /var/tmp: short socket paths, and vim skips its backups under /tmp. A process that is left is an error."""
    folder = Path(tempfile.mkdtemp(prefix="oa-", dir="/var/tmp"))
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(("OPAGENT_", "XDG_")) or name in ("HOME", "EDITOR", "VISUAL", "NO_COLOR", "FORCE_COLOR"):
                patch.delenv(name, raising=False)
        for name, value in {
            "HOME": folder / "home",
            "XDG_CONFIG_HOME": folder / "home/.config",
            "XDG_STATE_HOME": folder / "home/.local/state",
            "XDG_DATA_HOME": folder / "home/.local/share",
            "XDG_CACHE_HOME": folder / "home/.cache",
            "OPAGENT_SYSTEM_POLICY": folder / "no-policy.yaml",
            "OPAGENT_ANCHOR": "program",  # the log of the machine is not ours
            "OPAGENT_TEST_ID": folder.name,
        }.items():
            patch.setenv(name, str(value))
        (folder / "home").mkdir(mode=0o700)
        yield folder / "home"
        left = _left_behind(folder.name)
    shutil.rmtree(folder, ignore_errors=True)
    assert not left, f"processes left behind: {left}"


def _ours(test_id: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if (
                process.pid != os.getpid()
                and (environment := process.environ())
                and (environment.get("OPAGENT_TEST_ID") == test_id or f"/{test_id}/" in environment.get("HOME", ""))
                and process.status() != "zombie"
            ):
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def _left_behind(test_id: str) -> list[str]:
    """Stops the test's daemon, gives everything a moment to leave, kills the rest and names it."""
    for process in _ours(test_id):
        if "opagent.daemon.main" in " ".join(_command(process)):
            process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + 30
    while (left := _ours(test_id)) and time.monotonic() < deadline:
        time.sleep(0.02)
    names = [" ".join(_command(process)) for process in left]
    for process in left:
        try:
            process.kill()
        except psutil.Error:
            continue
    return names


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
