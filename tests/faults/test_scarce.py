"""A daemon that runs out of descriptors: what is new is refused in one line, what runs goes on, and it does not spin."""

from __future__ import annotations

import resource
import socket

import psutil

from opagent import paths
from tests.doubles.patience import until
from tests.faults.conftest import Place

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


def _knock() -> socket.socket:
    stream = socket.socket(socket.AF_UNIX)
    stream.connect(str(paths.socket()))
    return stream
