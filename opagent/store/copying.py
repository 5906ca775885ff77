"""A copy of the database as it is at one moment, while others go on writing; copies no contents that lie beside it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path

from opagent.store import chain


def renew(source: sqlite3.Connection, path: Path) -> int:
    """The same in the place of the last copy, once it is whole; a number of the journal that it holds. One at a time."""
    for left in path.parent.glob(f"*{path.name}?*"):  # of a daemon that was killed
        left.unlink()
    fresh, seq = path.with_name(f"{path.name}.new"), chain.last(source).seq
    copy(source, fresh)
    os.replace(fresh, path)
    return seq


def copy(source: sqlite3.Connection, path: Path) -> int:
    """By SQLite's own backup, in one read: its bytes. For a thread. Raises FileExistsError, OSError, sqlite3.Error.

    The name appears with the whole of it, for its owner alone, and never takes the place of another file.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    fd = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        with contextlib.closing(sqlite3.connect(temporary, isolation_level=None)) as target:
            source.backup(target)
            target.execute("pragma journal_mode=delete")  # one file that needs no other beside it
        os.fsync(fd)
        os.link(temporary, path)
        return os.fstat(fd).st_size
    finally:
        os.close(fd)
        temporary.unlink(missing_ok=True)
