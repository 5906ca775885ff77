"""What a dial costs, and what it leaves alone."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from opagent.client import Client
from opagent.errors import HostUnreachable, Usage
from opagent.remote.dial import Settings, dial
from opagent.remote.seam import Connection, Phase
from opagent.target import Target
from tests.doubles.daemons import environment
from tests.doubles.dialing import Person, connected, ran, told
from tests.doubles.sshd import sshd

HEAVY = ("asyncssh", "cryptography", "bcrypt")


def test_who_does_not_dial_does_not_import_asyncssh(home: Path) -> None:
    """Neither a command nor its daemon."""
    words = [sys.executable, "-X", "importtime", "-m", "opagent", "ps"]
    done = subprocess.run(words, capture_output=True, text=True, env=environment(), check=True)
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "opagent" in imported
    assert not imported & set(HEAVY)
    with Client("test") as client:
        pid = client.request("daemon/status", {})["pid"]
        assert "cryptography" not in Path(f"/proc/{pid}/maps").read_text()


def test_dialing_by_the_system_or_a_command_needs_no_asyncssh(home: Path) -> None:
    code = (
        "import asyncio, sys; from opagent.remote.dial import Settings, dial; from opagent.target import Target\n"
        "async def run():\n"
        "  for settings in (Settings('openssh', config=sys.argv[1]), Settings(command=('env',))):\n"
        "    connection = await dial(Target('there', ''), None, lambda phase: None, settings)\n"
        "    stream = await connection.run('echo in')\n"
        "    assert await stream.read() == b'in\\n'\n"
        "    connection.close(); await connection.lost()\n"
        "  assert 'asyncssh' not in sys.modules\n"
        "asyncio.run(run())\n"
    )
    with sshd(home.parent / "there") as server:
        subprocess.run([sys.executable, "-c", code, server.config], check=True, env=environment())


def test_phases_are_told(home: Path) -> None:
    phases: list[Phase] = []

    async def story(config: str) -> None:
        connection = await dial(Target("there", ""), Person(), phases.append, Settings(config=config))
        connection.close()

    with sshd(home.parent / "there") as server:
        asyncio.run(story(server.config))
        assert phases == [Phase("dialing", "there"), Phase("authenticating", f"there (127.0.0.1 port {server.port})")]


def test_the_home_there_is_another_one(home: Path) -> None:
    async def story(connection: Connection) -> str:
        return (await ran(connection, 'printf %s "$HOME"'))[0]

    with sshd(home.parent / "there") as server:
        assert connected(story, server.config) == str(server.home)


@pytest.mark.parametrize("settings", [Settings("rsh"), Settings("command")], ids=["rsh", "command"])
def test_a_transport_that_cannot_be(home: Path, settings: Settings) -> None:
    with pytest.raises(Usage):
        asyncio.run(dial(Target("there", ""), Person(), told, settings))


def test_a_command_that_is_not_here(home: Path) -> None:
    async def story() -> None:
        connection = await dial(Target("box", ""), Person(), told, Settings(command=("no-such-program", "exec")))
        await connection.run("true")

    with pytest.raises(HostUnreachable, match="no program no-such-program"):
        asyncio.run(story())


def test_a_dial_that_is_cancelled_leaves_nothing(home: Path) -> None:
    """While a person is asked, by either ssh."""

    async def story(config: str, transport: str) -> None:
        asked = asyncio.Event()

        async def ask(_: object) -> str | None:
            asked.set()
            await asyncio.sleep(3600)
            return None

        dialing = asyncio.create_task(dial(Target("there", ""), ask, told, Settings(transport, config=config)))
        await asked.wait()
        dialing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await dialing

    with sshd(home.parent / "there") as server:
        server.know()
        for transport in ("asyncssh", "openssh"):
            asyncio.run(story(server.config, transport))
