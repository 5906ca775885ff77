"""The journal: numbers, atomic appends, listeners, large and odd bodies, purging, the chain under any sequence of these."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from opagent.errors import Bug, StoreFailed
from opagent.model import ConversationId, Event, Kind, TurnId
from opagent.store import audit, chain, opening, trust
from opagent.store.blobs import LARGE, Blobs
from opagent.store.database import Database
from opagent.store.events import AuditKind, Draft, Journal, timestamp
from tests.doubles.patience import PATIENCE

A, B = ConversationId("aaaa-000001"), ConversationId("bbbb-000002")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "opagent.db"


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[Journal]:
    database = Database(path)
    journal = Journal(database, "gpu1", "boot-7", clock=lambda: "2026-11-20T09:14:00.123Z")
    database.start(asyncio.get_running_loop())
    try:
        yield journal
    finally:
        await database.close()


def text(words: str, turn: str | None = None) -> Draft:
    return Draft(Kind.TEXT, TurnId(turn) if turn else None, {"text": words}, {"agent": "writer"})


def words(events: list[Event]) -> list[str]:
    return [event.body["text"] for event in events]


def verified(path: Path) -> audit.Verified:
    connection = opening.connect_reader(path)
    try:
        return audit.verify(connection, Blobs(path.with_name("cas")))
    finally:
        connection.close()


def test_time_is_utc_with_milliseconds() -> None:
    assert len(timestamp()) == 24 and timestamp().endswith("Z") and timestamp() <= timestamp()


def test_events_are_numbered_per_conversation_and_over_all(path: Path) -> None:
    async def scenario() -> None:
        async with opened(path) as journal:
            first = await journal.append(A, [text("a1", "a0001"), text("a2")])
            second = await journal.append(B, [text("b1")], barrier=True)
            third = await journal.append(A, [text("a3")])
            assert [(event.seq, event.journal) for event in (*first, *second, *third)] == [(1, 1), (2, 2), (1, 3), (3, 4)]
            assert first[0] == Event(A, 1, 1, TurnId("a0001"), Kind.TEXT, "2026-11-20T09:14:00.123Z", {"text": "a1"})
            assert journal.after(A, 0) == [*first, *third]
            assert journal.after(A, 1, limit=1) == [first[1]]
            assert journal.after_any(1, limit=2) == [first[1], *second]
            assert journal.last(A, 2) == [first[1], *third]
            assert (journal.last_seq(A), journal.last_seq(B), journal.last_seq(ConversationId("none"))) == (3, 1, 0)
            assert journal.last_journal() == 4

    asyncio.run(scenario())


def test_numbers_go_on_after_a_restart(path: Path) -> None:
    async def scenario(expected: int) -> None:
        async with opened(path) as journal:
            (event,) = await journal.append(A, [text("x")])
            assert (event.seq, event.journal) == (expected, expected)

    for number in (1, 2, 3):
        asyncio.run(scenario(number))
    assert verified(path).rows == 3 and verified(path).broken is None


def test_an_append_is_all_or_nothing_and_leaves_no_hole_in_the_numbers(path: Path) -> None:
    def refuse(connection: sqlite3.Connection) -> None:
        connection.execute("insert into trust values('p', 'd', 'allowed', 't', 'me', '')")
        raise LookupError("no")

    async def scenario() -> None:
        async with opened(path) as journal:
            gate = threading.Event()
            journal._database.write(lambda _: gate.wait(PATIENCE))
            futures = [journal.append(A, [text("1")]), journal.append(A, [text("-"), text("-")], also=refuse)]
            futures.append(journal.append(A, [text("2")]))
            gate.set()
            results = await asyncio.gather(*futures, return_exceptions=True)
            assert isinstance(results[1], LookupError)
            assert [(event.seq, event.journal) for event in journal.after(A, 0)] == [(1, 1), (2, 2)]
            assert journal._database.read(trust.listed) == []

    asyncio.run(scenario())
    assert verified(path).broken is None


def test_put_adds_events_to_a_change_that_decides_first(path: Path) -> None:
    async def scenario() -> None:
        async with opened(path) as journal:

            def once(connection: sqlite3.Connection) -> list[Event]:
                return [] if chain.last(connection).seq else journal.put(connection, A, [text("only")])

            results = [await journal._database.write(once) for _ in range(3)]
            assert [len(result) for result in results] == [1, 0, 0]

    asyncio.run(scenario())


def test_listeners_hear_each_batch_once_in_order_after_its_commit(path: Path) -> None:
    heard: list[list[Event]] = []

    async def scenario() -> None:
        async with opened(path) as journal:

            def listen(events: list[Event]) -> None:
                assert journal.last_journal() >= events[-1].journal
                heard.append(events)

            journal.listen(listen)
            gate = threading.Event()
            journal._database.write(lambda _: gate.wait(PATIENCE))
            one = [journal.append((A, B)[number % 2], [text(str(number))]) for number in range(10)]
            gate.set()
            await one[-1]
            assert [event.journal for events in heard for event in events] == list(range(1, 11)), "before its future is seen"
            await journal.append(None, [Draft(AuditKind.DAEMON_START)])
            await journal.append(A, [text("last")])

    asyncio.run(scenario())
    assert max(len(events) for events in heard) > 1, "a batch is one call"
    assert heard[-1][0].body == {"text": "last"}


def test_many_writers_at_once_give_one_order(path: Path) -> None:
    async def scenario() -> None:
        async with opened(path) as journal:
            heard: list[Event] = []
            journal.listen(heard.extend)

            async def writer(name: str) -> None:
                for number in range(50):
                    await journal.append(ConversationId(name), [text(str(number)), text(str(number))])

            await asyncio.gather(*(writer(f"c{number}") for number in range(20)))
            assert heard == journal.after_any(0, 10_000)
            assert [event.journal for event in heard] == list(range(1, 2001))
            for number in range(20):
                mine = journal.after(ConversationId(f"c{number}"), 0)
                assert [event.seq for event in mine] == list(range(1, 101))
                assert words(mine) == [str(each // 2) for each in range(100)]

    asyncio.run(scenario())
    assert verified(path).broken is None


@pytest.mark.parametrize("body", [{"text": "Grüße 🙂\x00\u2028"}, {"text": "\ud800 half"}, {"n": 2**70, "deep": [[[{}]]]}, {}])
def test_every_json_body_comes_back_as_it_was(path: Path, body: dict[str, Any]) -> None:
    async def scenario() -> None:
        async with opened(path) as journal:
            await journal.append(A, [Draft(Kind.NOTE, body=body)])
            assert journal.after(A, 0)[0].body == body

    asyncio.run(scenario())


@pytest.mark.parametrize("value", [math.nan, math.inf, {1, 2}, b"bytes"])
def test_what_is_no_json_is_refused_at_once(path: Path, value: object) -> None:
    async def scenario() -> None:
        async with opened(path) as journal:
            with pytest.raises(Bug):
                journal.append(A, [Draft(Kind.NOTE, body={"value": value})])
            await journal.append(A, [text("fine")])

    asyncio.run(scenario())


def test_events_need_a_conversation_and_heads_say_only_what_they_may(path: Path) -> None:
    async def scenario() -> None:
        async with opened(path) as journal:
            with pytest.raises(Bug, match="needs a conversation"):
                await journal.append(None, [text("lost")])
            with pytest.raises(Bug, match="colour"):
                await journal.append(A, [Draft(Kind.NOTE, facts={"colour": "red"})])
            (event,) = await journal.append(A, [text("fine")])
            assert (event.seq, event.journal) == (1, 1)

    asyncio.run(scenario())


def test_an_audit_row_is_in_the_chain_but_in_no_log(path: Path) -> None:
    async def scenario() -> None:
        async with opened(path) as journal:
            spawn = Draft(AuditKind.AGENT_SPAWN, who={"agent": "writer"}, facts={"obj": {"path": "/bin/true"}, "state": "done"})
            await journal.append(A, [text("1"), spawn, text("2")])
            ended = Draft(AuditKind.AGENT_EXIT, facts={"ref": 2, "ms": 12})
            assert await journal.append(None, [ended]) == []
            assert words(journal.after(A, 0)) == words(journal.after_any(0)) == ["1", "2"]
            query = "select conversation, n, ref, head from journal where kind like '%.%' order by seq"
            rows = journal._database.read(lambda connection: connection.execute(query).fetchall())
            assert [row[:3] for row in rows] == [(None, None, None), (None, None, 2)]
            head = json.loads(rows[0][3])
            assert head.pop("mono") > 0
            assert head == {
                "v": 1, "seq": 2, "at": "2026-11-20T09:14:00.123Z", "boot": "boot-7", "host": "gpu1", "conversation": A,
                "who": {"agent": "writer"}, "kind": "agent.spawn", "obj": {"path": "/bin/true"}, "state": "done",
            }  # fmt: skip

    asyncio.run(scenario())
    assert verified(path).broken is None


def test_a_large_body_goes_to_a_file_of_its_own(path: Path) -> None:
    long, again = "x" * LARGE, "y" * LARGE

    async def scenario() -> None:
        async with opened(path) as journal:
            await journal.append(A, [text(long), text("short"), text(again)])
            await journal.append(B, [text(long)])
            assert [len(each) for each in words(journal.after(A, 0))] == [LARGE, 5, LARGE]
            blobs = journal._database.blobs
            stored = [each for each in blobs.root.glob("*/*") if each.is_file()]
            assert len(stored) == 2
            assert all(hashlib.sha256(each.read_bytes()).hexdigest() == each.parent.name + each.name for each in stored)
            assert await journal._database.write(lambda connection: audit.purge(connection, blobs, A, 3)) == 3
            assert [event.body.get("purged") for event in journal.after(A, 0)] == [True, True, True]
            assert words(journal.after(B, 0)) == [long], "shared with A"
            assert await journal._database.write(lambda connection: audit.purge(connection, blobs, A, 3)) == 0
            assert await journal._database.write(lambda connection: audit.purge(connection, blobs, B, 9)) == 1
            assert journal.after(B, 0)[0].body == {"purged": True}
            assert not [each for each in blobs.root.glob("*/*") if each.is_file()]

    asyncio.run(scenario())
    assert path.stat().st_size < LARGE
    assert verified(path) == audit.Verified(4, 4, verified(path).head)


def test_purged_words_are_gone_from_the_file_and_the_chain_still_verifies(path: Path) -> None:
    async def scenario() -> None:
        async with opened(path) as journal:
            await journal.append(A, [text(f"tangerine {number}") for number in range(100)])
            await journal._database.write(lambda connection: audit.purge(connection, journal._database.blobs, A, 60))
            assert [event.seq for event in journal.after(A, 0) if "text" in event.body] == list(range(61, 101))

    asyncio.run(scenario())
    assert verified(path) == audit.Verified(100, 60, verified(path).head)
    assert b"tangerine 59" not in path.read_bytes() and b"tangerine 61" in path.read_bytes()


@pytest.mark.parametrize("first", ["journal", "start"])
def test_a_gap_is_recorded_whichever_comes_first(path: Path, first: str) -> None:
    asyncio.run(Database(path).close())
    opening.note_head(path, chain.Head(9, bytes(32)))

    async def scenario() -> None:
        database = Database(path)
        if first == "journal":
            Journal(database, "gpu1", "boot-7")
        database.start(asyncio.get_running_loop())
        if first == "start":
            Journal(database, "gpu1", "boot-7")
        await database.close()

    asyncio.run(scenario())
    connection = opening.connect_reader(path)
    assert [row[0] for row in connection.execute("select kind from journal")] == ["audit.gap"]
    connection.close()


def test_a_journal_that_lost_its_end_says_so_in_its_next_row(path: Path) -> None:
    async def scenario(count: int) -> list[tuple[str, str | None]]:
        async with opened(path) as journal:
            await journal.append(A, [text("x")] * count)
            query = "select kind, json_extract(cast(head as text), '$.error') from journal order by seq"
            return journal._database.read(lambda connection: connection.execute(query).fetchall())

    asyncio.run(scenario(3))
    opening.note_head(path, chain.Head(9, bytes(32)))
    rows = asyncio.run(scenario(1))
    assert [kind for kind, _ in rows] == ["text"] * 3 + ["audit.gap", "text"]
    assert rows[3][1] == "the journal ends at 3, it once reached 9"
    assert [kind for kind, _ in asyncio.run(scenario(1))] == ["text"] * 3 + ["audit.gap", "text", "text"], "it is said once"
    assert verified(path).broken is None


def test_another_history_is_noticed(path: Path) -> None:
    async def scenario() -> None:
        async with opened(path) as journal:
            await journal.append(A, [text("x")] * 5)

    asyncio.run(scenario())
    opening.note_head(path, chain.Head(4, bytes(32)))
    database = Database(path)
    assert database.gap == "row 4 is not the one that was there"
    asyncio.run(database.close())


def test_a_failed_read_is_our_error(path: Path) -> None:
    async def scenario() -> None:
        async with opened(path) as journal:
            with pytest.raises(StoreFailed, match="cannot be read"):
                journal._database.read(lambda connection: connection.execute("select nothing").fetchall())

    asyncio.run(scenario())
