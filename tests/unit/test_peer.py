"""A daemon on another machine as the mirror asks it: one that floods us, says nothing or talks nonsense costs no more than itself."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from opagent import control
from opagent.daemon import peer
from opagent.errors import HostUnreachable, OpAgentError
from tests.doubles.patience import PATIENCE

GREETING = json.dumps(control.Greeting("0", (control.OLDEST, control.NEWEST), "far", 1, "b").as_json()).encode() + b"\n"
HELLO = b'{"jsonrpc":"2.0","id":1,"result":{}}\n'
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def _with(path: Path, serve: Serve, story: Callable[[peer.SocketPeer], Awaitable[None]]) -> None:
    async def whole() -> None:
        async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(GREETING)
            await reader.readline()
            writer.write(HELLO)
            try:
                await serve(reader, writer)
            except ConnectionError:
                pass
            finally:
                writer.close()

        async with await asyncio.start_unix_server(served, path=str(path)):
            found = await peer.connect(path)
            try:
                await asyncio.wait_for(story(found), PATIENCE)
            finally:
                found.close()

    asyncio.run(whole())


@pytest.mark.parametrize(("count", "size"), [(64, 1 << 20), (10_000, 10)])
def test_notes_that_nobody_takes_have_a_limit(home: Path, count: int, size: int) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        note = json.dumps({"jsonrpc": "2.0", "method": "document", "params": {"conversation": "x" * size}}).encode() + b"\n"
        for _ in range(count):
            writer.write(note)
            await writer.drain()
        await asyncio.Event().wait()  # and never answers

    async def story(found: peer.SocketPeer) -> None:
        with pytest.raises(HostUnreachable, match="the connection ended"):
            await found.request("document/list", {})
        assert found.lost

    _with(home / "far.sock", serve, story)


def test_notes_that_are_taken_have_none(home: Path) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        note = json.dumps({"jsonrpc": "2.0", "method": "document", "params": {"conversation": "x" * (1 << 20)}}).encode() + b"\n"
        for _ in range(40):
            writer.write(note)
            await writer.drain()

    async def story(found: peer.SocketPeer) -> None:
        assert [method async for method, _ in found.notes()] == ["document"] * 40

    _with(home / "far.sock", serve, story)


@pytest.mark.parametrize("line", [b"no json\n", b"[" * 100_000 + b"\n", b'{"opagent": 7}\n', b"{}\n"])
def test_who_greets_in_another_way_is_refused(home: Path, line: bytes) -> None:
    async def whole() -> None:
        async def served(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(line)
            writer.close()

        async with await asyncio.start_unix_server(served, path=str(home / "far.sock")):
            with pytest.raises(OpAgentError):
                await peer.connect(home / "far.sock")

    asyncio.run(whole())
