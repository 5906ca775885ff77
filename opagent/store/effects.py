"""Rows of the table `effect`: where in the journal an effect stands and what became of it; used inside a change or a read.

The journal holds the evidence; this table is how the effects of a path, a turn, a tool call are found in it. pending -> done |
failed | unknown; `seen` is what nobody did through us, found after a turn.
"""

from __future__ import annotations

import enum
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from opagent.errors import NotFound

_SELECT = "select seq, kind, state, conversation, turn, agent, process, path, call, approval, at, ended from effect "


class State(enum.StrEnum):
    """What a record says of its effect."""

    PENDING = "pending"  # about to happen; it may have happened
    DONE = "done"
    FAILED = "failed"
    UNKNOWN = "unknown"  # nobody can say whether it happened: it is shown, and never done again by itself
    SEEN = "seen"  # a change that was found after a turn; who made it is not known
    DENIED = "denied"  # asked for, and not done


@dataclass(frozen=True, slots=True)
class Effect:
    """`seq`: of its first record in the journal, `ended`: of the one that says how it ended. `path`: absolute."""

    seq: int
    kind: str
    state: State
    conversation: str | None = None
    turn: str | None = None
    agent: str | None = None
    process: str | None = None  # of the agent, or of the command that it had run
    path: str | None = None
    call: str | None = None
    approval: str | None = None
    at: str = ""
    ended: int | None = None


def insert(connection: sqlite3.Connection, effect: Effect) -> None:
    columns = "seq, kind, state, conversation, turn, agent, process, path, call, approval, at"
    names = (effect.conversation, effect.turn, effect.agent, effect.process, effect.path, effect.call, effect.approval, effect.at)
    values = (effect.seq, effect.kind, effect.state.value, *names)
    connection.execute(f"insert into effect({columns}) values({', '.join('?' * len(values))})", values)


def end(connection: sqlite3.Connection, seq: int, state: State, ended: int) -> None:
    """What became of a pending one, said once: whoever comes later changes nothing."""
    query = "update effect set state = ?, ended = ? where seq = ? and state = 'pending'"
    connection.execute(query, (state.value, ended, seq))


def pending(connection: sqlite3.Connection) -> list[Effect]:
    return _effects(connection.execute(_SELECT + "where state = 'pending' order by seq"))


def unknown(connection: sqlite3.Connection, conversation: str, turn: str | None = None) -> list[Effect]:
    """Of a conversation, or of one turn of it."""
    where = "where state = 'unknown' and conversation = ?1 and (?2 is null or turn = ?2) order by seq"
    return _effects(connection.execute(_SELECT + where, (conversation, turn)))


def left_unknown(connection: sqlite3.Connection, conversation: str) -> int:
    """How many effects of the newest turn nobody knows the end of."""
    newest = "select id from turn where conversation = ?1 order by number desc limit 1"
    query = f"select count(*) from effect where conversation = ?1 and turn = ({newest}) and state = 'unknown'"  # noqa: S608
    return int(connection.execute(query, (conversation,)).fetchone()[0])


def of_path(connection: sqlite3.Connection, path: str, count: int) -> list[Effect]:
    """The last `count` effects on a file, newest first."""
    return _effects(connection.execute(_SELECT + "where path = ? order by id desc limit ?", (path, count)))


def of_turn(connection: sqlite3.Connection, conversation: str, turn: str) -> list[Effect]:
    return _effects(connection.execute(_SELECT + "where conversation = ? and turn = ? order by id", (conversation, turn)))


def at(connection: sqlite3.Connection, seq: int) -> Effect:
    """The one that a record of the journal begins or ends. Raises NotFound."""
    row = connection.execute(_SELECT + "where seq = ?1 or ended = ?1 order by id limit 1", (seq,)).fetchone()
    if row is None:
        raise NotFound(f"the record {seq} is none of an effect", hint="opagent audit")
    return _effects([row])[0]


def call(connection: sqlite3.Connection, ident: str) -> Effect | None:
    """The record of a call between agents, by its id; also of one that was refused."""
    found = _effects(connection.execute(_SELECT + "where kind = 'call.start' and call = ? order by id limit 1", (ident,)))
    return found[0] if found else None


def records_of(connection: sqlite3.Connection, conversation: str, before: str) -> list[int]:
    """The numbers of all records of a conversation's effects that began before a moment."""
    query = "select seq, ended from effect where conversation = ? and at < ?"
    return [seq for row in connection.execute(query, (conversation, before)) for seq in row if seq is not None]


def _effects(rows: Iterable[Sequence[object]]) -> list[Effect]:
    return [Effect(row[0], row[1], State(row[2]), *row[3:]) for row in rows]  # type: ignore[arg-type]
