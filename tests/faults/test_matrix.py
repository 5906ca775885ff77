"""The kill matrix on this machine: the daemon stops itself at a step, the victim is killed there, the daemon goes on or is made anew."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
from typing import Any

import psutil
import pytest

from opagent import paths
from opagent.client import Client
from tests.doubles import barrier_daemon
from tests.doubles.checker import PROXY, heard_by, of_test
from tests.doubles.daemons import environment
from tests.doubles.mortal_daemon import WORD
from tests.doubles.patience import PATIENCE, until
from tests.faults.conftest import Place, is_daemon_of_test, trust
from tests.faults.matrix import UNDISTURBED, cells, state

WARM = ("K6", "K7", "K8", "K9", "K10", "K11", "K12a", "K12b", "K13", "K14", "K15")  # the agent runs already
LONG, SHORT = f"/slow 200 0.05\n{WORD}", f"/slow 10 0.02\n{WORD}"
WRITES = {"write": {"default": "allow"}, "read": {"default": "allow"}}
WAY_OUT = {"network": {"allow": ["example.com"]}}  # without one there is no proxy
TEXTS = {
    "K12a": "/fs made.md once\n{}",
    "K12b": "/fs made.md once\n{}",
    "K9": "/tool\n{}",
    "K10": f"/permission\n{WORD}",
    "K11": f"/permission\n{WORD}",
    "K13": SHORT,
    "K14": SHORT,
}


def stopping_at(place: Place, step: str) -> int:
    """The pid of a daemon that stops at the step; the one after it is as usual."""
    pid = place.anew(barrier_daemon.words(step), PYTHONPATH=environment()["PYTHONPATH"])
    place.at_end.append(lambda: _unless_gone(pid, signal.SIGCONT))  # where a test fails before it goes on
    return pid


def _unless_gone(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def kill(victim: str, daemon: int, client: subprocess.Popen[bytes]) -> None:
    """SIGKILL, and it is gone when this returns."""
    if victim == "client":
        client.kill()
        client.wait()
        return
    match victim:
        case "daemon":
            pids = [daemon]
        case "proxy":
            pids = proxies(daemon)
        case _:
            pids = [pid for pid, owner, _ in of_test() if owner]
    assert pids, f"no {victim} runs"
    processes = [psutil.Process(pid) for pid in pids]
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):  # the rest of a box goes with its first
            process.kill()
    until(lambda: not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes))


def proxies(daemon: int) -> list[int]:
    return [child.pid for child in psutil.Process(daemon).children() if PROXY in child.cmdline()]


def replayed(conversation: dict[str, Any]) -> None:
    """Another client gets every event from the first one on, each once."""
    with Client("another") as client:
        last = client.subscribe(conversation["id"], 0)
        seqs = []
        while not seqs or seqs[-1] < last:
            event = client.next_event(PATIENCE)
            assert event is not None
            seqs.append(event.seq)
        assert seqs == list(range(1, last + 1))


@pytest.mark.parametrize(("step", "victim"), cells("agent", "daemon", "client", "proxy"))
def test_a_kill_at_a_step(place: Place, step: str, victim: str) -> None:
    rules = (WRITES if step.startswith("K12") else {}) | (WAY_OUT if victim == "proxy" else {})
    if rules:
        (place.directory / ".agent.yaml").write_text(f"version: 1\nagent: oracle\ncan: {json.dumps(rules)}\n")
        trust(place.client, place.directory)
    daemon = stopping_at(place, step)
    conversation = place.create("oracle")
    if step in WARM:
        place.say(conversation, "warm up")
    text = TEXTS.get(step, "{}").format(SHORT if victim in UNDISTURBED and step != "K15" else LONG)
    if step not in WARM:
        text = SHORT
    client = place.began("send", conversation["id"], text)
    answering = provoked(place, conversation, step)
    barrier_daemon.stands(daemon)
    kill(victim, daemon, client)
    if victim != "daemon":
        barrier_daemon.goes_on(daemon)
    if step == "K15":
        until(lambda: not is_daemon_of_test(daemon))
    place.back()
    if step == "K10" and victim in UNDISTURBED:
        place.allow(place.approvals()[0]["id"])
    (turn,) = until(lambda: [each for each in place.show(conversation)["turns"] if each["text"] == text])
    ended = place.ended(conversation, turn["id"])
    assert ended["state"] in state(step, victim), ended
    assert heard_by(place.directory).count(text) <= 1
    _void(place, step, victim)
    if step.startswith("K12"):
        _effect(place, step, victim)
    client.wait(PATIENCE)
    if answering is not None:
        answering.wait(PATIENCE)
    place.file(conversation, f"/{turn['id']} {ended['state']}")
    assert place.say(conversation, "and now?")["state"] == "done"
    if victim == "proxy":
        until(lambda: proxies(place.daemon()))
    replayed(conversation)
    place.settle()


def provoked(place: Place, conversation: dict[str, Any], step: str) -> subprocess.Popen[bytes] | None:
    """What a person does so that the step comes."""
    if step == "K11":
        approval = until(place.approvals)[0]["id"]
        place.checker.allowed.add(approval)
        return place.began("allow", approval)
    if step == "K15":
        until(lambda: any(turn["state"] == "running" for turn in place.show(conversation)["turns"]))
        return place.began("daemon", "stop")
    return None


def _void(place: Place, step: str, victim: str) -> None:
    """An answer that the agent cannot have got counts for nothing; nothing is allowed by a death."""
    for approval in place.client.request("approval/list", {"all": True})["approvals"]:
        assert approval["state"] == ("allowed" if victim in UNDISTURBED else "void"), (step, victim, approval)


def _effect(place: Place, step: str, victim: str) -> None:
    """I4: what nobody saw end is unknown and not done again; otherwise it is done, whoever had asked for it."""
    with sqlite3.connect(f"file:{paths.database()}?mode=ro", uri=True) as connection:
        states = [row[0] for row in connection.execute("select state from effect where kind = 'fs.write' and state != 'seen'")]
    assert states == ["unknown" if victim == "daemon" else "done"], states
    assert (place.directory / "made.md").exists() is ((step, victim) != ("K12a", "daemon"))
