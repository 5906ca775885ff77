"""Rows of the table `trust`, one per workspace, the last word counts; decides nothing (binding/trust.py does)."""

from __future__ import annotations

import sqlite3

from opagent.model import Trust, TrustRecord


def put(connection: sqlite3.Connection, record: TrustRecord) -> None:
    """Replace what was said about this path before; the journal keeps the history."""
    query = "insert or replace into trust(path, digest, state, at, by, shown) values(?, ?, ?, ?, ?, ?)"
    connection.execute(query, (record.path, record.digest, record.state.value, record.at, record.by, record.shown))


def get(connection: sqlite3.Connection, path: str) -> TrustRecord | None:
    """What was last said about a real path, or None."""
    row = connection.execute("select path, digest, state, at, by, shown from trust where path = ?", (path,)).fetchone()
    return _record(row) if row else None


def remove(connection: sqlite3.Connection, path: str) -> TrustRecord | None:
    """Forget a path; what was there, or None."""
    record = get(connection, path)
    connection.execute("delete from trust where path = ?", (path,))
    return record


def listed(connection: sqlite3.Connection) -> list[TrustRecord]:
    return [_record(row) for row in connection.execute("select path, digest, state, at, by, shown from trust order by path")]


def _record(row: tuple[str, str, str, str, str, str]) -> TrustRecord:
    path, digest, state, at, by, shown = row
    return TrustRecord(path, digest, Trust(state), at, by, shown)
