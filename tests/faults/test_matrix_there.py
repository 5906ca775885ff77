"""The kill matrix on another machine: the daemon there stops itself at a step, then it is killed or the SSH link to it is cut."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from opagent.client import Client
from opagent.elsewhere import Elsewhere
from opagent.model import Event
from tests.doubles import barrier_daemon
from tests.doubles.checker import Checker
from tests.doubles.daemons import ROOT
from tests.doubles.far import Far, far, followed, kill
from tests.doubles.mortal_daemon import WORD
from tests.doubles.patience import PATIENCE, until
from tests.faults.matrix import cells, state

LONG, SHORT = f"/slow 200 0.05\n{WORD}", f"/slow 10 0.02\n{WORD}"
ASKING = f"/permission\n{WORD}"


@pytest.fixture
def there(home: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Far]:
    with far(home.parent / "there") as place:
        monkeypatch.setenv("OPAGENT_SSH_CONFIG", place.server.config)
        yield place


def stopping_at(there: Far, step: str) -> int:
    """The pid of a daemon that runs there, as if the user had installed it, and stops at the step."""
    reading, writing = os.pipe()
    daemon = subprocess.Popen(
        [sys.executable, *barrier_daemon.words(step), "--ready-fd", str(writing)],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **there.server.variables},
        pass_fds=(writing,), stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    os.close(writing)
    assert os.read(reading, 1)
    os.close(reading)
    _children.append(daemon)
    return daemon.pid


_children: list[subprocess.Popen[bytes]] = []  # collected at the end of each test


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    yield
    while _children:
        daemon = _children.pop()
        daemon.send_signal(signal.SIGCONT)
        daemon.terminate()
        daemon.wait(PATIENCE)


def said(step: str, victim: str) -> str:
    if step in ("K10", "K11"):
        return ASKING
    if step == "K15":
        return LONG
    return (f"/tool\n{SHORT}" if victim == "SSH link" else f"/tool\n{LONG}") if step == "K9" else SHORT


@pytest.mark.parametrize(("step", "victim"), cells("remote daemon", "SSH link"))
def test_a_kill_at_a_step_there(there: Far, monkeypatch: pytest.MonkeyPatch, step: str, victim: str) -> None:
    daemon = stopping_at(there, step)
    params = {"path": str(there.docs), "agent": "echo", "text": said(step, victim), "request": "first", "follow": True}
    events: list[Event] = []
    with there.client() as client, there.client() as other, ThreadPoolExecutor(2) as pool:
        joining = pool.submit(client.join, params)
        answering = _provoked(there, other, joining, step, pool)
        barrier_daemon.stands(daemon)
        if victim == "SSH link":
            there.server.cut()
            barrier_daemon.goes_on(daemon)
        else:
            kill(there.daemon_there())
        joined = joining.result(PATIENCE)
        turn = joined["turn"]["id"]
        if step == "K10" and victim == "SSH link":
            other.request("approval/answer", {"approval": _open_approval(other), "allow": True})
        assert followed(client, turn, events) in state(step, victim), events[-3:]
        if answering is not None:
            answering.exception(PATIENCE)
        _every_event_once(events)
        _void(other, step, victim)
        again = {"conversation": joined["conversation"]["id"], "text": "and now?", "request": "second"}
        assert followed(client, client.request("turn/start", again)["turn"]["id"], events) == "done"
        _every_event_once(events)
    _holds_there(there, monkeypatch, joined, params["text"], events)


def _open_approval(client: Client) -> str:
    return str(until(lambda: client.request("approval/list", {})["approvals"])[0]["id"])


def _provoked(there: Far, other: Elsewhere, joining: Future[Any], step: str, pool: ThreadPoolExecutor) -> Future[Any] | None:
    """What a person does so that the step comes."""
    if step == "K11":
        approval = _open_approval(other)
        return pool.submit(other.request, "approval/answer", {"approval": approval, "allow": True})
    if step == "K15":
        asked = {"conversation": joining.result(PATIENCE)["conversation"]["id"]}
        until(lambda: other.request("conversation/show", asked)["turns"][0]["state"] == "running")
        return pool.submit(other.request, "daemon/stop", {})
    return None


def _every_event_once(events: list[Event]) -> None:
    seqs = [event.seq for event in events]
    assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))


def _void(other: Elsewhere, step: str, victim: str) -> None:
    for approval in other.request("approval/list", {"all": True})["approvals"]:
        assert approval["state"] == ("allowed" if victim == "SSH link" else "void"), (step, victim, approval)


def _holds_there(there: Far, monkeypatch: pytest.MonkeyPatch, joined: dict[str, Any], text: str, events: list[Event]) -> None:
    """The invariants, with the database there."""
    with monkeypatch.context() as patch:
        for name, value in there.server.variables.items():
            patch.setenv(name, value)
        checker = Checker(there.docs)
        checker.acknowledge({**joined["turn"], "conversation": joined["conversation"]["id"], "text": text})
        for event in events:
            checker.saw(event.conversation, event.seq, event.body)
            if event.kind == "approval_answered" and event.body["state"] == "allowed":
                checker.allowed.add(str(event.body["id"]))
        checker.check(settled=True)
