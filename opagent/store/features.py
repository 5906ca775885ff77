"""What the SQLite of this Python can do; opens no file."""

from __future__ import annotations

import sqlite3
from contextlib import closing


def full_text() -> str:
    """The reason why there is no full-text search here, "" when there is."""
    try:
        with closing(sqlite3.connect(":memory:")) as database:
            database.execute("create virtual table t using fts5(a)")
    except sqlite3.Error as error:
        return str(error)
    return ""


def version() -> str:
    return sqlite3.sqlite_version
