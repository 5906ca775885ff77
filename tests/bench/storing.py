"""What is kept: rows of the journal against bare SQLite, versions of a conversation file against a bare rename."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Iterator
from datetime import UTC
from pathlib import Path

from opagent.document import edit
from opagent.model import ConversationId, Kind, TurnId
from opagent.store.database import Database
from opagent.store.events import Draft, Journal
from opagent.watch import exchange
from opagent.watch.settled import locate, settled_read
from tests.bench.place import Place
from tests.bench.rows import Row, Target, compared, interleaved
from tests.bench.sizes import Sizes

_BATCH = 500
_TEXT = "y" * 1000
_CONVERSATION = ConversationId("bench")
_HEADER = {"conversation": "bnch-journal", "agent": "echo", "created": "2026-01-01T00:00:00Z"}


def journal(place: Place, sizes: Sizes) -> Iterator[Row]:
    """Events of 1 kB committed a second, and milliseconds of a barrier (on the disk when it returns)."""
    bare = sqlite3.connect(place.folder / "bare.db", isolation_level=None)
    bare.execute("pragma journal_mode=wal")
    bare.execute("create table row(seq integer primary key, body blob not null)")

    def plain(full: bool) -> float:
        bare.execute(f"pragma synchronous={'full' if full else 'normal'}")
        began = time.perf_counter()
        for start in range(0, 1 if full else sizes.appends, _BATCH):
            bare.execute("begin immediate")
            count = 1 if full else min(_BATCH, sizes.appends - start)
            bare.executemany("insert into row(body) values(?)", [(_TEXT.encode(),)] * count)
            bare.execute("commit")
        took = time.perf_counter() - began
        return took * 1000 if full else sizes.appends / took

    with asyncio.Runner() as runner:
        database = Database(place.folder / "journal.db")
        database.start(runner.get_loop())
        events = Journal(database, "bench", "boot")
        try:
            pair = interleaved(sizes.times, lambda: runner.run(_appended(events, sizes.appends)), lambda: plain(False))
            yield compared("journal, 1 kB events", "bare SQLite, WAL", "events/s", pair)
            pair = interleaved(sizes.times * 3, lambda: runner.run(_barrier(events)), lambda: plain(True))
            yield compared("journal, one barrier", "bare SQLite, full sync", "ms", pair)
        finally:
            runner.run(database.close())
            bare.close()


async def _appended(journal: Journal, count: int) -> float:
    drafts = [Draft(Kind.TEXT, TurnId("turn"), {"text": _TEXT})] * _BATCH
    began = time.perf_counter()
    pending = [journal.append(_CONVERSATION, drafts[: min(_BATCH, count - at)]) for at in range(0, count, _BATCH)]
    await asyncio.gather(*pending)
    return count / (time.perf_counter() - began)


async def _barrier(journal: Journal) -> float:
    began = time.perf_counter()
    await journal.append(_CONVERSATION, [Draft(Kind.TEXT, TurnId("turn"), {"text": _TEXT})], barrier=True)
    return (time.perf_counter() - began) * 1000


def files(place: Place, sizes: Sizes) -> Iterator[Row]:
    """One more version of a conversation file: exchanged, exchanged and synced, and read, changed and exchanged."""
    for size, name in ((100_000, "100 kB"), (1_000_000, "1 MB"), (10_000_000, "10 MB")):
        path = place.workspace / f"bench-{size}.md"
        path.write_bytes(_conversation(size))
        with asyncio.Runner() as runner:

            def swapped(sync: bool, runner: asyncio.Runner = runner, path: Path = path) -> float:
                return runner.run(_exchanged(place, path, sync))

            def edited(runner: asyncio.Runner = runner, path: Path = path) -> float:
                return runner.run(_edited(place, path))

            def renamed(sync: bool, path: Path = path) -> float:
                return _renamed(path.with_suffix(".bare"), path.read_bytes(), sync)

            pair = interleaved(sizes.times * 3, lambda: swapped(False), lambda: renamed(False))
            yield compared(f"exchange, {name}", "write and rename", "ms", pair, Target(2) if size >= 1_000_000 else None)
            pair = interleaved(sizes.times, lambda: swapped(True), lambda: renamed(True))
            yield compared(f"exchange and sync, {name}", "write, fdatasync, rename", "ms", pair)
            pair = interleaved(sizes.times, edited, lambda: renamed(False))
            yield compared(f"read, put a reply, exchange, {name}", "write and rename", "ms", pair)


def _conversation(size: int) -> bytes:
    """A file of about `size` bytes with a turn for every 2 kB."""
    document = edit.new(_HEADER, "bench", UTC)
    tail: list[edit.Document] = []
    for number in range(size // 2000):
        ours = edit.new(_HEADER, "bench", UTC).begin(_opening(number)).put(f"r{number:04}", _body(), ("done",))
        tail.append(ours)
    turns = tuple(region for each in tail for region in each.regions[1:-1])
    return edit.Document(document.tag, (document.regions[0], *turns, document.regions[-1])).content()


def _opening(number: int) -> edit.Opening:
    at = "2026-01-01T00:00:00Z"
    return edit.Opening(f"m{number:04}", f"r{number:04}", "bench", "A question.", "echo", at, at)


def _body(more: str = "") -> str:
    return "An answer of some lines, with words in it and no end.\n" * 33 + more


async def _exchanged(place: Place, path: Path, sync: bool) -> float:
    there = locate(place.workspace, path)
    before = path.read_bytes()
    after = before[:-1] if before.endswith(b"\n\n") else before + b"\n"
    began = time.perf_counter()
    outcome = await exchange.write_version(there, after, before, sync=sync)
    took = time.perf_counter() - began
    assert outcome.written, outcome
    return took * 1000


async def _edited(place: Place, path: Path) -> float:
    """What the daemon does each time it writes."""
    there = locate(place.workspace, path)
    began = time.perf_counter()
    content = (await settled_read(there)).content
    document = edit.load(content, UTC, "bnch")
    last = [region.id for region in document.regions if region.id.startswith("r")][-1]
    changed = document.put(last, _body(f"{time.monotonic_ns()}\n"), ("running",)).version(len(content))
    outcome = await exchange.write_version(there, changed, content)
    took = time.perf_counter() - began
    assert outcome.written, outcome
    return took * 1000


def _renamed(path: Path, content: bytes, sync: bool) -> float:
    temporary = path.with_suffix(".new")
    began = time.perf_counter()
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.write(fd, content)
    if sync:
        os.fdatasync(fd)
    os.close(fd)
    temporary.rename(path)
    return (time.perf_counter() - began) * 1000
