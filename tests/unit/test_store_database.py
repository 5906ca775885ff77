"""The database: order, isolation of a failing change, limits, commits that fail."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from opagent.errors import Bug, StoreFailed
from opagent.store import database as module
from opagent.store.database import Database
from opagent.store.writer import StoreState
from tests.doubles.patience import PATIENCE

NOTE = "insert into trust values(?, 'd', 'allowed', 't', 'me', '')"
PATHS = "select path from trust order by rowid"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "opagent.db"


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[Database]:
    database = Database(path)
    database.start(asyncio.get_running_loop())
    try:
        yield database
    finally:
        await database.close()


def note(name: str) -> Any:
    return lambda connection: connection.execute(NOTE, (name,)).rowcount


def notes(database: Database) -> list[str]:
    return [row[0] for row in database.read(lambda connection: connection.execute(PATHS).fetchall())]


def held(database: Database) -> threading.Event:
    """Keeps the writer busy until the event is set, so that what is written meanwhile becomes one batch."""
    gate = threading.Event()
    database.write(lambda _: gate.wait(PATIENCE))
    return gate


def test_a_change_is_visible_to_readers_once_its_future_is_done(path: Path) -> None:
    async def scenario() -> None:
        async with opened(path) as database:
            gate = held(database)
            future = database.write(note("a"))
            assert notes(database) == []
            gate.set()
            assert await future == 1
            assert notes(database) == ["a"]

    asyncio.run(scenario())


def test_changes_are_made_in_the_order_of_the_calls(path: Path) -> None:
    async def scenario() -> None:
        async with opened(path) as database:
            names = [f"{number:04d}" for number in range(2000)]
            await asyncio.gather(*(database.write(note(name), barrier=name.endswith("7")) for name in names))
            assert notes(database) == names

    asyncio.run(scenario())


def test_a_change_that_raises_is_undone_alone(path: Path) -> None:
    def half(connection: sqlite3.Connection) -> None:
        connection.execute(NOTE, ("half",))
        raise LookupError("no")

    async def scenario() -> None:
        async with opened(path) as database:
            gate = held(database)
            futures = [database.write(change) for change in (note("a"), half, note("b"), note("a"), note("c"))]
            gate.set()
            results = await asyncio.gather(*futures, return_exceptions=True)
            assert [type(result) for result in results] == [int, LookupError, int, sqlite3.IntegrityError, int]
            assert notes(database) == ["a", "b", "c"]
            assert database.state is StoreState.WRITING

    asyncio.run(scenario())


def test_a_change_that_ends_the_transaction_fails_its_batch_and_the_next_goes_on(path: Path) -> None:
    async def scenario() -> None:
        async with opened(path) as database:
            with pytest.raises(StoreFailed, match="ended the transaction"):
                await database.write(lambda connection: connection.rollback())
            assert await database.write(note("after")) == 1

    asyncio.run(scenario())


def test_a_cancelled_future_does_not_undo_its_change(path: Path) -> None:
    async def scenario() -> None:
        async with opened(path) as database:
            gate = held(database)
            database.write(note("a")).cancel()
            gate.set()
            await database.write(note("b"))
            assert notes(database) == ["a", "b"]

    asyncio.run(scenario())


def test_only_a_batch_with_a_barrier_waits_for_the_disk(path: Path) -> None:
    def level(connection: sqlite3.Connection) -> int:
        return int(connection.execute("pragma synchronous").fetchone()[0])

    async def scenario() -> None:
        async with opened(path) as database:
            assert [await database.write(level, barrier=full) for full in (False, True, True, False)] == [1, 2, 2, 1]

    asyncio.run(scenario())


def test_what_waits_for_the_disk_is_limited_by_number_and_by_bytes(path: Path) -> None:
    async def scenario() -> None:
        async with opened(path) as database:
            gate = held(database)
            waiting = [database.write(lambda _: None) for _ in range(module.WAITING - 1)]
            assert database.waiting == module.WAITING
            with pytest.raises(StoreFailed, match="does not keep up"):
                await database.write(note("one too many"))
            gate.set()
            await asyncio.gather(*waiting)
            assert database.waiting == 0
            gate = held(database)
            large = database.write(note("large"), size=module.WAITING_BYTES)
            with pytest.raises(StoreFailed, match="does not keep up"):
                await database.write(note("one too many"))
            gate.set()
            await large
            assert await database.write(note("again")) == 1

    asyncio.run(scenario())


def test_close_commits_what_is_queued_and_leaves_one_file_behind(path: Path) -> None:
    async def scenario() -> None:
        database = Database(path)
        database.start(asyncio.get_running_loop())
        futures = [database.write(note(str(number))) for number in range(1000)]
        await database.close()
        assert all(future.done() and future.result() == 1 for future in futures)
        assert database.state is StoreState.CLOSED
        with pytest.raises(StoreFailed, match="closed"):
            await database.write(note("late"))
        await database.close()

    asyncio.run(scenario())
    assert sorted(each.name for each in path.parent.iterdir() if each.name.startswith("opagent.db-")) == []


def test_writing_before_the_start_is_a_mistake_of_ours(path: Path) -> None:
    database = Database(path)
    with pytest.raises(Bug):
        database.write(note("a"))
    asyncio.run(database.close())


class Faulty(sqlite3.Connection):
    """A connection whose commit does what `faults` says: "lost" undoes it, "kept" makes it, both then fail as a bad disk."""

    faults: list[str] = []

    def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
        if statement == "commit" and Faulty.faults:
            super().execute("rollback" if Faulty.faults.pop() == "lost" else "commit")
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
            raise error
        return super().execute(statement, *values)


@pytest.mark.parametrize("fault", ["lost", "kept"])
def test_a_failed_commit_acknowledges_nothing_and_the_next_one_goes_on(
    path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Faulty))

    async def scenario() -> None:
        async with opened(path) as database:
            Faulty.faults = [fault]
            with pytest.raises(StoreFailed, match="could not be written"):
                await database.write(note("a"), barrier=True)
            assert database.state is StoreState.WRITING
            assert await database.write(note("b")) == 1
            assert notes(database) == (["b"] if fault == "lost" else ["a", "b"])

    asyncio.run(scenario())


def test_two_failed_commits_in_a_row_end_writing_but_not_reading(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Faulty))

    async def scenario() -> None:
        async with opened(path) as database:
            await database.write(note("a"))
            Faulty.faults = ["lost", "lost"]
            for _ in range(2):
                with pytest.raises(StoreFailed):
                    await database.write(note("b"))
            assert database.state is StoreState.READ_ONLY and database.problem is not None
            with pytest.raises(StoreFailed, match="only be read"):
                await database.write(note("c"))
            assert notes(database) == ["a"]

    asyncio.run(scenario())


def test_readers_cannot_write(path: Path) -> None:
    async def scenario() -> None:
        async with opened(path) as database:
            with pytest.raises(StoreFailed):
                database.read(note("a"))

    asyncio.run(scenario())
