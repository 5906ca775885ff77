"""The rows of the ledger: what a turn reserves and settles, what a dead daemon left, what comes late."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opagent.policy.budget import Metric, Per, Place, Scope
from opagent.store import ledger, migrations
from opagent.store.ledger import Begun, Used

PLACE = Place("c/a1", "c", "/w", "2026-11-29")
DAY = PLACE.scope(Per.DAY), Metric.TOKENS
BEGUN = Begun(PLACE, "writer", "m1", "s1", "2026-11-29T10:00:00.000Z", {DAY: 100})
AT = "2026-11-29T10:00:09.000Z"


def opened() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrations.migrate(connection)
    return connection


@pytest.fixture
def db() -> Iterator[sqlite3.Connection]:
    connection = opened()
    yield connection
    connection.close()


def used(tokens: int, **more: object) -> Used:
    counted = {
        Metric.TOKENS: tokens,
        Metric.TURNS: 1,
        Metric.MESSAGES: 1,
        Metric.WALL: 1500,
        Metric.TOOL_CALLS: 2,
        Metric.COST: 0,
    }
    return replace(Used(counted, {"input": tokens - 1, "output": 1}, keys=(DAY,)), **more)  # type: ignore[arg-type]


def line(db: sqlite3.Connection, per: Per = Per.DAY, metric: Metric = Metric.TOKENS) -> tuple[int, int]:
    found = ledger.lines(db, [(PLACE.scope(per), metric)])[PLACE.scope(per), metric]
    return found.used, found.reserved()


def test_reserved_then_settled_everywhere_once(db: sqlite3.Connection) -> None:
    ledger.begin(db, BEGUN)
    assert line(db) == (0, 100)
    ledger.hold(db, PLACE.turn, DAY, 120)
    assert line(db) == (0, 120)
    for _ in range(2):
        ledger.end(db, PLACE, used(40), AT)
    assert [line(db, per) for per in (Per.DAY, Per.TOTAL, Per.CONVERSATION)] == [(40, 0)] * 3
    assert (line(db, Per.TOTAL, Metric.TURNS), line(db, Per.DAY, Metric.WALL)) == ((1, 0), (1500, 0))
    assert (ledger.used(db, DAY, "reported"), ledger.used(db, DAY, "metered")) == (40, None)
    assert ledger.earlier(db, "s1") == {"input": 39, "output": 1, "cost": 0}


def test_what_a_dead_daemon_left_is_counted_as_reserved(db: sqlite3.Connection) -> None:
    ledger.begin(db, BEGUN)
    assert ledger.recover(db, AT) == ["c/a1"] and ledger.recover(db, AT) == []
    assert line(db) == (100, 0) and line(db, Per.TOTAL) == (100, 0) and line(db, Per.TOTAL, Metric.TURNS) == (1, 0)
    ledger.end(db, PLACE, used(40), AT)
    assert line(db) == (100, 0), "it has ended"
    assert ledger.past(db, "/w", "writer")[Metric.TOKENS] == [], "an estimate says nothing about the next turn"
    (row,) = ledger.usage(db, "model")
    assert (row["name"], row["turns"], row["tokens"], row["estimated"], row["doubtful"]) == ("m1", 1, 100, 1, 1)


def test_a_call_elsewhere_that_a_dead_daemon_left_counts_as_used(db: sqlite3.Connection) -> None:
    ledger.begin(db, BEGUN)
    ledger.hold(db, f"{ledger.CALL}k1", DAY, 30)
    assert line(db) == (0, 130)
    ledger.recover(db, AT)
    assert line(db) == (130, 0)


def test_the_clock_of_one_that_was_called_is_not_its_callers(db: sqlite3.Connection) -> None:
    above = Scope(Per.CONVERSATION, "caller")
    ledger.begin(db, BEGUN)
    ledger.end(db, PLACE, used(40, keys=((above, Metric.TOKENS),)), AT)
    found = ledger.lines(db, [(above, Metric.TOKENS), (above, Metric.WALL), (above, Metric.TURNS)])
    assert [each.used for each in found.values()] == [40, 0, 1] and line(db, metric=Metric.WALL) == (1500, 0)


def test_what_the_proxy_reads_late_adds_what_it_makes_more(db: sqlite3.Connection) -> None:
    ledger.begin(db, BEGUN)
    ledger.end(db, PLACE, used(40), AT)
    ledger.late(db, ledger.last_turn(db, "c"), "input", 30)
    assert line(db) == (40, 0) and ledger.used(db, DAY, "metered") == 30
    ledger.late(db, ledger.last_turn(db, "c"), "output", 25)
    assert line(db) == (55, 0) and ledger.used(db, DAY, "metered") == 55
    ledger.late(db, "c/unknown", "input", 5)
    assert line(db) == (55, 0)


def test_raised_adds_up(db: sqlite3.Connection) -> None:
    for amount in (5, 7):
        ledger.raise_(db, DAY, amount, AT, "human:0")
    assert ledger.raised(db, DAY) == 12 and ledger.raised(db, (PLACE.scope(Per.TOTAL), Metric.TOKENS)) == 0


@given(st.lists(st.tuples(st.integers(0, 90), st.sampled_from(["end", "die"])), max_size=10), st.randoms(use_true_random=False))
def test_the_ledger_is_the_sum_of_the_turns_in_any_order(turns: list[tuple[int, str]], random: object) -> None:
    db = opened()
    places = [replace(PLACE, turn=f"c/a{number}") for number in range(len(turns))]
    for place in places:
        ledger.begin(db, replace(BEGUN, place=place))
    for number in random.sample(range(len(turns)), len(turns)):  # type: ignore[attr-defined]
        if turns[number][1] == "end":
            ledger.end(db, places[number], used(turns[number][0]), AT)
    ledger.recover(db, AT)
    expected = sum(amount if how == "end" else 100 for amount, how in turns)
    assert line(db) == line(db, Per.TOTAL) == (expected, 0)
    assert sum(row["tokens"] for row in ledger.usage(db, "day")) == expected
    db.close()
