"""Rows of the ledger: what was used and is reserved, by scope; functions of a connection, for the turn's own transaction.

What may begin and what it costs is decided in `policy/budget.py`. A turn that begins leaves a row in `spent` and what it
reserved; its end settles both. Of what a daemon that died left, the reserved counts as used (`recover`): nothing is lost.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from opagent.policy.budget import BEGINNING, Key, Line, Metric, Per, Place, Scope, reserve, settle

_PAST = 20  # turns that say what the next one may take
_WHERE = "per = ? and name = ? and window = ? and metric = ?"
NAMES = ("input", "output", "cost")
CALL = "call/"  # begins the name under which a call to another machine reserves, like a turn
_OWN = (Per.CONVERSATION, Per.DAY, Per.TOTAL)


@dataclass(frozen=True, slots=True)
class Begun:
    """A turn that begins. `session`: of the agent, the one that cumulative numbers are about."""

    place: Place
    agent: str
    model: str
    session: str
    at: str
    amounts: Mapping[Key, int] = field(default_factory=dict)  # what it reserves


@dataclass(frozen=True, slots=True)
class Used:
    """What a turn used. `counted` by metric; `reported` and `metered` by "input", "output", "cost"; None: nobody said."""

    counted: Mapping[Metric, int]
    reported: Mapping[str, int | None] = field(default_factory=dict)
    metered: Mapping[str, int | None] = field(default_factory=dict)
    currency: str = ""
    estimated: str = ""
    doubts: str = ""
    keys: tuple[Key, ...] = ()  # limits of the chain beside those of its own place


def lines(connection: sqlite3.Connection, keys: Iterable[Key]) -> dict[Key, Line]:
    found = {}
    for key in keys:
        used = connection.execute(f"select used from ledger where {_WHERE} and source = 'counted'", _row(key)).fetchone()  # noqa: S608
        held = connection.execute(f"select turn, amount from reservation where {_WHERE}", _row(key)).fetchall()  # noqa: S608
        found[key] = Line(int(used[0]) if used else 0, dict(held))
    return found


def used(connection: sqlite3.Connection, key: Key, source: str) -> int | None:
    """What one source said; None where it never said anything."""
    row = connection.execute(f"select used from ledger where {_WHERE} and source = ?", (*_row(key), source)).fetchone()  # noqa: S608
    return int(row[0]) if row else None


def begin(connection: sqlite3.Connection, begun: Begun) -> None:
    place = begun.place
    named = (place.turn, place.conversation, place.workspace, begun.agent, begun.model, begun.session, place.day, begun.at)
    query = """insert into spent(turn, conversation, workspace, agent, model, session, day, begun)
      values(?, ?, ?, ?, ?, ?, ?, ?)"""
    connection.execute(query, named)
    changed = reserve(lines(connection, begun.amounts), place.turn, begun.amounts)
    for key in changed:
        hold(connection, place.turn, key, changed[key].held[place.turn])


def hold(connection: sqlite3.Connection, turn: str, key: Key, amount: int) -> None:
    connection.execute("insert or replace into reservation values(?, ?, ?, ?, ?, ?)", (turn, *_row(key), amount))


def end(connection: sqlite3.Connection, place: Place, used_: Used, at: str) -> None:
    """Settle a turn. Twice is once: a turn that has ended is left alone."""
    counted = {"wall": 0, "tool_calls": 0, "tokens": 0, "cost": 0} | {
        metric.value: amount for metric, amount in used_.counted.items() if metric not in BEGINNING
    }
    facts = (*(used_.reported.get(name) for name in NAMES), *(used_.metered.get(name) for name in NAMES))
    query = """update spent set ended = ?, wall = ?, tool_calls = ?, tokens = ?, cost = ?, currency = ?, estimated = ?,
      doubts = ?, reported_input = ?, reported_output = ?, reported_cost = ?,
      metered_input = ?, metered_output = ?, metered_cost = ?
      where turn = ? and ended is null"""
    amounts = (counted["wall"], counted["tool_calls"], counted["tokens"], counted["cost"])
    values = (at, *amounts, used_.currency, used_.estimated, used_.doubts, *facts, place.turn)
    if not connection.execute(query, values).rowcount:
        return
    own = {place.scope(per) for per in _OWN}
    scopes = {*own, *(scope for scope, _ in used_.keys)}
    keys = {
        (scope, metric): amount
        for scope in scopes
        for metric, amount in used_.counted.items()
        if scope in own or metric is not Metric.WALL or (scope, metric) in used_.keys  # a caller's clock runs by itself
    }
    settled(connection, place.turn, keys)
    for source, said in (("reported", used_.reported), ("metered", used_.metered)):
        for metric, amount in _by_metric(said).items():
            for scope in scopes:
                _add(connection, (scope, metric), source, amount)


def recover(connection: sqlite3.Connection, at: str) -> list[str]:
    """Turns that ran when the daemon died, and calls elsewhere: what they had reserved counts as used. Gives the turns."""
    for (call,) in connection.execute("select distinct turn from reservation where turn glob ?", (f"{CALL}*",)).fetchall():
        settled(connection, call, dict(_reserved(connection, call)))
    rows = connection.execute("select turn, conversation, workspace, day from spent where ended is null").fetchall()
    for turn, conversation, workspace, day in rows:
        held: dict[Metric, int] = dict.fromkeys(BEGINNING, 1)
        keys = []
        for key, amount in _reserved(connection, turn):
            held[key[1]] = max(held.get(key[1], 0), amount)
            keys.append(key)
        estimated = ",".join(sorted(metric.value for metric in held.keys() - BEGINNING))
        left = Used(held, estimated=estimated, doubts="the daemon ended", keys=tuple(keys))
        end(connection, Place(turn, conversation, workspace, day), left, at)
    return [row[0] for row in rows]


def late(connection: sqlite3.Connection, turn: str, name: str, amount: int) -> None:
    """What the proxy read of a turn that has ended: the difference that it makes is added. `name`: input, output or cost."""
    columns = "conversation, workspace, day, tokens, cost, metered_input, metered_output, metered_cost"
    row = connection.execute(f"select {columns} from spent where turn = ? and ended is not null", (turn,)).fetchone()  # noqa: S608
    if row is None:
        return
    metered = dict(zip(NAMES, (int(each or 0) for each in row[5:]), strict=True))
    metered[name] += amount
    metric = Metric.COST if name == "cost" else Metric.TOKENS
    known = int(row[4] if metric is Metric.COST else row[3])
    seen = metered["cost"] if metric is Metric.COST else metered["input"] + metered["output"]
    query = f"update spent set metered_{name} = ?, {metric.value} = ? where turn = ?"  # noqa: S608
    connection.execute(query, (metered[name], max(known, seen), turn))
    place = Place(turn, row[0], row[1], row[2])
    for per in _OWN:
        _add(connection, (place.scope(per), metric), "metered", amount)
        _add(connection, (place.scope(per), metric), "counted", max(0, seen - known))


def past(connection: sqlite3.Connection, workspace: str, agent: str) -> dict[Metric, list[int]]:
    """What the last turns of an agent used, without those of which nobody said it."""
    query = """select wall, tool_calls, tokens, cost, estimated from spent
      where workspace = ? and agent = ? and ended is not null order by begun desc limit ?"""
    found: dict[Metric, list[int]] = {metric: [] for metric in (Metric.WALL, Metric.TOOL_CALLS, Metric.TOKENS, Metric.COST)}
    for row in connection.execute(query, (workspace, agent, _PAST)):
        for metric, amount in zip(found, row, strict=False):
            if metric.value not in row[4].split(","):
                found[metric].append(amount)
    return found


def earlier(connection: sqlite3.Connection, session: str) -> dict[str, int]:
    """What a session has reported so far, by "input", "output" and "cost"."""
    query = "select sum(reported_input), sum(reported_output), sum(reported_cost) from spent where session = ?"
    row = connection.execute(query, (session,)).fetchone()
    return {name: int(amount or 0) for name, amount in zip(NAMES, row, strict=True)}


def last_turn(connection: sqlite3.Connection, conversation: str) -> str:
    """The turn of a conversation that began last; empty where there was none."""
    query = "select turn from spent where conversation = ? order by begun desc limit 1"
    row = connection.execute(query, (conversation,)).fetchone()
    return str(row[0]) if row else ""


# ---- raising -------------------------------------------------------------------------------------------------------------


def raise_(connection: sqlite3.Connection, key: Key, amount: int, at: str, by: str) -> None:
    query = "insert into raised(per, name, window, metric, amount, at, by) values(?, ?, ?, ?, ?, ?, ?)"
    connection.execute(query, (*_row(key), amount, at, by))


def raised(connection: sqlite3.Connection, key: Key) -> int:
    """What persons added to a limit."""
    return int(connection.execute(f"select ifnull(sum(amount), 0) from raised where {_WHERE}", _row(key)).fetchone()[0])  # noqa: S608


def raise_growth(connection: sqlite3.Connection, conversation: str, amount: int, at: str, by: str) -> None:
    """By how much more the directory may grow in a conversation. It is no budget, and so nothing that turns reserve of."""
    query = "insert into raised(per, name, window, metric, amount, at, by) values(?, ?, '', 'disk', ?, ?, ?)"
    connection.execute(query, (Per.CONVERSATION.value, conversation, amount, at, by))


def growth_raised(connection: sqlite3.Connection, conversation: str) -> int:
    query = "select ifnull(sum(amount), 0) from raised where per = ? and name = ? and window = '' and metric = 'disk'"
    return int(connection.execute(query, (Per.CONVERSATION.value, conversation)).fetchone()[0])


# ---- reading ---------------------------------------------------------------------------------------------------------------

GROUPS = {
    "agent": "agent", "dir": "workspace", "day": "day", "model": "model", "conversation": "conversation", "host": "''",
}  # fmt: skip


def usage(connection: sqlite3.Connection, by: str, since: str = "") -> list[dict[str, Any]]:
    """Sums of what turns used, one row for each value of `by` and currency, the most recent first."""
    query = f"""select {GROUPS[by]} as name, currency, count(*), sum(wall), sum(tool_calls), sum(tokens), sum(cost),
        sum(reported_input), sum(reported_output), sum(reported_cost), sum(metered_input), sum(metered_output), sum(metered_cost),
        sum(estimated <> ''), sum(doubts <> ''), max(begun)
      from spent where begun >= ? group by name, currency order by max(begun) desc"""  # noqa: S608
    names = ("name", "currency", "turns", "wall", "tool_calls", "tokens", "cost", "reported_input", "reported_output",
             "reported_cost", "metered_input", "metered_output", "metered_cost", "estimated", "doubtful", "last")  # fmt: skip
    return [dict(zip(names, row, strict=True)) for row in connection.execute(query, (since,))]


# ---- inside --------------------------------------------------------------------------------------------------------------


def _row(key: Key) -> tuple[str, str, str, str]:
    scope, metric = key
    return scope.per.value, scope.name, scope.window, metric.value


def _reserved(connection: sqlite3.Connection, turn: str) -> list[tuple[Key, int]]:
    rows = connection.execute("select per, name, window, metric, amount from reservation where turn = ?", (turn,)).fetchall()
    return [((Scope(Per(per), name, window), Metric(metric)), amount) for per, name, window, metric, amount in rows]


def settled(connection: sqlite3.Connection, turn: str, amounts: Mapping[Key, int]) -> None:
    """What it used is added, what it reserved is free."""
    before = lines(connection, amounts)
    for key, line in settle(before, turn, amounts).items():
        _add(connection, key, "counted", line.used - before[key].used)
    connection.execute("delete from reservation where turn = ?", (turn,))


def _add(connection: sqlite3.Connection, key: Key, source: str, amount: int) -> None:
    query = """insert into ledger(per, name, window, metric, source, used) values(?, ?, ?, ?, ?, ?)
      on conflict do update set used = used + excluded.used"""
    connection.execute(query, (*_row(key), source, amount))


def _by_metric(said: Mapping[str, int | None]) -> dict[Metric, int]:
    found: dict[Metric, int] = {}
    for name, amount in said.items():
        if amount is not None:
            metric = Metric.COST if name == "cost" else Metric.TOKENS
            found[metric] = found.get(metric, 0) + amount
    return found
