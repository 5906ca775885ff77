"""Exactly one daemon per user and host, whatever happened before: many clients at once, stale files, kill -9."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import stat
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from opagent import files, paths
from opagent.client import Client
from tests.doubles.daemons import environment, kill
from tests.doubles.patience import PATIENCE, until

_PRINT_PID = "from opagent.client import Client; print(Client().greeting.daemon)"


def _daemons() -> list[psutil.Process]:
    mine = os.environ["OPAGENT_TEST_ID"]
    found = []
    for process in psutil.process_iter():
        try:
            if "opagent.daemon.main" in process.cmdline() and process.environ().get("OPAGENT_TEST_ID") == mine:
                found.append(process)
        except psutil.Error:
            continue
    return found


def test_fifty_clients_at_once_make_one_daemon() -> None:
    clients = [
        subprocess.Popen([sys.executable, "-c", _PRINT_PID], env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(50)
    ]
    said = [client.communicate(timeout=PATIENCE) for client in clients]
    assert {error for _, error in said} == {b""}
    assert len({out for out, _ in said}) == 1
    assert len(_daemons()) == 1


def test_the_second_client_finds_the_daemon_of_the_first() -> None:
    with Client() as first, Client() as second:
        assert first.greeting.daemon == second.greeting.daemon
        assert second.request("daemon/status")["clients"] == 2


def test_a_killed_daemon_leaves_nothing_in_the_way() -> None:
    pids = set()
    for _ in range(3):
        with Client() as client:
            pids.add(client.greeting.daemon)
        kill(client.greeting.daemon)
        assert paths.socket().exists()
    with Client() as client:
        assert client.greeting.daemon not in pids


def test_a_stale_socket_and_a_stale_lock_are_no_hindrance() -> None:
    files.private_directory(paths.run())
    with socket.socket(socket.AF_UNIX) as old:
        old.bind(str(paths.socket()))
    paths.lock().write_text("12345\n")
    with Client() as client:
        assert client.request("daemon/status")["pid"] == client.greeting.daemon


def test_a_client_killed_while_it_starts_the_daemon_blocks_nobody() -> None:
    files.private_directory(paths.run())
    hold = "import fcntl, os, sys, time; fcntl.flock(os.open(sys.argv[1], 66), 2); print(1, flush=True); time.sleep(60)"
    holder = subprocess.Popen([sys.executable, "-c", hold, str(paths.lock())], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    holder.stdout.readline()
    waiting = subprocess.Popen([sys.executable, "-c", _PRINT_PID], env=environment(), stdout=subprocess.PIPE)
    until(lambda: _waits_for_lock(waiting.pid))
    assert _daemons() == []
    holder.kill()
    holder.communicate()
    out, _ = waiting.communicate(timeout=PATIENCE)
    assert int(out) == _daemons()[0].pid


def _waits_for_lock(pid: int) -> bool:
    """It has opened the lock file: it looks at it again and again."""
    try:
        return any(os.path.realpath(f"/proc/{pid}/fd/{fd}") == str(paths.lock()) for fd in os.listdir(f"/proc/{pid}/fd"))
    except FileNotFoundError:
        return False


def test_everything_is_private() -> None:
    before = os.umask(0)
    try:
        Client().close()
    finally:
        os.umask(before)
    for path, mode in ((paths.run(), 0o700), (paths.state(), 0o700), (paths.lock(), 0o600), (paths.daemon_log(), 0o600)):
        assert stat.S_IMODE(path.stat().st_mode) == mode, path
    assert stat.S_IMODE(paths.socket().stat().st_mode) & 0o077 == 0


def test_the_daemon_is_detached() -> None:
    with Client() as client:
        daemon = psutil.Process(client.greeting.daemon)
        assert os.getsid(daemon.pid) == daemon.pid
        assert daemon.cwd() == "/"
        assert os.path.realpath(f"/proc/{daemon.pid}/fd/0") == os.devnull
        assert os.path.realpath(f"/proc/{daemon.pid}/fd/1") == str(paths.daemon_log())


def test_a_lock_that_another_program_holds_does_not_matter_once_a_daemon_runs() -> None:
    Client().close()
    with paths.lock().open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with Client() as client:
            assert client.greeting.daemon == _daemons()[0].pid


def test_a_long_path_gets_a_short_socket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPAGENT_RUN_DIR", str(tmp_path / ("d" * 90)))
    assert len(os.fsencode(paths.socket())) <= paths.SOCKET_MAX
    with Client() as client:
        assert client.request("daemon/status")["socket"] == str(paths.socket())
    assert stat.S_IMODE(paths.run().parent.stat().st_mode) == 0o700
    kill(client.greeting.daemon)
    shutil.rmtree(paths.run())
