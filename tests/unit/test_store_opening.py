"""Opening the database: who may, which file systems, migration, damage."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from opagent import mounts
from opagent.errors import NotPrivate, StoreFailed
from opagent.store import migrations, opening
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


def test_everything_is_for_the_owner_alone(path: Path) -> None:
    async def scenario() -> None:
        async with opened(path) as database:
            await database.write(note("a"))
            modes = {each.name: stat.S_IMODE(each.lstat().st_mode) for each in path.parent.iterdir()}
            assert modes.keys() >= {"opagent.db", "opagent.db-wal", "opagent.db-shm", "opagent.db.lock", "opagent.db.ballast"}
            assert set(modes.values()) == {0o600}

    before = os.umask(0)
    try:
        asyncio.run(scenario())
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_directory_that_others_can_enter_is_refused(path: Path) -> None:
    path.parent.mkdir(mode=0o755)
    path.parent.chmod(0o755)
    with pytest.raises(NotPrivate):
        Database(path)


def test_a_link_in_the_place_of_the_database_is_refused(path: Path, tmp_path: Path) -> None:
    path.parent.mkdir(mode=0o700)
    path.symlink_to(tmp_path / "elsewhere.db")
    with pytest.raises(StoreFailed, match="not a file of ours"):
        Database(path)
    assert not (tmp_path / "elsewhere.db").exists()


def test_a_second_process_is_refused_and_told_who_holds_it(path: Path) -> None:
    program = "import sys\nfrom pathlib import Path\nfrom opagent.store.database import Database\nDatabase(Path(sys.argv[1]))"

    def second() -> str:
        return subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, timeout=PATIENCE).stderr

    database = Database(path)
    try:
        assert "another process uses the database" in (said := second()) and f"its pid is {os.getpid()}" in said
        with pytest.raises(StoreFailed, match="another process"):
            Database(path)
    finally:
        asyncio.run(database.close())
    assert second() == ""


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs", "gpfs"])
def test_a_shared_file_system_is_refused_and_the_setting_named(path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(mounts, "file_system", lambda _: kind)
    with pytest.raises(StoreFailed, match=f"lies on {kind}") as caught:
        Database(path)
    assert "OPAGENT_STATE_DIR" in caught.value.hint


def test_migrations_go_on_from_every_earlier_version() -> None:
    steps = (*migrations.STEPS, ("create table later(x text) strict",))
    for present in range(len(steps) + 1):
        connection = sqlite3.connect(":memory:", isolation_level=None)
        migrations.migrate(connection, steps[:present])
        migrations.migrate(connection, steps)
        migrations.migrate(connection, steps)
        assert migrations.version(connection) == len(steps)
        connection.close()


def test_a_step_that_fails_leaves_the_version_before_it() -> None:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    steps = (("create table one(x)",), ("create table two(x)", "create table one(x)"))
    with pytest.raises(sqlite3.OperationalError):
        migrations.migrate(connection, steps)
    assert migrations.version(connection) == 1
    assert [row[0] for row in connection.execute("select name from sqlite_schema")] == ["one"]
    migrations.migrate(connection, (steps[0], ("create table two(x)",)))
    assert migrations.version(connection) == 2
    connection.close()


def test_a_database_of_a_newer_version_is_refused_and_left_alone(path: Path) -> None:
    asyncio.run(Database(path).close())
    with sqlite3.connect(path) as connection:
        connection.execute("pragma user_version=99")
    connection.close()
    with pytest.raises(StoreFailed, match="newer") as caught:
        Database(path)
    assert "upgrade" in caught.value.hint
    assert path.exists() and not list(path.parent.glob("*damaged*"))


def test_the_database_of_another_program_is_refused_and_left_alone(path: Path) -> None:
    path.parent.mkdir(mode=0o700)
    with sqlite3.connect(path) as connection:
        connection.execute("create table theirs(x)")
    connection.close()
    with pytest.raises(StoreFailed, match="another program"):
        Database(path)
    assert path.exists()


def filled(path: Path, rows: int = 2000) -> None:
    async def scenario() -> None:
        async with opened(path) as database:
            await asyncio.gather(*(database.write(note(f"{number:060d}")) for number in range(rows)))

    asyncio.run(scenario())


def kept_aside(path: Path) -> list[Path]:
    return list(path.parent.glob("opagent.db.damaged-*"))


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)
    path.with_name(path.name + "-wal").write_bytes(b"left by a crash")


def flip_header(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"no database at all")


def flip_page(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2 // 4096 * 4096)
        file.write(os.urandom(4096))
    path.with_name(path.name + "-wal").write_bytes(b"left by a crash")


@pytest.mark.parametrize("harm", [truncate, flip_header, flip_page])
def test_a_damaged_database_is_kept_aside_and_the_next_start_is_new(path: Path, harm: Any) -> None:
    filled(path)
    harm(path)
    with pytest.raises(StoreFailed, match="damaged") as caught:
        Database(path)
    (kept, *_) = kept_aside(path)
    assert str(path.parent) in caught.value.why and caught.value.hint
    assert kept.stat().st_size > 0 and not path.exists()
    filled(path, 3)


def test_an_emptied_database_is_damage_when_rows_were_there(path: Path) -> None:
    filled(path)
    opening.note_head(path, opening.chain.Head(7, bytes(32)))
    os.truncate(path, 0)
    with pytest.raises(StoreFailed, match="the file is empty"):
        Database(path)


def test_a_file_that_was_never_filled_is_a_new_database(path: Path) -> None:
    path.parent.mkdir(mode=0o700)
    path.touch(0o600)
    filled(path, 1)


def test_after_an_unclean_stop_a_large_database_is_checked_beside_the_work(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(path)
    flip_page(path)
    monkeypatch.setattr(opening, "QUICK", 0)

    async def scenario() -> None:
        async with opened(path) as database:
            with pytest.raises(StoreFailed, match="only be read"):
                async with asyncio.timeout(PATIENCE):
                    while await database.write(lambda _: True):
                        pass
            assert database.state is StoreState.READ_ONLY

    asyncio.run(scenario())
