"""Rows of the table `turn`: functions of a connection, used inside a change or a read; the journal is not touched."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

from opagent.errors import Conflict, NotFound
from opagent.model import ConversationId, MessageId, Turn, TurnId, TurnState

_SELECT = (
    """select id, message, conversation, author, text, state, queued_at, ended_at, reason, usage, request, agent from turn """
)


def queue(connection: sqlite3.Connection, turn: Turn) -> Turn:
    """Store a new turn; when one of this conversation has the same `request` key already, that one is returned instead.

    So the same key twice is one turn: `queue(...) is turn` says whether it is new. Raises Conflict when the id is taken.
    """
    if turn.request is not None and (earlier := by_request(connection, turn.conversation, turn.request)):
        return earlier
    query = """insert into turn(
        id, message, conversation, author, text, state, queued_at, ended_at, reason, usage, request, agent)
      values(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
    first = (turn.id, turn.message, turn.conversation, turn.author, turn.text, turn.state.value)
    values = (*first, turn.queued_at, turn.ended_at, turn.reason, json.dumps(dict(turn.usage)), turn.request, turn.agent)
    try:
        connection.execute(query, values)
    except sqlite3.IntegrityError as error:
        raise Conflict(f"a turn {turn.id} exists already in {turn.conversation}") from error
    return turn


def update(connection: sqlite3.Connection, turn: Turn) -> None:
    """State, text, end, reason and usage. Raises NotFound; Conflict when the stored turn has ended already."""
    stored = get(connection, turn.conversation, turn.id)
    if stored.state.final and stored.state is not turn.state:
        raise Conflict(f"the turn {turn.id} has ended already", stored.state.value)
    query = "update turn set text=?, state=?, ended_at=?, reason=?, usage=? where conversation=? and id=?"
    usage = json.dumps(dict(turn.usage))
    connection.execute(query, (turn.text, turn.state.value, turn.ended_at, turn.reason, usage, turn.conversation, turn.id))


def get(connection: sqlite3.Connection, conversation: ConversationId, turn: TurnId) -> Turn:
    """Raises NotFound."""
    row = connection.execute(_SELECT + "where conversation = ? and id = ?", (conversation, turn)).fetchone()
    if row is None:
        raise NotFound(f"there is no turn {turn} in {conversation}", hint=f"opagent conversations show {conversation}")
    return _turn(row)


def find(connection: sqlite3.Connection, turn: str) -> Turn:
    """By id alone. Raises NotFound; Conflict when two conversations have it (a fork keeps the ids) and not just one is open."""
    found = [_turn(row) for row in connection.execute(_SELECT + "where id = ? order by number", (turn,))]
    if not found:
        raise NotFound(f"there is no turn {turn}", hint="opagent ps")
    unfinished = [each for each in found if not each.state.final]
    for candidates in (found, unfinished):
        if len(candidates) == 1:
            return candidates[0]
    raise Conflict(f"several conversations have a turn {turn}", ", ".join(each.conversation for each in found))


def by_request(connection: sqlite3.Connection, conversation: ConversationId, request: str) -> Turn | None:
    row = connection.execute(_SELECT + "where conversation = ? and request = ?", (conversation, request)).fetchone()
    return _turn(row) if row else None


def conversation_of(connection: sqlite3.Connection, request: str) -> ConversationId | None:
    """Where the turn of a request is, whatever its conversation."""
    row = connection.execute("select conversation from turn where request = ? limit 1", (request,)).fetchone()
    return ConversationId(row[0]) if row else None


def newest(connection: sqlite3.Connection, conversation: ConversationId, count: int) -> list[Turn]:
    """The last `count` turns of a conversation, oldest first."""
    query = _SELECT + "where conversation = ? order by number desc limit ?"
    return _turns(connection.execute(query, (conversation, count)))[::-1]


def total(connection: sqlite3.Connection, conversation: ConversationId) -> int:
    """How many turns a conversation has."""
    return int(connection.execute("select count(*) from turn where conversation = ?", (conversation,)).fetchone()[0])


def last_moment(connection: sqlite3.Connection) -> str:
    """When the last turn of all was queued or ended; empty when there was none."""
    return str(connection.execute("select max(ifnull(ended_at, queued_at)) from turn").fetchone()[0] or "")


def unfinished(connection: sqlite3.Connection, conversation: ConversationId | None = None) -> list[Turn]:
    """Queued, running and waiting turns, in the order in which they were queued."""
    where = "where state in ('queued', 'running', 'waiting') and (?1 is null or conversation = ?1) order by number"
    return _turns(connection.execute(_SELECT + where, (conversation,)))


def counts(connection: sqlite3.Connection) -> dict[str, int]:
    """Conversation -> number of its turns."""
    return dict(connection.execute("select conversation, count(*) from turn group by conversation").fetchall())


def _turns(rows: Iterable[Sequence[Any]]) -> list[Turn]:
    return [_turn(row) for row in rows]


def _turn(row: Sequence[Any]) -> Turn:
    name, message, conversation, author, text, state, queued_at, ended_at, reason, usage, request, agent = row
    return Turn(
        id=TurnId(name),
        message=MessageId(message),
        conversation=ConversationId(conversation),
        author=author,
        text=text,
        state=TurnState(state),
        queued_at=queued_at,
        ended_at=ended_at,
        reason=reason,
        usage=json.loads(usage),
        request=request,
        agent=agent,
    )
