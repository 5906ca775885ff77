"""Troubles of the state directory and of workspaces: locked, read-only, full, removed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from opagent import paths
from opagent.client import Client
from opagent.errors import DaemonUnavailable, OpAgentError, StoreFailed
from tests.doubles.patience import until
from tests.faults.conftest import REPOSITORY, Place


def test_a_database_that_another_process_locks(place: Place) -> None:
    """Longer than SQLite waits: one clear error, no lost turn, and it goes on by itself afterwards."""
    conversation = place.create("oracle")
    place.say(conversation, "before")
    running = place.start(conversation, "/slow 40 0.05")
    until(lambda: place.answer(conversation, running["id"]))
    thief = sqlite3.connect(paths.database(), isolation_level=None)
    thief.execute("begin immediate")
    with pytest.raises(StoreFailed):
        place.start(conversation, "refused")
    thief.execute("rollback")
    thief.close()
    if _refused(place):  # read-only until the next start, and it says so
        place.kill_daemon(signal.SIGTERM)
        place.back()
    assert place.ended(conversation, running["id"])["state"] in ("done", "failed", "interrupted")
    assert place.say(conversation, "after")["state"] == "done"
    place.settle()


def _refused(place: Place) -> bool:
    with contextlib.suppress(StoreFailed):
        place.create("oracle")
        return False
    return True


def test_a_database_that_is_locked_at_the_start(place: Place) -> None:
    place.kill_daemon(signal.SIGTERM)
    fd = os.open(paths.database_lock(paths.database()), os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)
    said = place.command("ps")
    os.close(fd)
    assert said.returncode == 1 and said.stderr.count("error: ") == 1 and "Traceback" not in said.stderr
    assert "another process uses the database" in said.stderr, said.stderr
    assert place.command("ps").returncode == 0
    place.back()


def mounted(script: str, place: Place) -> subprocess.CompletedProcess[str]:
    """A shell script in a mount namespace of its own; `opagent` is the command of this checkout."""
    opagent = f'opagent() {{ {sys.executable} -m opagent "$@"; }}\n'
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY), "STATE": str(paths.state())}
    plain = place.directory.parent / "plain"
    plain.mkdir()
    argv = ["unshare", "-Urm", "sh", "-c", f"set -u\n{opagent}{script}"]
    return subprocess.run(argv, cwd=plain, env=env, capture_output=True, text=True, timeout=90, check=False)


def test_a_read_only_state_directory(place: Place) -> None:
    place.kill_daemon(signal.SIGTERM)
    said = mounted(
        'mount --bind "$STATE" "$STATE" && mount -o remount,ro,bind "$STATE" && opagent open . --agent echo -m hello', place
    )
    assert said.returncode == 1, said.stderr
    assert said.stderr.count("error: ") == 1 and "Traceback" not in said.stderr, said.stderr
    assert str(paths.state()) in said.stderr
    place.back()


def test_a_full_state_directory(place: Place) -> None:
    """On 6 MiB a flood fills the disk: one line says so; with room again the next turn runs; no daemon dies."""
    place.kill_daemon(signal.SIGTERM)
    script = """
        mount -t tmpfs -o size=6m,mode=700 none "$STATE" || exit 99
        opagent open . --agent echo -m first >/dev/null || exit 98
        opagent daemon status >&2
        opagent open . --agent echo -m '/flood 100000 100' >/dev/null 2>flood.txt; echo "flood $?"
        opagent open . --agent echo -m again >/dev/null 2>again.txt; echo "again $?"
        mount -o remount,size=64m "$STATE"
        sleep 3
        opagent open . --agent echo -m 'room again'; echo "room $?"
        opagent daemon stop >&2
    """
    said = mounted(script, place)
    assert "flood" in said.stdout, said
    shown = "\n".join((place.directory.parent / "plain" / name).read_text() for name in ("flood.txt", "again.txt"))
    assert "echo: room again" in said.stdout and "room 0" in said.stdout, said.stdout + said.stderr + shown
    assert "flood 1\n" in said.stdout and "disk is full" in shown, said.stdout + shown
    assert "Traceback" not in said.stderr + shown
    place.back()


def test_a_workspace_that_was_removed_does_not_keep_the_daemon_from_starting(place: Place) -> None:
    """Its queue fails with a reason; everybody else goes on."""
    gone, broken, fine = (place.directory.parent / name for name in ("gone", "broken", "fine"))
    conversations = []
    for directory in (gone, broken, fine):
        directory.mkdir()
        params = {"path": str(directory), "agent": "echo", "environment": dict(os.environ)}
        (directory / ".agent.yaml").write_text("version: 1\nagent: echo\n")
        conversations.append(place.client.request("conversation/create", params))
    running = [place.start(each, f"/slow 500 0.05\n{number}") for number, each in enumerate(conversations)]
    waiting = [place.start(each, f"queued {number}") for number, each in enumerate(conversations)]
    until(
        lambda: all(place.turn(each, turn["id"])["state"] == "running" for each, turn in zip(conversations, running, strict=True))
    )
    place.kill_daemon()
    for path in sorted(gone.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    gone.rmdir()
    (broken / ".agent.yaml").write_text("version: 1\nagent: [\n")
    place.back()
    last = place.ended(conversations[2], waiting[2]["id"])
    assert last["state"] == "done", str(last.get("reason"))
    for number in (0, 1):
        ended = place.ended(conversations[number], waiting[number]["id"])
        assert ended["state"] == "failed" and ended["reason"]
    (broken / ".agent.yaml").unlink()
    gone.mkdir()
    (gone / "conversations").mkdir()
    for each in conversations[:2]:
        Path(each["path"]).touch()
        place.client.request("conversation/rebuild", {"conversation": each["id"]})
    place.settle()


def test_no_error_is_hidden(place: Place) -> None:
    """What a client cannot do for want of a daemon is one OpAgentError, never an OSError."""
    place.kill_daemon(signal.SIGTERM)
    with pytest.raises(DaemonUnavailable):
        Client("test", start=False)
    assert issubclass(DaemonUnavailable, OpAgentError)
    place.back()
