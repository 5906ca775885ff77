"""Events that are held: whoever follows the conversation hears them at the end, once and in order, whenever they came."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from opagent import control, files, paths
from opagent.daemon.server import Client, Server
from opagent.model import ConversationId, Kind
from opagent.store.database import Database
from opagent.store.events import Draft, Journal
from tests.doubles.patience import PATIENCE

A, B = ConversationId("aaaa-000001"), ConversationId("bbbb-000002")
BLOCK = "x" * 20_000


class Follower:
    """A client on the daemon's socket; reads when it is told to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def come(cls) -> Follower:
        found = cls(*await asyncio.open_unix_connection(str(paths.socket()), limit=control.FRAME_LIMIT))
        await found._reader.readline()
        await found.ask("hello", client="test", protocol=control.PROTOCOL)
        return found

    async def ask(self, method: str, **params: Any) -> Any:
        self._writer.write(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode() + b"\n")
        return (await self.message())["result"]

    async def message(self) -> Any:
        return json.loads(await asyncio.wait_for(self._reader.readline(), PATIENCE))

    async def events(self, count: int) -> list[int]:
        """The numbers of the next events."""
        return [(await self.message())["params"]["seq"] for _ in range(count)]

    async def silent(self) -> bool:
        """Whether nothing has come by the time that an answer does."""
        return "pong" in await self.ask("ping")

    def leave(self) -> None:
        self._writer.close()


@asynccontextmanager
async def served() -> AsyncIterator[tuple[Server, Journal]]:
    files.private_directory(paths.run())
    database = Database(paths.database())
    journal = Journal(database, "here", "boot")
    database.start(asyncio.get_running_loop())

    async def subscribe(client: Client, params: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"after": await server.subscribe(client, params["topic"], params["after"])}

    async def ping(client: Client, params: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"pong": True}

    server = Server(
        control.Greeting("0", (control.OLDEST, control.NEWEST), "here", 1, "b"), {"subscribe": subscribe, "ping": ping}, journal
    )
    async with asyncio.TaskGroup() as tasks:
        server.start(tasks)
        listening = await server.listen()
        yield server, journal
        server.close()
        listening.close()
    await database.close()


def _run(story: Callable[[Server, Journal], Awaitable[None]]) -> None:
    async def whole() -> None:
        async with served() as (server, journal):
            await story(server, journal)

    asyncio.run(whole())


async def _put(journal: Journal, words: str = "", where: ConversationId = A) -> None:
    await journal.append(where, [Draft(Kind.TEXT, None, {"text": words})], barrier=True)


def test_who_follows_hears_at_the_end(home: Path) -> None:
    async def story(server: Server, journal: Journal) -> None:
        live = await Follower.come()
        await live.ask("subscribe", topic=A, after=None)
        with server.held(A):
            await _put(journal)
            assert await live.silent()
            await _put(journal, where=B)
        assert await live.events(1) == [1]
        live.leave()

    _run(story)


def test_who_comes_meanwhile_waits(home: Path) -> None:
    async def story(server: Server, journal: Journal) -> None:
        late = await Follower.come()
        with server.held(A):
            await _put(journal)
            asking = asyncio.create_task(late.ask("subscribe", topic=A, after=0))
            await _put(journal)
            assert not asking.done()
        assert (await asking)["after"] == 2
        assert await late.events(2) == [1, 2]
        late.leave()

    _run(story)


def test_who_still_reads_what_was_before_waits_too(home: Path) -> None:
    async def story(server: Server, journal: Journal) -> None:
        for _ in range(200):
            await _put(journal, BLOCK)
        behind = await Follower.come()
        await behind.ask("subscribe", topic=A, after=0)  # far more than fits into the socket
        with server.held(A):
            await _put(journal)
            reading = asyncio.create_task(behind.events(201))
            done, _ = await asyncio.wait({reading}, timeout=0.5)
            assert not done
        assert await reading == list(range(1, 202))
        behind.leave()

    _run(story)


def test_who_follows_all_hears_at_once_and_once(home: Path) -> None:
    async def story(server: Server, journal: Journal) -> None:
        both = await Follower.come()
        await both.ask("subscribe", topic="*", after=None)
        await both.ask("subscribe", topic=A, after=None)
        with server.held(A):
            await _put(journal)
            assert await both.events(1) == [1]
        await _put(journal)
        assert await both.events(1) == [2]
        both.leave()

    _run(story)


@pytest.mark.parametrize("topic", [A, "*"])
def test_who_knows_more_than_there_is_hears_what_comes(home: Path, topic: str) -> None:
    """The log was lost meanwhile."""

    async def story(server: Server, journal: Journal) -> None:
        await _put(journal)
        old = await Follower.come()
        assert (await old.ask("subscribe", topic=topic, after=1000))["after"] == 1
        await _put(journal)
        assert await old.events(1) == [2]
        old.leave()

    _run(story)
