"""A save that nobody tells of, because the watch of its directory began later, is found all the same."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

from opagent.daemon.turns import Prompt
from opagent.watch.events import Events, Listener
from opagent.watch.observer import Observer
from tests.doubles import inside


class Late(Events):
    """Events of a machine that is slow to begin with them."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()

    def add(self, directory: str, listener: Listener) -> None:
        self.go.wait()
        super().add(directory, listener)


def test_a_save_between_the_file_and_its_watch(home: Path) -> None:
    (home / "notes").mkdir()
    late = Late()

    async def scene() -> None:
        async with inside.host() as host:
            host.watching.observer = Observer(host.shared.spawn, host.watching._noticed, late)
            path = Path((await inside.talk(host, home / "notes")).record.path)
            path.write_text(path.read_text() + "early\n/send\n")
            late.go.set()
            await inside.until(lambda: "echo: early" in path.read_text())

    asyncio.run(scene())


def test_a_save_while_no_daemon_runs(home: Path) -> None:
    (home / "notes").mkdir()
    paths: list[Path] = []

    async def before() -> None:
        async with inside.host() as host:
            conversation = await inside.talk(host, home / "notes")
            await conversation.enqueue(Prompt("before", "human:0", "cli"))
            paths.append(Path(conversation.record.path))
            await inside.until(lambda: " done " in paths[0].read_text())

    async def after() -> None:
        async with inside.host():
            await inside.until(lambda: "echo: meanwhile" in paths[0].read_text())

    asyncio.run(before())
    paths[0].write_text(paths[0].read_text() + "meanwhile\n/send\n")
    asyncio.run(after())
