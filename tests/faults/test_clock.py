"""Wall clocks that jump while people work: order is that of the log, nothing expires early, nobody waits for ever."""

from __future__ import annotations

import json
import sqlite3
from datetime import datetime

import pytest

from opagent import paths
from tests.doubles.patience import until
from tests.doubles.shim import Shim
from tests.faults.conftest import Place

DAY = 86_400


@pytest.mark.parametrize("jump", [DAY, -DAY], ids=["forward", "back"])
def test_the_clock_jumps_in_a_turn(place: Place, shim: Shim, jump: int) -> None:
    """C1: the turn goes on, its question still waits, the order is that of the numbers."""
    place.anew(**shim.clock())
    conversation = place.create("oracle")
    place.say(conversation, "before")
    turn = place.start(conversation, "/permission\n/slow 20 0.02")
    approval = until(place.approvals)[0]["id"]
    shim.shift(jump)
    other = place.create("oracle")
    assert place.say(other, "beside it")["state"] == "done"
    assert [each["id"] for each in place.approvals()] == [approval], "a jump answers nobody's question"
    place.allow(approval)
    assert place.ended(conversation, turn["id"])["state"] == "done"
    events = place.show(conversation)["events"]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    times = [datetime.fromisoformat(event["at"]) for event in events]
    assert abs((times[-1] - times[0]).total_seconds()) > DAY / 2, "its clock did not jump"
    assert place.say(conversation, "after")["state"] == "done"
    (seconds,) = until(recorded)
    assert abs(seconds - jump) < 60
    place.settle()


def recorded() -> list[float]:
    with sqlite3.connect(f"file:{paths.database()}?mode=ro", uri=True) as connection:
        return [
            json.loads(body)["seconds"] for (body,) in connection.execute("select body from journal where kind = 'clock.jump'")
        ]


@pytest.mark.parametrize("years", [13, 75], ids=["2039", "2101"])
def test_a_far_year(place: Place, shim: Shim, years: int) -> None:
    """C4: beyond 2038 and 2100; times are UTC with a zone everywhere."""
    place.anew(**shim.clock())
    shim.shift(years * 365 * DAY)
    conversation = place.create("oracle")
    turn = place.say(conversation, "are you there?")
    assert turn["state"] == "done" and turn["queued_at"].endswith("Z") and turn["queued_at"] > "2038-01-19"
    assert place.file(conversation, f"/{turn['id']} done").count(turn["queued_at"][:4]) >= 1
    shim.shift(0)
    assert place.say(conversation, "back again")["state"] == "done"
    place.settle()
