"""One batch of changes as one transaction, and what follows when the disk refuses it; runs in the writer thread only."""

from __future__ import annotations

import asyncio
import enum
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from opagent import paths
from opagent.errors import Bug, StoreFailed
from opagent.model import Event
from opagent.store import chain, opening
from opagent.store.blobs import Blobs
from opagent.store.disk import Ballast

_FATAL = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_READONLY,
          sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_PROTOCOL)  # fmt: skip
_NOTED_ROWS, _NOTED_SECONDS = 1000, 60.0


class StoreState(enum.Enum):
    WRITING = "writing"
    DISK_FULL = "disk_full"  # nothing is written until there is room again, then it goes on by itself
    READ_ONLY = "read_only"  # until the next start
    CLOSED = "closed"


class Pending(NamedTuple):
    change: Callable[[sqlite3.Connection], Any]
    future: asyncio.Future[Any]
    barrier: bool
    size: int


class Outcome(NamedTuple):
    future: asyncio.Future[Any]
    value: Any
    error: BaseException | None


@dataclass(frozen=True, slots=True)
class Committed:
    """`events` are in the journal now, also when an error says that it is not sure how long they stay."""

    outcomes: list[Outcome]
    events: list[Event]


class Writer:
    """`on_full(connection)` runs in a transaction of its own when the disk is full and the ballast was freed."""

    def __init__(self, path: Path, connection: sqlite3.Connection, blobs: Blobs) -> None:
        self.state = StoreState.WRITING
        self.problem: StoreFailed | None = None
        self.on_full: Callable[[sqlite3.Connection], object] | None = None
        self.chain = chain.Chain(chain.last(connection), blobs)
        self._path = path
        self._blobs = blobs
        self._connection = connection
        self._full_sync = False
        self._failures = 0  # in a row
        self._noted = (-_NOTED_ROWS, 0.0)
        self._ballast = Ballast(paths.database_ballast(path))
        self._ballast.put()
        self._owed = False  # the journal does not say yet that the disk was full

    def commit(self, batch: Sequence[Pending]) -> Committed:
        """All of the batch or nothing of it, but for changes that raise: each of those is undone alone."""
        if self.state is StoreState.DISK_FULL and self._ballast.put():
            self.state, self.problem = StoreState.WRITING, None
            if self._owed:
                self._record_full()
        if self.state is not StoreState.WRITING:
            return self._refuse(batch)
        before = self.chain.head
        try:
            self._synchronous(any(item.barrier for item in batch))
            self._connection.execute("begin immediate")
            outcomes = [self._run(item) for item in batch]
            self._connection.execute("commit")
        except sqlite3.Error as error:
            return self._after_failure(batch, before, error)
        self._failures = 0
        events, self.chain.fresh = self.chain.fresh, []
        self._note()
        return Committed(outcomes, events)

    def fold(self) -> None:
        """A checkpoint while nobody waits; one in the middle of a stream holds up every commit for 10 to 100 ms."""
        try:
            self._connection.execute("pragma wal_checkpoint(passive)")
        except sqlite3.Error:
            return  # the next commit finds out, and knows what to do

    def close(self) -> None:
        """The last connection that closes checkpoints and removes the WAL: the sign of a clean stop."""
        opening.note_head(self._path, self.chain.head)
        self._connection.close()
        self.state = StoreState.CLOSED

    def give_up(self, error: Exception) -> None:
        """From here on nothing is written; reading goes on."""
        self.state = StoreState.READ_ONLY
        self.problem = StoreFailed(
            "the database can only be read", f"writing failed: {error}", "opagent daemon stop, then look at the disk"
        )

    def _run(self, item: Pending) -> Outcome:
        mark = self.chain.mark()
        self._connection.execute("savepoint change")
        try:
            value = item.change(self._connection)
            if not self._connection.in_transaction:
                raise Bug("a change ended the transaction of its batch")
        except Exception as error:  # whatever a change raises is its caller's: the others of the batch go on
            if _fatal(error) or not self._connection.in_transaction:
                raise error if isinstance(error, sqlite3.Error) else sqlite3.OperationalError(str(error)) from error
            self._connection.execute("rollback to change")
            self._connection.execute("release change")
            self.chain.back(mark)
            return Outcome(item.future, None, error)
        self._connection.execute("release change")
        return Outcome(item.future, value, None)

    def _synchronous(self, full: bool) -> None:
        if full != self._full_sync:  # takes effect between transactions only
            self._connection.execute(f"pragma synchronous={'full' if full else 'normal'}")
            self._full_sync = full

    def _note(self) -> None:
        rows, when = self._noted
        now = time.monotonic()
        if self.chain.head.seq - rows >= _NOTED_ROWS or (now - when >= _NOTED_SECONDS and self.chain.head.seq != rows):
            opening.note_head(self._path, self.chain.head)
            self._noted = (self.chain.head.seq, now)

    def _refuse(self, batch: Sequence[Pending]) -> Committed:
        problem = self.problem or StoreFailed("the database is closed")
        return Committed([Outcome(item.future, None, problem) for item in batch], [])

    def _after_failure(self, batch: Sequence[Pending], before: chain.Head, error: sqlite3.Error) -> Committed:
        """Nothing is acknowledged. A handle is never used again after a failed fsync: open anew and see what is there."""
        after, fresh = self.chain.head, self.chain.fresh
        self._failures += 1
        full = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL
        if full:
            self._ballast.drop()
        try:
            self._reopen()
        except sqlite3.Error as second:
            self.give_up(second)
            return self._refuse(batch)
        survived = self.chain.head == after != before
        if self.chain.head not in (before, after) or (self._failures > 1 and not full):
            self.give_up(error)
        elif full:
            self._disk_full()
        problem = self.problem or StoreFailed("the database could not be written", str(error), "try again")
        return Committed([Outcome(item.future, None, problem) for item in batch], fresh if survived else [])

    def _reopen(self) -> None:
        self._connection.close()
        self._connection = opening.connect(self._path)
        self._full_sync = False
        self.chain = chain.Chain(chain.last(self._connection), self._blobs)

    def _disk_full(self) -> None:
        self.state = StoreState.DISK_FULL
        self.problem = StoreFailed(
            "the disk is full", f"nothing can be stored in {self._path.parent}", f"df -h {self._path.parent}"
        )
        self._record_full()

    def _record_full(self) -> None:
        """In the room that the ballast had; where even that is not enough it is owed until there is room again."""
        if self.on_full is None:
            return
        try:
            self._synchronous(True)
            self._connection.execute("begin immediate")
            self.on_full(self._connection)
            self._connection.execute("commit")
            self._owed = False
        except sqlite3.Error:
            self._owed = True
            if self._connection.in_transaction:
                self._connection.execute("rollback")
            self.chain = chain.Chain(chain.last(self._connection), self._blobs)


def _fatal(error: Exception) -> bool:
    """Errors of the disk, not of the change: SQLite may have rolled the whole transaction back already."""
    return isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) & 0xFF in _FATAL
