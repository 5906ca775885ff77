"""The token bucket of an agent's messages: in the long run never more than its rate, and never a wait below it."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from opagent.acp.connection import Noise
from opagent.acp.pace import BURST, RATE, Pace
from opagent.daemon import inbox
from opagent.daemon.agent import Agent, Role
from opagent.model import ProcessId


def test_a_burst_is_free_and_what_follows_is_slowed_down() -> None:
    pace = Pace(0.0)
    assert pace.wait(10_000, 0.0) == 0
    assert pace.wait(200, 0.0) == 0.1
    assert pace.wait(0, 0.1) == 0
    assert pace.wait(0, 100.0) == 0
    assert pace.wait(10_000, 100.0) == 0


def test_below_the_rate_nothing_waits() -> None:
    pace = Pace(0.0)
    assert all(pace.wait(200, step / 10) == 0 for step in range(1000))


@given(st.lists(st.tuples(st.integers(0, 30_000), st.floats(0, 3)), max_size=60))
def test_who_waits_as_told_keeps_to_the_rate(steps: list[tuple[int, float]]) -> None:
    pace, now, sent = Pace(0.0), 0.0, 0
    for messages, idle in steps:
        now += idle
        sent += messages
        now += pace.wait(messages, now)
        assert sent <= BURST + RATE * now + 1e-3


def test_a_person_is_told_once_that_an_agent_is_slowed_down() -> None:
    posted: list[inbox.Item] = []

    async def body() -> None:
        agent = Agent(ProcessId("x1"), 1, Role("echo", "/"), posted.append)
        agent.pace = Pace(asyncio.get_running_loop().time(), rate=1000.0, burst=5.0)
        begun = asyncio.get_running_loop().time()
        for _ in range(3):
            await agent.slow_down(10)
        assert asyncio.get_running_loop().time() - begun >= 0.024  # 25 more than there was room for

    asyncio.run(body())
    (told,) = posted
    assert isinstance(told, inbox.FromAgent)
    (noise,) = told.incoming
    assert isinstance(noise, Noise)
    assert "slowed down" in noise.sentence
    assert not noise.fatal
