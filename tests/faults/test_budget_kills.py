"""G3: kill -9 between spending and the commit: what a turn used is counted, or what it had reserved is; never nothing, never twice."""

from __future__ import annotations

import json
import signal
import sqlite3
import time

import pytest

from opagent import paths
from tests.doubles.patience import until
from tests.faults.conftest import Place, trust

RESERVED, SPENT = 100, 40  # of 1000 tokens: a tenth, as long as nothing is known of past turns


def rows(query: str) -> list[tuple[object, ...]]:
    with sqlite3.connect(f"file:{paths.database()}?mode=ro", uri=True) as connection:
        return connection.execute(query).fetchall()


def budget(place: Place, **budget: object) -> None:
    with (paths.config() / "runtimes/oracle/runtime.yaml").open("a") as file:
        file.write("quirks: {usage: turn}\n")
    (place.directory / ".agent.yaml").write_text(f"version: 1\nagent: oracle\nbudget: {json.dumps(budget)}\n")
    trust(place.client, place.directory)


def check(place: Place) -> None:
    """Sums of the turns are what the ledger says, nothing is reserved for a turn that is over, each turn that began counts once."""
    ((open_,),) = rows("select count(*) from spent where ended is null")
    ((reserved,),) = rows("select count(*) from reservation")
    assert (open_, reserved) == (0, 0)
    ((began,),) = rows("select count(distinct conversation || '/' || json_extract(head, '$.who.turn')) from journal "
                       "where kind = 'turn_state' and json_extract(body, '$.state') = 'running'")  # fmt: skip
    ((turns, tokens),) = rows("select count(*), ifnull(sum(tokens), 0) from spent")
    assert turns == began
    for per in ("day", "total"):
        found = dict(rows(f"select metric, sum(used) from ledger where per = '{per}' and source = 'counted' group by metric"))
        assert (found.get("turns", 0), found.get("tokens", 0)) == (turns, tokens)


@pytest.mark.parametrize("moment", [0.0, 0.002, 0.006, 0.02, 0.05])
def test_a_kill_around_the_end_of_a_turn(place: Place, moment: float) -> None:
    budget(place, tokens=1000, per="total")
    conversation = place.create("oracle")
    turn = place.start(conversation, f"/spend {SPENT}")
    until(lambda: place.turn(conversation, turn["id"])["state"] != "queued")
    time.sleep(moment)  # anywhere in the few milliseconds of the turn; which one does not matter
    place.kill_daemon()
    place.back()
    ended = place.ended(conversation, turn["id"])
    check(place)
    ((tokens, estimated),) = rows("select tokens, estimated from spent")
    if ended["state"] == "done":
        assert (tokens, estimated) == (SPENT, "")
    else:
        assert ended["state"] == "interrupted" and (tokens, estimated) == (RESERVED, "tokens")
    place.settle()


def test_what_was_told_before_the_kill_is_reserved_before_it(place: Place) -> None:
    """The cost goes beyond the reservation while the turn runs: that much is counted after the kill."""
    budget(place, cost="10 USD")
    conversation = place.create("oracle")
    turn = place.start(conversation, "/spend 1 3.5\n/wait")
    until(lambda: place.answer(conversation, turn["id"]))
    until(lambda: [row for row in rows("select amount from reservation where metric = 'cost'") if int(str(row[0])) >= 3_500_000])
    place.kill_daemon()
    place.back()
    assert place.ended(conversation, turn["id"])["state"] == "interrupted"
    check(place)
    assert int(str(rows("select cost from spent")[0][0])) >= 3_500_000
    place.settle()


def test_an_agent_that_is_killed_has_used_what_it_had_reserved(place: Place) -> None:
    budget(place, tokens=1000, per="day")
    conversation = place.create("oracle")
    turn = place.start(conversation, "/wait")
    until(lambda: place.answer(conversation, turn["id"]))
    place.kill_agents(number=signal.SIGKILL)
    assert place.ended(conversation, turn["id"])["state"] == "interrupted"
    check(place)
    assert rows("select tokens, estimated from spent") == [(RESERVED, "tokens")]
    place.settle()
