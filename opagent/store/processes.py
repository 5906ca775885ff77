"""Rows of the table `process`: what the next daemon needs to find and end what this one left; starts and ends nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from opagent.errors import Conflict, ProcessNotFound
from opagent.model import ConversationId, ProcessId, ProcessState

_SELECT = "select id, pid, started, boot, conversation, workspace, runtime, agent, state, since, restarts, reason from process "


@dataclass(frozen=True, slots=True)
class ProcessRecord:
    """A process is the same one only if `pid`, `started` (as psutil gives it) and `boot` (the kernel's boot id) agree."""

    id: ProcessId
    pid: int
    started: float
    boot: str
    conversation: ConversationId | None
    workspace: str
    runtime: str
    agent: str
    state: ProcessState
    since: str  # UTC: when this state began
    restarts: int = 0
    reason: str | None = None


def put(connection: sqlite3.Connection, record: ProcessRecord) -> None:
    """Insert, or replace the row with this id."""
    query = "insert or replace into process values(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    who = (record.id, record.pid, record.started, record.boot, record.conversation, record.workspace)
    how = (record.runtime, record.agent, record.state.value, record.since, record.restarts, record.reason)
    connection.execute(query, (*who, *how))


def move(connection: sqlite3.Connection, process: ProcessId, state: ProcessState, since: str, reason: str | None = None) -> None:
    """Raises ProcessNotFound."""
    query = "update process set state = ?, since = ?, reason = ? where id = ?"
    if connection.execute(query, (state.value, since, reason, process)).rowcount == 0:
        raise _missing(process)


def get(connection: sqlite3.Connection, process: ProcessId) -> ProcessRecord:
    """Raises ProcessNotFound."""
    row = connection.execute(_SELECT + "where id = ?", (process,)).fetchone()
    if row is None:
        raise _missing(process)
    return _record(row)


def find(connection: sqlite3.Connection, word: str) -> ProcessRecord:
    """By id, a unique beginning of it, or the agent's name among those that live. Raises ProcessNotFound, Conflict."""
    row = connection.execute(_SELECT + "where id = ?", (word,)).fetchone()
    if row is not None:
        return _record(row)
    present = live(connection)
    for found in (
        [each for each in present if word and each.id.startswith(word)],
        [each for each in present if each.agent == word],
    ):
        if len(found) == 1:
            return found[0]
        if found:
            raise Conflict(f"{word!r} fits several processes", ", ".join(each.id for each in found[:4]), "opagent ps")
    raise _missing(word)


def live(connection: sqlite3.Connection) -> list[ProcessRecord]:
    """All that are neither stopped nor failed."""
    return _records(connection.execute(_SELECT + "where state not in ('stopped', 'failed') order by rowid"))


def last_of(connection: sqlite3.Connection, conversation: ConversationId) -> ProcessRecord | None:
    """The newest process of a conversation."""
    rows = _records(connection.execute(_SELECT + "where conversation = ? order by rowid desc limit 1", (conversation,)))
    return rows[0] if rows else None


def listed(connection: sqlite3.Connection, limit: int = 1000) -> list[ProcessRecord]:
    """The newest `limit`, oldest first."""
    return _records(connection.execute(_SELECT + "order by rowid desc limit ?", (limit,)))[::-1]


def end_all(connection: sqlite3.Connection, at: str, reason: str) -> list[ProcessRecord]:
    """Mark what the last daemon left as stopped; the rows as they now are (the caller ends what still lives)."""
    left = live(connection)
    for record in left:
        move(connection, record.id, ProcessState.STOPPED, at, reason)
    return [replace(record, state=ProcessState.STOPPED, since=at, reason=reason) for record in left]


def forget_ended(connection: sqlite3.Connection, before: str, kept: int) -> int:
    """Delete rows that ended before a time, but for the newest `kept` of each conversation; how many."""
    query = """delete from process where state in ('stopped', 'failed') and since < ? and rowid in (select place from (
      select rowid as place, row_number() over (partition by conversation order by rowid desc) as age from process)
      where age > ?)"""
    return connection.execute(query, (before, kept)).rowcount


def ids(connection: sqlite3.Connection) -> frozenset[ProcessId]:
    """Of all rows."""
    return frozenset(ProcessId(row[0]) for row in connection.execute("select id from process"))


def _records(rows: Iterable[Sequence[Any]]) -> list[ProcessRecord]:
    return [_record(row) for row in rows]


def _record(row: Sequence[Any]) -> ProcessRecord:
    name, pid, started, boot, conversation, workspace, runtime, agent, state, since, restarts, reason = row
    owner = ConversationId(conversation) if conversation else None
    place = (workspace, runtime, agent)
    return ProcessRecord(ProcessId(name), pid, started, boot, owner, *place, ProcessState(state), since, restarts, reason)


def _missing(word: str) -> ProcessNotFound:
    return ProcessNotFound(f"there is no process {word}", hint="opagent ps --all")
