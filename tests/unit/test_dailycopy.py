"""The daily copy of the database: once a day, whole, without what was purged, and a database that can be gone on with."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import stat
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from opagent import paths
from opagent.daemon import dailycopy
from opagent.errors import StoreFailed
from opagent.store import audit, copying
from opagent.store.blobs import Blobs
from opagent.store.database import Database
from opagent.store.events import AuditKind, Draft, Journal

DAY = 24 * 3600.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "opagent.db"


def lived(path: Path, rows: int, then: Callable[[Database, Journal], None]) -> None:
    """A daemon's database that gets some rows, and what happens in a thread beside it."""

    async def scenario() -> None:
        database = Database(path)
        journal = Journal(database, "host", "boot")
        database.start(asyncio.get_running_loop())
        try:
            for _ in range(rows):
                await journal.append(None, [Draft(AuditKind.DAEMON_START)], barrier=True)
            await asyncio.to_thread(then, database, journal)
        finally:
            await database.close()

    asyncio.run(scenario())


def length(copy: Path) -> int:
    """How many rows a copy has, which must be whole."""
    with closing(sqlite3.connect(f"file:{copy}?mode=ro&immutable=1", uri=True)) as db:
        assert db.execute("pragma integrity_check").fetchone() == ("ok",)
        found = audit.verify(db, Blobs(copy.parent / "cas"))
        assert found.broken is None
        return found.rows


def test_it_is_made_once_a_day_in_the_place_of_the_last(path: Path) -> None:
    copy = paths.database_copy(path)

    def first(database: Database, _: Journal) -> None:
        assert dailycopy.copied(database, time.time())
        assert not dailycopy.copied(database, time.time() + DAY - 60)

    lived(path, 3, first)
    assert length(copy) == 3 and stat.S_IMODE(copy.stat().st_mode) == 0o600
    (copy.parent / ".opagent.db.new.4711").write_bytes(b"of a daemon that was killed")
    lived(path, 2, lambda database, _: _true(dailycopy.copied(database, time.time() + DAY + 60)))
    assert length(copy) == 5 and [each.name for each in copy.parent.iterdir()] == [copy.name]


def _true(said: bool) -> None:
    assert said


def test_a_clock_that_went_back_does_not_end_it(path: Path) -> None:
    lived(path, 1, lambda database, _: _true(dailycopy.copied(database, time.time())))
    later = time.time() + 400 * DAY
    os.utime(paths.database_copy(path), (later, later))
    lived(path, 1, lambda database, _: _true(dailycopy.copied(database, time.time())))


def test_without_room_there_is_none(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dailycopy, "ROOM", 1e12)
    lived(path, 1, lambda database, _: _true(not dailycopy.copied(database, time.time())))
    assert not paths.database_copy(path).exists()


def test_what_is_purged_while_it_is_made_is_in_none(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    renew = copying.renew

    def slowly(journal: Journal, source: sqlite3.Connection, place: Path) -> int:
        seq = renew(source, place)
        asyncio.run_coroutine_threadsafe(_purge(journal), loops[-1]).result()
        return seq

    loops: list[asyncio.AbstractEventLoop] = []

    async def scenario() -> None:
        loops.append(asyncio.get_running_loop())
        database = Database(path)
        journal = Journal(database, "host", "boot")
        database.start(loops[-1])
        monkeypatch.setattr(copying, "renew", lambda source, place: slowly(journal, source, place))
        try:
            assert not await asyncio.to_thread(dailycopy.copied, database, time.time())
        finally:
            await database.close()

    asyncio.run(scenario())
    assert not list(paths.database_copy(path).parent.iterdir())


async def _purge(journal: Journal) -> None:
    await journal.append(None, [Draft(AuditKind.AUDIT_PURGE)], barrier=True)


def test_a_damaged_database_is_gone_on_with_from_the_copy_that_the_error_names(path: Path) -> None:
    lived(path, 3, lambda database, _: _true(dailycopy.copied(database, time.time())))
    lived(path, 4, lambda database, _: None)
    path.write_bytes(b"no database at all")
    with pytest.raises(StoreFailed, match="damaged") as caught:
        Database(path)
    copy = paths.database_copy(path)
    assert f"cp {copy} {path}" in caught.value.hint
    shutil.copy(copy, path)
    gaps: list[str | None] = []
    lived(path, 0, lambda database, _: gaps.append(database.gap))
    assert gaps == ["the journal ends at 3, it once reached 7"]
