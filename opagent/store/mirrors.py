"""Rows of the table `mirror`: directories here that hold the conversation files of one on another machine."""

from __future__ import annotations

import sqlite3
from dataclasses import astuple, dataclass


@dataclass(frozen=True, slots=True)
class Mirrored:
    """`directory`: the real path here; `path`: there; `conversations`: of the directory here, where the files lie."""

    directory: str
    machine: str
    path: str
    conversations: str
    at: str


def put(connection: sqlite3.Connection, mirror: Mirrored) -> None:
    """New, or in the place of the one of that directory."""
    connection.execute("insert or replace into mirror values(?, ?, ?, ?, ?)", astuple(mirror))


def listed(connection: sqlite3.Connection) -> list[Mirrored]:
    query = "select directory, machine, path, conversations, at from mirror order by directory"
    return [Mirrored(*row) for row in connection.execute(query)]


def remove(connection: sqlite3.Connection, directory: str) -> bool:
    """Whether there was one."""
    return connection.execute("delete from mirror where directory = ?", (directory,)).rowcount > 0
