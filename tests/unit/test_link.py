"""The link decides when to dial: for whoever waits, never for nobody, and nobody waits for an attempt that was given up."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from opagent.errors import HostUnreachable
from opagent.remote.bridge import Bridge
from opagent.remote.link import Link, LinkState
from opagent.remote.seam import Ask, Phase, Question, Tell


class _Stands:
    """A bridge until it is told to end."""

    def __init__(self) -> None:
        self.end = asyncio.Event()

    async def lost(self) -> str:
        await self.end.wait()
        return "cut"

    def close(self) -> None:
        self.end.set()


async def _ask(_: Question) -> str | None:
    return None


def _tell(_: Phase) -> None:
    pass


def _link(*attempts: Any) -> Link:
    """Each attempt: a bridge, an error, or None for one that takes for ever and also takes its time to end."""
    rest = list(attempts)

    async def build(ask: Ask, tell: Tell) -> Bridge:
        found = rest.pop(0)
        if found is None:
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0.05)
        if isinstance(found, Exception):
            raise found
        return cast(Bridge, found)

    return Link(build, lambda: 0.0)


def test_an_attempt_that_was_given_up_holds_up_nobody() -> None:
    async def run() -> None:
        bridge = _Stands()
        link = _link(None, bridge)
        first = asyncio.create_task(link.up(_ask, _tell))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        assert link.state is LinkState.IDLE
        assert await link.up(_ask, _tell) is cast(Bridge, bridge)
        link.close()

    asyncio.run(asyncio.wait_for(run(), 30))


def test_who_waits_while_it_is_closed_hears_why() -> None:
    async def run() -> None:
        link = _link(None)
        waits = asyncio.create_task(link.up(_ask, _tell))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        link.close("the daemon stops")
        with pytest.raises(HostUnreachable, match="the daemon stops"):
            await waits

    asyncio.run(asyncio.wait_for(run(), 30))


def test_only_who_is_patient_goes_on_waiting() -> None:
    async def run() -> None:
        bridge = _Stands()
        link = _link(HostUnreachable("silent"), bridge)
        patient = asyncio.create_task(link.up(_ask, _tell, patient=True))
        with pytest.raises(HostUnreachable, match="silent"):
            await link.up(_ask, _tell)
        assert await patient is cast(Bridge, bridge) and link.state is LinkState.CONNECTED
        bridge.end.set()
        for _ in range(3):
            await asyncio.sleep(0)  # the link hears of it
        assert (link.state, link.shown, link.why) == (LinkState.LOST, LinkState.IDLE, "cut"), "nobody waits for it"
        again = asyncio.create_task(link.up(_ask, _tell, patient=True))
        await asyncio.sleep(0)
        assert link.shown is LinkState.LOST
        again.cancel()

    asyncio.run(asyncio.wait_for(run(), 30))


# ---- questions -------------------------------------------------------------------------------------------------------------


def _asking(bridge: _Stands, said: list[str | None]) -> Link:
    """An attempt that asks one question first."""

    async def build(ask: Ask, tell: Tell) -> Bridge:
        said.append(await ask(Question("password", "Password: ", True)))
        return cast(Bridge, bridge)

    return Link(build, lambda: 0.0)


async def _person(_: Question) -> str | None:
    return "secret"


async def _away(_: Question) -> str | None:
    """Somebody who was asked, and thinks."""
    await asyncio.Event().wait()
    return None


def test_who_is_asked_and_leaves_is_waited_for_no_longer() -> None:
    async def run() -> None:
        said: list[str | None] = []
        link = _asking(_Stands(), said)
        first = asyncio.create_task(link.up(_person, _tell, patient=True))
        second = asyncio.create_task(link.up(_away, _tell))
        for _ in range(3):
            await asyncio.sleep(0)
        assert not said
        second.cancel()
        await first
        assert said == ["secret"]
        link.close()

    asyncio.run(asyncio.wait_for(run(), 30))


def test_a_question_goes_to_somebody_who_can_answer() -> None:
    async def run() -> None:
        said: list[str | None] = []
        link = _asking(_Stands(), said)
        person = asyncio.create_task(link.up(_person, _tell))
        script = asyncio.create_task(link.up(None, _tell))
        await asyncio.gather(person, script)
        assert said == ["secret"]
        link.close()

    asyncio.run(asyncio.wait_for(run(), 30))


def test_where_nobody_can_answer_the_answer_is_none() -> None:
    async def run() -> None:
        said: list[str | None] = []
        link = _asking(_Stands(), said)
        await link.up(None, _tell)
        assert said == [None]
        link.close()

    asyncio.run(asyncio.wait_for(run(), 30))
