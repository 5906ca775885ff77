"""The store against kill -9, a full disk and a disk that refuses; real processes, real files.

Run as a program this file is what gets killed: see `main`.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import resource
import select
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from opagent.errors import StoreFailed
from opagent.model import ConversationId, Event, Kind, MessageId, Turn, TurnId, TurnState
from opagent.store import audit, opening, turns
from opagent.store.blobs import Blobs
from opagent.store.database import Database
from opagent.store.events import Draft, Journal
from opagent.store.writer import StoreState
from tests.doubles.patience import PATIENCE
from tests.doubles.steps import steps

KILLS = 100


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[Journal]:
    database = Database(path)
    journal = Journal(database, "host", "boot")
    database.start(asyncio.get_running_loop())
    try:
        yield journal
    finally:
        await database.close()


def draft(token: str, size: int = 400) -> Draft:
    return Draft(Kind.TEXT, body={"token": token, "text": "x" * size})


async def endless(path: Path, round_number: int, begun: int) -> None:
    """Six conversations append as fast as they can; what was acknowledged goes to stdout, one JSON line each; then to `begun`."""
    async with opened(path) as journal:

        async def conversation(name: str) -> None:
            chance = random.Random(f"{round_number}{name}")
            for number in range(1_000_000):
                token = f"{round_number}-{name}-{number}"
                turn = Turn(
                    TurnId(token), MessageId("u"), ConversationId(name), "human:0", "", TurnState.QUEUED, "t", request=token
                )
                drafts = [draft(token, chance.randrange(300_000) if chance.random() < 0.01 else 400)]
                drafts *= chance.choice((1, 1, 1, 20))
                barrier = chance.random() < 0.05
                events = await journal.append(
                    turn.conversation, drafts, barrier=barrier, also=lambda db, turn=turn: queue(db, turn)
                )
                os.write(1, json.dumps([name, events[0].seq, events[-1].seq, token]).encode() + b"\n")
                if not number:
                    os.write(begun, b"!")

        await asyncio.gather(*(conversation(f"c{number}") for number in range(6)))


def queue(connection: Any, turn: Turn) -> None:
    turns.queue(connection, turn)


def nursery(path: Path) -> None:
    """Forks the writer again and again (an interpreter's start would take most of the time) and kills it at any moment."""
    chance = random.Random()
    reading, writing = os.pipe()
    for number in range(KILLS):
        child = os.fork()
        if not child:
            asyncio.run(endless(path, number, writing))
        if number % 10:  # the others are killed while they open and recover
            assert select.select([reading], [], [], PATIENCE)[0], "nothing was written"
        time.sleep(chance.uniform(0, 0.03))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if os.waitstatus_to_exitcode(status) != -signal.SIGKILL:
            raise SystemExit(f"round {number}: the writer ended by itself")
        if select.select([reading], [], [], 0)[0]:
            os.read(reading, 100)


def test_a_hundred_kills_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "state" / "opagent.db"
    done = run("nursery", path)
    assert done.returncode == 0, done.stderr
    acknowledged = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(acknowledged) >= KILLS // 10 * 9

    async def scenario() -> None:
        async with opened(path) as journal:
            found = {f"c{number}": journal.after(ConversationId(f"c{number}"), 0, 1_000_000) for number in range(6)}
            rows = journal._database.read(turns.unfinished)
        for name, events in found.items():
            assert [event.seq for event in events] == list(range(1, len(events) + 1)), "no hole, nothing twice"
            for mine, first, last, token in acknowledged:
                if mine == name:
                    assert {event.body["token"] for event in events[first - 1 : last]} == {token}
        tokens = {event.body["token"] for events in found.values() for event in events}
        assert Counter(turn.id for turn in rows) == Counter(tokens), "turn and events came together or not at all"

    asyncio.run(scenario())
    connection = opening.connect_reader(path)
    assert audit.verify(connection, Blobs(path.with_name("cas"))).broken is None
    connection.close()


async def fill(path: Path) -> None:
    """On a tiny disk: append until it is full, make room, go on. Prints what a person would want to know."""
    accepted: list[Event] = []
    hog = path.with_name("hog")

    async def until_refused(journal: Journal) -> StoreFailed:
        while True:
            try:
                accepted.extend(await journal.append(ConversationId("c"), [draft("t", 20_000)], barrier=True))
            except StoreFailed as error:
                return error

    async with opened(path) as journal:
        hog.write_bytes(bytes(4 * 2**20))
        error = await until_refused(journal)
        state = journal._database.state
        again = await until_refused(journal)
        assert journal._database.state is state is StoreState.DISK_FULL, state
        hog.unlink()
        accepted.extend(await journal.append(ConversationId("c"), [draft("room again")]))
        assert journal._database.state is StoreState.WRITING and journal._database.problem is None
        assert journal.after(ConversationId("c"), 0, 10_000) == accepted
        query = "select json_extract(cast(head as text), '$.error') from journal where kind = 'limit.hit'"
        recorded = journal._database.read(lambda connection: connection.execute(query).fetchall())
        assert audit.verify(journal._database._reader, journal._database.blobs).broken is None
    said = {"error": str(error), "again": str(again), "hint": error.hint, "accepted": len(accepted), "recorded": recorded}
    print(json.dumps(said))


def test_a_full_disk_is_said_recorded_and_left_behind(tmp_path: Path) -> None:
    place = tmp_path / "small"
    place.mkdir(mode=0o700)
    mount = 'mount -t tmpfs -o size=12m,mode=700 tmpfs "$1" && shift && exec "$@"'
    command = ["unshare", "-Urm", "sh", "-c", mount, "sh", place]
    done = run("fill", place / "state" / "opagent.db", before=command)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert "the disk is full" in said["error"] == said["again"] and said["hint"].startswith("df -h")
    assert said["accepted"] > 50
    assert said["recorded"] == [["disk_full"]], "once, from the ballast"


async def refuse(path: Path) -> None:
    """The kernel refuses every byte beyond a limit (EFBIG: to SQLite a disk error, not a full disk)."""
    async with opened(path) as journal:
        first = await journal.append(ConversationId("c"), [draft("before")])
        size = path.with_name(path.name + "-wal").stat().st_size
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        for attempt in range(2):
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
            await expect_failure(journal, "could not be written")
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
            assert journal._database.state is StoreState.WRITING
            first += await journal.append(ConversationId("c"), [draft(f"went on {attempt}")])
            size = path.with_name(path.name + "-wal").stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        await expect_failure(journal, "could not be written")
        await expect_failure(journal, "only be read")
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        await expect_failure(journal, "only be read")
        assert journal._database.state is StoreState.READ_ONLY
        assert journal.after(ConversationId("c"), 0) == first
        assert [event.seq for event in first] == [1, 2, 3]


async def expect_failure(journal: Journal, words: str) -> None:
    try:
        await journal.append(ConversationId("c"), [draft("refused")], barrier=True)
    except StoreFailed as error:
        assert words in str(error), error
    else:
        raise AssertionError("it was acknowledged")


def test_a_disk_that_refuses_once_is_survived_and_twice_ends_writing(tmp_path: Path) -> None:
    done = run("refuse", tmp_path / "state" / "opagent.db")
    assert done.returncode == 0, done.stderr


def test_a_start_after_a_kill_looks_at_the_end_only(tmp_path: Path) -> None:
    """20,000 events, most of them in a WAL that the kill left behind, cost it no more steps than 1,000."""
    cost = []
    for what in ("some", "many"):
        path = tmp_path / what / "opagent.db"
        done = run(what, path)
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert path.with_name(path.name + "-wal").stat().st_size > 2**17
        database: list[Database] = []
        cost.append(steps(lambda path=path, database=database: database.append(Database(path))))  # type: ignore[misc]
        asyncio.run(database[0].close())
    assert cost[1] < 1.2 * cost[0]


async def some(path: Path, thousands: int = 1) -> None:
    async with opened(path) as journal:
        for _ in range(thousands):
            await journal.append(ConversationId("c"), [draft("t")] * 1000)
        os.kill(os.getpid(), signal.SIGKILL)


async def many(path: Path) -> None:
    await some(path, 20)


def run(what: str, path: Path, before: list[Any] | None = None) -> subprocess.CompletedProcess[str]:
    command = [*(before or []), sys.executable, __file__, what, path]
    return subprocess.run(command, capture_output=True, text=True, timeout=4 * PATIENCE)


def main(what: str, path: str) -> None:
    if what == "nursery":
        nursery(Path(path))
        return
    parts: dict[str, Callable[[Path], Any]] = {"fill": fill, "refuse": refuse, "some": some, "many": many}
    asyncio.run(parts[what](Path(path)))


if __name__ == "__main__":
    main(*sys.argv[1:])
