"""kill -9 of agent and daemon around a step of a turn, at moments given in milliseconds; exactly at each step: test_matrix.py."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable

import pytest

from tests.doubles.patience import PATIENCE, until
from tests.faults.conftest import Place

VICTIMS: dict[str, Callable[[Place], object]] = {
    "agent": lambda place: place.kill_agents(),
    "daemon": lambda place: place.kill_daemon(),
}


def hold(place: Place, **options: str) -> None:
    """Options of the next start of the oracle; none: as usual again."""
    path = place.directory / ".oracle/options"
    path.write_text(json.dumps(options))


def starts(place: Place) -> int:
    path = place.directory / ".oracle/heard"
    return path.read_text().count('"start"') if path.exists() else 0


@pytest.mark.parametrize("victim", VICTIMS)
def test_while_it_comes_back_to_its_session(place: Place, victim: str) -> None:
    """K5: the session's id is known, session/resume is on its way."""
    conversation = place.create("oracle")
    place.say(conversation, "first")
    place.client.request("process/stop", {"process": conversation["id"]})
    hold(place, hang="session")
    turn = place.start(conversation, "second")
    until(lambda: starts(place) == 2)
    hold(place)
    VICTIMS[victim](place)
    place.back()
    assert place.ended(conversation, turn["id"])["state"] == "done"
    context = place.say(conversation, "/context")
    assert "remembered: 2 turns" in place.answer(conversation, context["id"])
    place.settle()


@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.parametrize("text", ["/hang", "/slow 200 0.05", "/flood 2000 100\n/wait", "/permission", "/tool\n/wait"])
def test_while_the_turn_runs(place: Place, text: str, victim: str) -> None:
    """K7-K10: the prompt is sent, text streams, a tool call was made, a person is asked. What waits behind it runs once."""
    conversation = place.create("oracle")
    running = place.start(conversation, text)
    waiting = place.start(conversation, "waits behind it")
    if text == "/permission":
        approval = until(place.approvals)[0]["id"]
        place.file(conversation, approval)
    elif text == "/hang":
        until(lambda: place.turn(conversation, running["id"])["state"] == "running")
    else:
        until(lambda: place.answer(conversation, running["id"]))
    VICTIMS[victim](place)
    place.back()
    ended = place.ended(conversation, running["id"])
    assert ended["state"] == "interrupted"
    assert ended["reason"] in ("crashed", "the daemon ended")
    assert not place.approvals()
    assert place.ended(conversation, waiting["id"])["state"] == "done"
    shown = place.file(conversation, f"/{running['id']} interrupted")
    assert "> [!WARNING]" in shown and ("oracle ended: killed" in shown or "the daemon stopped" in shown)
    place.settle()


@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.parametrize("moment", [0.0, 0.001, 0.003, 0.01, 0.03])
def test_a_death_around_an_answer(place: Place, moment: float, victim: str) -> None:
    """K11-K12: the answer is committed, and sent or not: void unless the log says that the agent has it; never given twice."""
    conversation = place.create("oracle")
    target = place.directory / "made.md"
    turn = place.start(conversation, f"/permission write {target} text")
    approval = until(place.approvals)[0]["id"]
    place.allow(approval)
    time.sleep(moment)
    VICTIMS[victim](place)
    place.back()
    state = place.ended(conversation, turn["id"])["state"]
    assert state in ("interrupted", "done")
    (decided,) = place.client.request("approval/list", {"all": True})["approvals"]
    told = [event for event in place.show(conversation)["events"] if event["body"].get("delivered") == approval]
    assert decided["state"] == ("allowed" if told else "void")
    assert decided["answered_by"].startswith("human:")
    assert target.exists() or state == "interrupted"
    place.settle()


@pytest.mark.parametrize("moment", [0.0, 0.002, 0.005, 0.01, 0.02, 0.04])
def test_the_daemon_dies_around_the_end_of_a_turn(place: Place, moment: float) -> None:
    """K13-K14: stopReason read, end committed, file written or half on its way."""
    conversation = place.create("oracle")
    place.say(conversation, "warm up")
    turns = []
    for number in range(3):
        turns.append(place.start(conversation, f"/flood 200 500\nround {number}"))
        until(
            lambda: (
                "round" in place.answer(conversation, turns[-1]["id"])
                or place.turn(conversation, turns[-1]["id"])["state"] == "done"
            )
        )
        time.sleep(moment)
        place.kill_daemon()
        place.back()
        place.ended(conversation, turns[-1]["id"])
        place.checker.check(settled=True)
    assert not list((place.directory / ".opagent/tmp").iterdir())


@pytest.mark.parametrize("moment", [0.0, 0.01, 0.05, 0.3])
def test_the_daemon_dies_while_it_stops(place: Place, moment: float) -> None:
    """K15."""
    conversation, other = place.create("oracle"), place.create("oracle")
    running = place.start(conversation, "/ignore-eof\n/ignore-term\n/hang")
    waiting = place.start(conversation, "waits behind it")
    place.say(other, "beside")
    until(lambda: place.answer(conversation, running["id"]))
    pid = place.daemon()
    os.kill(pid, signal.SIGTERM)
    time.sleep(moment)
    os.kill(pid, signal.SIGKILL)
    place.back()
    assert place.ended(conversation, running["id"])["state"] in ("cancelled", "interrupted")
    assert place.ended(conversation, waiting["id"])["state"] == "done"
    place.settle()


def test_two_kills_of_the_daemon_in_a_row(place: Place) -> None:
    """The second one hits the recovery itself: twice gives the same as once."""
    conversation = place.create("oracle")
    running, waiting = place.start(conversation, "/slow 200 0.05"), place.start(conversation, "waits behind it")
    until(lambda: place.answer(conversation, running["id"]))
    for moment in (0.0, 0.1, 0.15, 0.2, 0.25):
        place.kill_daemon()
        client = place.began("ps")
        time.sleep(moment)
        place.kill_daemon()
        client.wait(PATIENCE)
    place.back()
    assert place.ended(conversation, running["id"])["state"] == "interrupted"
    assert place.ended(conversation, waiting["id"])["state"] in ("done", "interrupted")  # a later kill may have met it
    place.settle()
