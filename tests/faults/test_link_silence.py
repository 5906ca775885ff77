"""A line that carries nothing any more: a black hole, a half-open connection, an address that changed, a laptop that slept.

The keep-alive is made quick here; `test_link_lost.py --long` waits for the real one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from opagent.daemon import links
from opagent.daemon.host import Host
from opagent.remote import handshake, link, openssh
from opagent.remote.link import LinkState
from opagent.remote.seam import Connection, Phase, Question
from tests.doubles.dialing import Person, connected, ran, says
from tests.doubles.far import Far, far
from tests.doubles.patience import until

TRANSPORTS = ["asyncssh", "openssh"]


@pytest.fixture
def there(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Far]:
    monkeypatch.setattr(handshake, "ALIVE_EVERY", 0.1)
    alive = {"ServerAliveInterval=5": "ServerAliveInterval=1", "ServerAliveCountMax=3": "ServerAliveCountMax=1"}
    monkeypatch.setattr(openssh, "_OPTIONS", tuple(alive.get(option, option) for option in openssh._OPTIONS))
    with far(home.parent / "there") as place:
        yield place


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_black_hole_is_found(there: Far, transport: str) -> None:
    async def story(connection: Connection) -> str:
        there.line.hold()
        return await connection.lost()

    assert "no sign of life from there" in connected(story, there.server.config, Person(), transport)
    there.line.mend()
    assert says(there.server.config, Person(), transport) == "in\n"


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_connection_that_only_one_side_has(there: Far, transport: str) -> None:
    """As after a change of the address: the old way carries nothing, a new one is free. A program on the old one is told."""

    async def story(connection: Connection) -> str:
        stream = await connection.run("echo up; exec cat")
        assert await stream.read() == b"up\n"
        there.line.forget()
        assert await asyncio.to_thread(says, there.server.config, Person(), transport) == "in\n"
        assert await stream.read() == b""
        return await connection.lost()

    assert "no sign of life from there" in connected(story, there.server.config, Person(), transport)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_silence_shorter_than_the_keep_alive_is_nothing(there: Far, transport: str) -> None:
    async def story(connection: Connection) -> str:
        stream = await connection.run("cat")
        there.line.hold()
        await asyncio.sleep(0.15)
        await stream.write(b"late")
        there.line.mend()
        assert await stream.read() == b"late"
        return (await ran(connection, "echo in"))[0]

    assert connected(story, there.server.config, Person(), transport) == "in\n"


def test_after_a_sleep_a_dead_link_is_found_at_once(there: Far, monkeypatch: pytest.MonkeyPatch) -> None:
    """The keep-alive counts from the waking on; nobody waits for that. A link that still stands is left alone."""
    monkeypatch.setattr(handshake, "ALIVE_EVERY", 60.0)
    monkeypatch.setattr(link, "CHECKED_WITHIN", 0.5)
    monkeypatch.setattr(links, "_LOOK", 0.01)
    slept = [0.0]
    monkeypatch.setattr(links, "_asleep", lambda: slept[0])

    async def story(host: Host) -> None:
        reached = host.links._reach("there")
        reached.config = there.server.config
        looking = host.shared.spawn(host.links.doubt_after_sleep(), "links")
        try:
            await reached.link.up(_nobody, _silent)
            slept[0] += 3600
            await asyncio.sleep(1)
            assert reached.link.state is LinkState.CONNECTED
            there.line.forget()
            slept[0] += 3600
            await asyncio.to_thread(until, lambda: reached.link.state is not LinkState.CONNECTED, 30)
            assert reached.link.state is LinkState.LOST and "does not answer" in reached.link.why
            await reached.link.up(_nobody, _silent)
        finally:
            looking.cancel()

    asyncio.run(_hosted(story))


async def _nobody(_: Question) -> None:
    return None


def _silent(_: Phase) -> None:
    """Nobody looks."""


async def _hosted(story: object) -> None:
    assert callable(story)
    async with asyncio.TaskGroup() as tasks:
        host = Host.open(tasks, asyncio.Event())
        try:
            await story(host)
        finally:
            host.shared.closing = True
            host.links.close()
            await host.mirrors.close()
            await host.watching.close()
            await host.database.close()
