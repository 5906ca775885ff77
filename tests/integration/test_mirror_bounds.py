"""A mirror of a machine that sends as much as it can: what of it stays in memory and on the disk is bounded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from opagent.daemon import mirror as mirrors
from opagent.document import edit
from opagent.document.delta import pack
from opagent.document.records import file_digest
from tests.doubles import inside
from tests.doubles.texts import AT

SIZE, COUNT, TIMES = 300_000, 8, 6


class Greedy:
    """The other machine: some conversations, all of them large, each of which changes again and again."""

    def __init__(self) -> None:
        self.lost = False
        self.told: asyncio.Queue[tuple[str, dict[str, Any]] | None] = asyncio.Queue()
        self.version = {f"gr{number:02}-m4x8p3": 0 for number in range(COUNT)}

    def content(self, ident: str) -> bytes:
        fresh = edit.new({"conversation": ident, "opagent": "1"}, "eve")
        said = edit.Opening("u0001", "a0001", "eve", "x", "writer", AT, AT)
        return fresh.begin(said).put("a0001", f"{self.version[ident]}\n" + "greedy\n" * (SIZE // 7), ("done", AT)).content()

    def said(self, ident: str) -> dict[str, Any]:
        return {"conversation": ident, "path": f"{ident}.md", "digest": file_digest(self.content(ident))}

    def change(self) -> None:
        for ident in self.version:
            self.version[ident] += 1
            self.told.put_nowait(("document", self.said(ident)))

    async def request(self, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
        if method == "document/list":
            return {"documents": [self.said(ident) for ident in self.version]}
        if method == "document/read":
            return {"document": pack(self.content(params["conversation"]))}
        return {}

    async def notes(self) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        while (note := await self.told.get()) is not None:
            yield note

    def close(self) -> None:
        self.told.put_nowait(None)


def _held(mirror: mirrors.Mirror) -> int:
    """Bytes of files that it has in memory."""
    states = [file.state for file in mirror.files.values()]
    texts = [text for state in states for text in (state.base, state.seen, state.coming, *state.past)]
    return sum(map(len, texts)) + sum(len(file._disk or b"") for file in mirror.files.values())


def _shown(mirror: mirrors.Mirror, version: int) -> bool:
    texts = [path.read_bytes() for path in mirror.folder.glob("*.md")]
    return sum(f"\n{version}\ngreedy".encode() in text for text in texts) == COUNT


def test_what_is_in_step_is_not_kept_in_memory(home: Path) -> None:
    async def scene() -> None:
        far = Greedy()

        async def factory() -> Greedy:
            return far

        async with inside.host() as host:
            mirror = await host.mirrors.begin(str(home / "copies"), "/srv/docs", factory, "there")
            for version in range(TIMES):
                await inside.until(partial(_shown, mirror, version))
                far.change()
            await inside.until(partial(_shown, mirror, TIMES))
            await inside.until(lambda: _held(mirror) == 0)

    (home / "copies").mkdir()
    asyncio.run(scene())


def test_a_mirror_has_room_for_so_many_bytes_only(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirrors, "ROOM", 3 * SIZE + SIZE // 2)

    async def scene() -> None:
        far = Greedy()

        async def factory() -> Greedy:
            return far

        async with inside.host() as host:
            mirror = await host.mirrors.begin(str(home / "copies"), "/srv/docs", factory, "there")
            await inside.until(lambda: sum("is full" in file.problem for file in mirror.files.values()) == COUNT - 3)
            assert len(list(mirror.folder.glob("*.md"))) == 3

    (home / "copies").mkdir()
    asyncio.run(scene())


class Overtaken(Greedy):
    """What it says of its own accord arrives before the older answer to a question."""

    async def request(self, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
        answer = await super().request(method, params)
        if method == "document/read" and self.version[params["conversation"]] < TIMES:
            self.version[params["conversation"]] += 1
            self.told.put_nowait(("document", self.said(params["conversation"])))
            await asyncio.sleep(0.01)
        return answer


def test_an_answer_is_not_newer_than_what_was_told_meanwhile(home: Path) -> None:
    async def scene() -> None:
        far = Overtaken()

        async def factory() -> Greedy:
            return far

        async with inside.host() as host:
            mirror = await host.mirrors.begin(str(home / "copies"), "/srv/docs", factory, "there")
            await inside.until(partial(_shown, mirror, TIMES))

    (home / "copies").mkdir()
    asyncio.run(scene())
