"""What becomes scarce: descriptors of the daemon (what is new is refused in one line, what runs goes on), and processors."""

from __future__ import annotations

import resource
import socket
import sys
from pathlib import Path

import psutil

from opagent import paths
from opagent.process import priority
from tests.doubles import hands, runtimes
from tests.doubles.patience import until
from tests.faults.conftest import Place, trust
from tests.faults.test_crowds import talk_on

SPARE = 2


def test_no_descriptors_left(place: Place) -> None:
    """R5."""
    running, other = place.create("oracle"), place.create("oracle")
    place.say(running, "warm up")
    turn = place.start(running, "/slow 60 0.02")
    until(lambda: place.answer(running, turn["id"]))
    daemon = psutil.Process(place.daemon())
    usual = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (daemon.num_fds() + SPARE, usual[1]))
    knocking = [_knock() for _ in range(8)]
    refused = place.start(other, "no room for another agent")
    ended = place.ended(other, refused["id"])
    assert ended["state"] == "failed" and ended["reason"], ended
    log = paths.daemon_log()
    assert place.ended(running, turn["id"])["state"] == "done"
    before = log.stat().st_size
    assert place.say(running, "goes on")["state"] == "done"
    assert log.stat().st_size - before < 20_000, "it tells the same again and again"
    for stream in knocking:
        stream.close()
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, usual)
    place.client.request("process/restart", {"process": other["id"]})
    assert place.say(other, "room again")["state"] == "done"
    place.settle()


SPIN = """import os, time
for _ in range(os.cpu_count() + 1):
    if os.fork() == 0:
        os.setsid()
        while True: pass
"""


def test_an_agent_that_spins_on_all_processors(place: Place) -> None:
    """R4: everything of it runs after everybody else's, and it cannot go back. (By how much it slows others, a bench measures.)"""
    runtimes.put("hands", sys.executable, "-I", "-S", str(Path(hands.__file__)))
    (place.directory / ".agent.yaml").write_text("version: 1\nagent: oracle\nroles: {hands: {runtime: hands}}\n")
    trust(place.client, place.directory)
    bystander, busy = place.create("oracle"), place.create("hands")
    turn = place.start(busy, f"{SPIN}time.sleep(2)\ntry: os.nice(-5)\nexcept OSError: os.mkdir('refused')\ntime.sleep(600)")
    spinning = until(lambda: (rows := [p for p in of_hands(place) if p.cpu_percent(0.1) > 5]) and rows)
    talk_on(place, bystander, 5, "beside it")
    assert {process.nice() for process in of_hands(place)} == {priority.NICE}
    assert {process.ionice().ioclass for process in spinning} == {psutil.IOPRIO_CLASS_IDLE}
    until(lambda: (place.directory / "refused").is_dir())
    assert psutil.Process(place.daemon()).nice() == 0
    place.client.request("process/stop", {"process": busy["id"], "force": True})
    assert place.ended(busy, turn["id"])["state"] == "cancelled"
    place.settle()


def of_hands(place: Place) -> list[psutil.Process]:
    rows = place.client.request("process/list", {})["processes"]
    roots = [psutil.Process(row["pid"]) for row in rows if row["pid"] and row["agent"] == "hands"]
    return [each for root in roots for each in (root, *root.children(recursive=True))]


def _knock() -> socket.socket:
    stream = socket.socket(socket.AF_UNIX)
    stream.connect(str(paths.socket()))
    return stream
