"""From nothing to a daemon on another machine: a real shell, a real interpreter, the real package, a home of its own."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from opagent import control
from opagent.remote import mux
from opagent.remote.bootstrap import Facts, Landed, Wanted, attach, bootstrap, facts_from_json
from opagent.remote.bridge import Bridge, _greeted
from opagent.remote.channels import Channels
from opagent.remote.payload import payload
from opagent.remote.seam import Phase, Stream
from tests.doubles.local_shell import LocalShell, machine, on
from tests.doubles.patience import PATIENCE, until


class Talk:
    """The control protocol on a stream."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self._buffer = b""

    async def line(self) -> dict[str, Any]:
        while b"\n" not in self._buffer:
            data = await asyncio.wait_for(self.stream.read(), PATIENCE)
            assert data, (await self.stream.ended()).stderr
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        found: dict[str, Any] = json.loads(line)
        return found

    async def greet(self) -> control.Greeting:
        greeting = control.greeting(await self.line())
        self.daemon = greeting.daemon
        await self.ask("hello", client="test", version="0", protocol=control.PROTOCOL, pid=os.getpid())
        return greeting

    async def ask(self, method: str, **params: Any) -> Any:
        request = {"jsonrpc": "2.0", "id": method, "method": method, "params": params}
        await self.stream.write(json.dumps(request).encode() + b"\n")
        while (answer := await self.line()).get("id") != method:
            pass
        assert "result" in answer, answer
        return answer["result"]


@asynccontextmanager
async def channels(landed: Landed) -> AsyncIterator[Channels]:
    made = Channels(landed.stream)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(made.run(), name="channels")
        yield made
        made.close()


@pytest.fixture
def there(home: Path) -> dict[str, str]:
    return machine(home)


def quiet(_: Phase) -> None:
    pass


def test_nothing_there_then_the_code_then_the_daemon(there: dict[str, str]) -> None:
    async def work(connection: LocalShell) -> None:
        phases: list[Phase] = []
        first = await bootstrap(connection, payload(), phases.append)
        assert list(dict.fromkeys(phase.name for phase in phases)) == [
            "probing",
            "uploading",
            "installing",
            "starting",
            "connected",
        ]
        assert first.facts.started
        assert first.facts.home == there["HOME"]
        assert first.facts.base == there["HOME"] + "/.cache/opagent"
        async with channels(first) as made:
            greeting = await Talk(await made.open()).greet()
            phases.clear()
            second = await bootstrap(connection, payload(), phases.append, remembered=first.facts)
            assert [phase.name for phase in phases] == ["probing", "connected"]
            assert not second.facts.started
            async with channels(second) as others:
                assert (await Talk(await others.open()).greet()).daemon == greeting.daemon
        third = await bootstrap(connection, payload(), quiet)  # the daemon outlives its viewers
        async with channels(third) as made:
            assert (await Talk(await made.open()).greet()).daemon == greeting.daemon
        assert len(connection.lines) == 3

    on(there, work)


def test_an_agent_answers_there(there: dict[str, str]) -> None:
    notes = Path(there["HOME"]) / "notes"
    notes.mkdir()
    (notes / "wind.md").write_text("# Wind\n\nThe anemometer stands on the roof.\n")

    async def work(connection: LocalShell) -> None:
        landed = await bootstrap(connection, payload(), quiet)
        async with channels(landed) as made:
            talk = Talk(await made.open())
            await talk.greet()
            for agent, said, answer in (("echo", "hello over there", "hello over there"), ("librarian", "anemometer?", "roof")):
                conversation = (await talk.ask("conversation/create", path=str(notes), agent=agent))["id"]
                turn = (await talk.ask("turn/start", conversation=conversation, text=said))["turn"]["id"]
                async with asyncio.timeout(PATIENCE):
                    while True:
                        shown = await talk.ask("conversation/show", conversation=conversation, limit=1000)
                        state = next(found for found in shown["turns"] if found["id"] == turn)
                        if state["state"] in ("done", "failed", "interrupted"):
                            break
                        await asyncio.sleep(0.05)
                assert state["state"] == "done", state
                text = "".join(event["body"].get("text", "") for event in shown["events"] if event["kind"] == "text")
                assert answer in text

    on(there, work)


def test_many_channels_and_a_forwarded_socket(there: dict[str, str]) -> None:
    async def work(connection: LocalShell) -> None:
        landed = await bootstrap(connection, payload(), quiet, wanted=Wanted(name="gpu1"))
        async with channels(landed) as made:
            talks = [Talk(await made.open()) for _ in range(20)]
            daemons = {(await talk.greet()).daemon for talk in talks}
            assert len(daemons) == 1
            status = await talks[7].ask("daemon/status")
            assert status["clients"] == 20
            talks[3].stream.close()
            assert (await talks[3].stream.ended()).status is None
            await talks[4].ask("daemon/status")
            direct = await attach(connection, landed.facts)
            assert direct is not None
            assert (await Talk(direct).greet()).daemon in daemons
            direct.close()
            connection.forwards = False
            assert await attach(connection, landed.facts) is None

    on(there, work, forwards=True)


def test_facts_are_remembered_as_json(there: dict[str, str]) -> None:
    facts = Facts("/h", 7, "ana", "/run/x", "/usr/bin/python3", "3.11.2", "1", "ab", "/h/.cache", True, "linux x86_64", "gpu1")
    assert facts_from_json(json.loads(json.dumps(facts.as_json()))) == facts
    with pytest.raises(ValueError, match="socket"):
        facts_from_json({key: value for key, value in facts.as_json().items() if key != "socket"})


# ---- what is given back ----------------------------------------------------------------------------------------------------


def _sockets(pid: int) -> list[object]:
    """Connections that a daemon serves, looked at from outside: a question would be traffic on the stream."""
    return [each for each in psutil.Process(pid).net_connections("unix") if each.laddr.endswith("daemon.sock")][1:]


async def _connected(talk: Talk, count: int) -> None:
    """Until the daemon there serves so many clients."""
    async with asyncio.timeout(PATIENCE):
        while (await talk.ask("daemon/status"))["clients"] != count:  # noqa: ASYNC110  (nobody tells)
            await asyncio.sleep(0.01)


def test_a_channel_that_is_closed_is_closed_there_too(there: dict[str, str]) -> None:
    """Although nothing else is said after it: the daemon there keeps a client, and all it follows, for as long."""

    async def work(connection: LocalShell) -> None:
        landed = await bootstrap(connection, payload(), quiet)
        async with channels(landed) as made:
            stays = Talk(await made.open())
            await stays.greet()
            leaves = Talk(await made.open())
            await leaves.greet()
            leaves.stream.close()
            await asyncio.to_thread(until, lambda: len(_sockets(stays.daemon)) == 1)

    on(there, work)


def test_streams_that_were_looked_at_and_not_used_are_given_back(there: dict[str, str]) -> None:
    """Each client that comes back after a loss looks whether the daemon there answers."""

    async def work(connection: LocalShell) -> None:
        landed = await bootstrap(connection, payload(), quiet)
        async with channels(landed) as made:
            talk = Talk(await made.open())
            await talk.greet()
            bridge = Bridge(connection, landed.facts, made, await _greeted(await made.open()), Wanted())
            for _ in range(mux.CHANNELS):
                await bridge.greets()
            await _connected(talk, 2)  # the last one is ready for whoever comes

    on(there, work)
