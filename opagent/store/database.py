"""The one database of a host: asyncio in front, one writer thread behind, readers beside; knows no table but the journal's end.

A change is a function of the writing connection. What is queued is committed together; a future is done after the commit,
never before. Changes run in the order of `write`, also those of cancelled futures.
"""

from __future__ import annotations

import asyncio
import os
import queue
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from opagent import paths
from opagent.errors import Bug, StoreFailed
from opagent.model import Event
from opagent.store import opening
from opagent.store.blobs import Blobs
from opagent.store.chain import Chain
from opagent.store.writer import Committed, Pending, StoreState, Writer

T = TypeVar("T")

BATCH, BATCH_BYTES = 512, 2**20  # a batch is what is queued, at most this much; no timer
QUIET = 0.5  # seconds without a change after which the write-ahead log is folded into the file
WAITING, WAITING_BYTES = 65_536, 256 * 2**20  # what may wait for the disk before `write` refuses


class Database:
    """All methods belong to one thread, the event loop's; only what is said to runs in the writer thread."""

    def __init__(self, path: Path) -> None:
        """Opens, locks, migrates, checks. Raises StoreFailed and NotPrivate; a damaged file has then been moved aside."""
        opened = opening.open_database(path)
        self.path = path
        self.gap = opened.gap  # why the journal does not go on where it was last seen to end; the Journal records it
        self.blobs = Blobs(paths.database_blobs(path))
        self._lock = opened.lock
        self._check_later = opened.check_later
        self._writer = Writer(path, opened.connection, self.blobs)
        self._reader = opened.reader
        self._queue: queue.SimpleQueue[Pending | None] = queue.SimpleQueue()
        self._waiting = [0, 0]  # changes, bytes
        self._first: list[Callable[[sqlite3.Connection], object]] = []
        self._listeners: list[Callable[[list[Event]], None]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._threads: list[threading.Thread] = []
        self._closing = False

    @property
    def state(self) -> StoreState:
        return self._writer.state

    @property
    def problem(self) -> StoreFailed | None:
        """Why nothing is written at present, or None."""
        return self._writer.problem

    @property
    def chain(self) -> Chain:
        """The journal's end. For changes, in the writer thread; a new object after a failed commit."""
        return self._writer.chain

    @property
    def waiting(self) -> int:
        """Changes that are not committed yet: who produces many looks at it, `write` refuses above WAITING."""
        return self._waiting[0]

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._threads.append(threading.Thread(target=self._write_loop, name="store-writer", daemon=True))
        if self._check_later:
            self._threads.append(threading.Thread(target=self._check, name="store-check", daemon=True))
        for thread in self._threads:
            thread.start()
        for change in self._first:
            self.write(change, barrier=True)

    def write(self, change: Callable[[sqlite3.Connection], T], *, barrier: bool = False, size: int = 0) -> asyncio.Future[T]:
        """Run `change` in the next transaction, in the writer thread, in a savepoint of its own.

        The future gives what it returned once that is committed, what it raised when it was undone, StoreFailed when the disk
        refused. `barrier`: the transaction is on the disk (fsync) when the future is done. `size`: bytes, for the limits.
        `change` must not commit, roll back or swallow an error of a statement.
        """
        if self._loop is None:
            raise Bug("the database is not started")
        future: asyncio.Future[T] = self._loop.create_future()
        if self._closing:
            future.set_exception(StoreFailed("the database is closed", hint="opagent daemon status"))
        elif self._waiting[0] >= WAITING or self._waiting[1] >= WAITING_BYTES:
            future.set_exception(StoreFailed("the disk does not keep up", f"{self._waiting[0]} changes wait", "opagent doctor"))
        else:
            self._waiting[0] += 1
            self._waiting[1] += size
            self._queue.put(Pending(change, future, barrier, size))
        return future

    def read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """A short query on a connection that sees what is committed. Raises StoreFailed, and whatever `query` raises."""
        try:
            return query(self._reader)
        except sqlite3.DatabaseError as error:
            raise StoreFailed("the database cannot be read", str(error), "opagent doctor") from error

    def apart(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """A long query, for a thread: on a connection of its own that only reads. Raises StoreFailed, and what `query` raises."""
        try:
            connection = opening.connect_reader(self.path)
            try:
                return query(connection)
            finally:
                connection.close()
        except sqlite3.DatabaseError as error:
            raise StoreFailed("the database cannot be read", str(error), "opagent doctor") from error

    def listen(self, callback: Callable[[list[Event]], None]) -> None:
        """Called on the loop with the events of each committed batch, in journal order, before its futures are seen done."""
        self._listeners.append(callback)

    def first(self, change: Callable[[sqlite3.Connection], object]) -> None:
        """`change` is written as soon as there is a writer: before `start`, before anything else."""
        if self._loop is None:
            self._first.append(change)
        else:
            self.write(change, barrier=True)

    def on_full(self, record: Callable[[sqlite3.Connection], object]) -> None:
        """`record` runs in the writer thread when the disk is full, in a transaction that the freed ballast makes room for."""
        self._writer.on_full = record

    async def close(self) -> None:
        """Commit what is queued, then close. Calling it twice is harmless."""
        if self._closing:
            return
        self._closing = True
        self._queue.put(None)
        for thread in self._threads:
            await asyncio.to_thread(thread.join)
        await asyncio.sleep(0)  # outcomes of the last batch were scheduled before the thread ended
        self._reader.close()  # before the writer: the last one to close removes the WAL, and a reader cannot
        self._writer.close()
        os.close(self._lock)

    def _write_loop(self) -> None:
        ended = False
        while not ended and (first := self._next()) is not None:
            batch, size = [first], first.size
            while len(batch) < BATCH and size < BATCH_BYTES:
                try:
                    item = self._queue.get_nowait()
                except queue.Empty:
                    break
                if item is None:
                    ended = True
                    break
                batch.append(item)
                size += item.size
            self._commit(batch)

    def _next(self) -> Pending | None:
        """The next change; when none comes for a moment, the log of the database is folded in, so that no commit waits for it."""
        try:
            return self._queue.get(timeout=QUIET)
        except queue.Empty:
            self._writer.fold()
        return self._queue.get()

    def _commit(self, batch: list[Pending]) -> None:
        assert self._loop is not None
        try:
            done = self._writer.commit(batch)
        except Exception as error:  # the edge of the thread: a mistake of ours must not leave callers waiting for ever
            self._writer.give_up(error)
            done = self._writer.commit(batch)
        try:
            self._loop.call_soon_threadsafe(self._settle, done, len(batch), sum(item.size for item in batch))
        except RuntimeError:
            return  # the loop is closed: what was committed stays, nobody is left to hear of it

    def _settle(self, done: Committed, count: int, size: int) -> None:
        """On the loop, which is woken once: first come the listeners, then whoever waits for a future."""
        self._waiting[0] -= count
        self._waiting[1] -= size
        if done.events:
            for listener in self._listeners:
                asyncio.get_running_loop().call_soon(listener, done.events)
        for future, value, error in done.outcomes:
            if future.done():  # cancelled: whoever asked has gone, the change stays
                continue
            if error is None:
                future.set_result(value)
            else:
                future.set_exception(error)

    def _check(self) -> None:
        """After an unclean stop of a large database: quick_check beside the work."""
        try:
            connection = opening.connect_reader(self.path)
            try:
                connection.set_progress_handler(lambda: self._closing, 100_000)
                opening.check(connection)
            finally:
                connection.close()
        except sqlite3.DatabaseError as error:
            if opening.damaged(error):  # else: interrupted by `close`
                self._writer.give_up(error)
