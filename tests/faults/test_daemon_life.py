"""The daemon's own troubles: two at once, many clients at once, what others left in its place, signals."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading

import pytest

from opagent import paths
from opagent.client import Client
from tests.doubles.patience import PATIENCE, until
from tests.faults.conftest import REPOSITORY, Place, of_test


def daemons() -> list[int]:
    return [pid for pid, _, command in of_test() if "opagent.daemon.main" in command]


def start_daemon() -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-m", "opagent.daemon.main"]
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.Popen(argv, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_eight_daemons_race_and_one_stays(place: Place) -> None:
    for _ in range(2):
        place.kill_daemon()
        racing = [start_daemon() for _ in range(8)]
        place.back()
        until(lambda: len(daemons()) == 1)
        assert daemons() == [place.client.request("daemon/status", {})["pid"]]
        assert place.say(place.create("oracle"), f"hello {racing[0].pid}")["state"] == "done"
        place.kill_daemon()
        for process in racing:
            process.wait(PATIENCE)
    place.back()
    place.settle()


def test_fifty_clients_at_once(place: Place) -> None:
    place.kill_daemon()
    failures: list[BaseException] = []
    pids: set[int] = set()

    def one(number: int) -> None:
        try:
            with Client(f"c{number}") as client:
                pids.add(client.request("daemon/status", {})["pid"])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert not failures and len(pids) == 1
    assert len(daemons()) == 1
    place.back()


@pytest.mark.parametrize(
    "left", ["a dead socket", "a file", "a pid of somebody", "a lock file", "a dangling link", "a directory"]
)
def test_what_lies_in_the_way(place: Place, left: str) -> None:
    place.kill_daemon()
    path = paths.socket()
    if left == "a dead socket":
        path.unlink(missing_ok=True)
        stream = socket.socket(socket.AF_UNIX)
        stream.bind(str(path))
        stream.close()
    elif left == "a file":
        path.unlink(missing_ok=True)
        path.write_text("no socket")
    elif left == "a pid of somebody":
        (paths.run() / "daemon.pid").write_text("1\n")
    elif left == "a lock file":
        paths.lock().write_text("old")
    elif left == "a dangling link":
        path.unlink(missing_ok=True)
        path.symlink_to("/nowhere/at/all")
    else:
        path.unlink(missing_ok=True)
        path.mkdir()
        said = place.command("ps")
        assert said.returncode == 1 and said.stderr.count("error: ") == 1 and "Traceback" not in said.stderr
        assert str(path) in said.stderr
        path.rmdir()
    assert place.command("ps").returncode == 0
    place.back()


@pytest.mark.parametrize("mode", [0o755, 0o777])
def test_a_socket_directory_that_others_can_enter(place: Place, mode: int) -> None:
    """Either made private again or refused in one line: never used as it is."""
    place.kill_daemon()
    paths.run().chmod(mode)
    said = place.command("ps")
    assert "Traceback" not in said.stderr
    if said.returncode == 0:
        assert paths.run().stat().st_mode & 0o077 == 0
    else:
        assert said.stderr.count("error: ") == 1 and str(paths.run()) in said.stderr
        paths.run().chmod(0o700)
    place.back()


def test_a_socket_directory_of_another_user(place: Place) -> None:
    if os.geteuid() != 0:
        pytest.fail("this case needs root: only root can give a directory away")
    place.kill_daemon()
    os.chown(paths.run(), 12345, 12345)
    said = place.command("ps")
    os.chown(paths.run(), 0, 0)
    assert said.returncode != 0 and said.stderr.count("error: ") == 1
    assert "Traceback" not in said.stderr and str(paths.run()) in said.stderr
    assert place.command("ps").returncode == 0
    place.back()


def test_a_command_right_after_a_stop_waits_for_the_old_daemon(place: Place) -> None:
    """The old one takes its time to stop its agents; the next command is served by a new one."""
    conversation = place.create("oracle")
    place.say(conversation, "/ignore-eof")
    running = place.start(conversation, "/slow 500 0.05")
    waiting = place.start(conversation, "waits behind it")
    until(lambda: place.answer(conversation, running["id"]))
    pid = place.daemon()
    os.kill(pid, signal.SIGTERM)
    until(lambda: not paths.socket().exists())
    said = place.command("ps")
    assert said.returncode == 0, said.stderr
    assert daemons() == [place.daemon()] != [pid]
    place.back()
    assert place.ended(conversation, running["id"])["state"] == "cancelled"
    assert place.ended(conversation, waiting["id"])["state"] == "done"
    place.settle()


def test_a_stop_with_many_running_turns(place: Place) -> None:
    conversations = [place.create("oracle") for _ in range(12)]
    turns = [place.start(each, f"/slow 500 0.05\n{number}") for number, each in enumerate(conversations)]
    until(lambda: all(place.answer(each, turn["id"]) for each, turn in zip(conversations, turns, strict=True)))
    place.kill_daemon(signal.SIGTERM)
    assert not [command for _, owner, command in of_test() if owner]
    place.back()
    for each, turn in zip(conversations, turns, strict=True):
        assert place.turn(each, turn["id"])["state"] == "cancelled"
    place.settle()


def test_a_daemon_that_is_stopped_for_a_while(place: Place) -> None:
    """SIGSTOP: clients get one line instead of a silence; SIGCONT: everything goes on where it was."""
    conversation = place.create("oracle")
    turn = place.start(conversation, "/slow 40 0.05")
    until(lambda: place.answer(conversation, turn["id"]))
    pid = place.daemon()
    os.kill(pid, signal.SIGSTOP)
    said = place.command("ps")
    os.kill(pid, signal.SIGCONT)
    assert said.returncode == 1 and "does not answer" in said.stderr and len(said.stderr.splitlines()) <= 4
    assert place.ended(conversation, turn["id"])["state"] == "done"
    place.settle()


def test_an_agent_that_is_stopped_for_a_while(place: Place) -> None:
    conversation, other = place.create("oracle"), place.create("oracle")
    turn = place.start(conversation, "/slow 20 0.05")
    until(lambda: place.answer(conversation, turn["id"]))
    place.kill_agents(conversation, signal.SIGSTOP)
    assert place.say(other, "not touched")["state"] == "done"
    place.kill_agents(conversation, signal.SIGCONT)
    assert place.ended(conversation, turn["id"])["state"] == "done"
    place.kill_agents(conversation, signal.SIGSTOP)
    stopped = place.client.request("process/stop", {"process": conversation["id"]})
    assert stopped["pid"] is None
    place.settle()
