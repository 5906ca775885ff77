"""Rows of the tables `tool` and `tool_server`: which tools of MCP servers are agreed to, and how they are; decides nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

_COLUMNS = "workspace, server, name, agreed, content, seen, now, state, at, by"
_SELECT = f"select {_COLUMNS} from tool "  # noqa: S608  constants


@dataclass(frozen=True, slots=True)
class Row:
    """`agreed`: the digest that was agreed to, with its `content`; "" for none. `seen`, `now`: as the server said it last, ""
    when it does not say it any more. `state`: of mcp/inventory.py. `by`: who agreed, "" for the first start."""

    workspace: str
    server: str
    name: str
    agreed: str
    content: str
    seen: str
    now: str
    state: str
    at: str
    by: str = ""


def started(connection: sqlite3.Connection, workspace: str, server: str) -> bool:
    """Whether the tools of this server were ever looked at here."""
    query = "select 1 from tool_server where workspace = ? and server = ?"
    return connection.execute(query, (workspace, server)).fetchone() is not None


def start(connection: sqlite3.Connection, workspace: str, server: str, at: str) -> None:
    connection.execute("insert or ignore into tool_server(workspace, server, at) values(?, ?, ?)", (workspace, server, at))


def put(connection: sqlite3.Connection, row: Row) -> None:
    query = f"insert or replace into tool({_COLUMNS}) values(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    said = (row.workspace, row.server, row.name, row.agreed, row.content, row.seen, row.now, row.state, row.at, row.by)
    connection.execute(query, said)


def listed(connection: sqlite3.Connection, workspace: str, server: str | None = None) -> list[Row]:
    """Those of a directory, or of one server of it, by name."""
    query = _SELECT + "where workspace = ?1 and (?2 is null or server = ?2) order by server, name"
    return [_row(found) for found in connection.execute(query, (workspace, server))]


def forget(connection: sqlite3.Connection, workspace: str, server: str | None = None) -> int:
    """What is agreed to at the next start counts again. The number of servers."""
    which = "where workspace = ?1 and (?2 is null or server = ?2)"
    connection.execute(f"delete from tool {which}", (workspace, server))  # noqa: S608  constants
    return connection.execute(f"delete from tool_server {which}", (workspace, server)).rowcount  # noqa: S608


def _row(found: Sequence[str]) -> Row:
    return Row(*found)
