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


def test_a_save_that_a_killed_daemon_had_taken_out_of_a_file_that_has_a_namesake(home: Path) -> None:
    """It belongs to the conversation whose id it names, not to the other one that is called so in another directory."""
    (home / "notes").mkdir()
    two: list[Path] = []

    async def before() -> None:
        async with inside.host() as host:
            for place in ("one", "two"):
                conversation = await inside.talk(host, home / "notes")
                await conversation.enqueue(Prompt(place, "human:0", "cli"))
                path = Path(conversation.record.path)
                await inside.until(lambda path=path: " done " in path.read_text())  # type: ignore[misc]
                (path.parent / place).mkdir()
                two.append(path.rename(path.parent / place / "plan.md"))
                conversation.changed()
                await inside.until(lambda: conversation.record.path == str(two[-1]))  # noqa: B023

    async def after() -> None:
        async with inside.host() as host:
            for path in two:
                await (await host.found(str(path), fork=False)).versions.ready()
            await inside.until(lambda: "lost in the kill" in two[1].read_text() and not left.exists())

    asyncio.run(before())
    left = home / "notes/.opagent/tmp/plan.md.1.ffffffff.1"
    left.write_text(two[1].read_text() + "lost in the kill\n")
    asyncio.run(after())
    assert "lost in the kill" not in two[0].read_text() and two[1].read_text().count("lost in the kill") == 1
