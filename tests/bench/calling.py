"""What a call of another agent costs beside saying the same to that agent: both start its process, and wait for its end."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator

from opagent.client import Client
from tests.bench.place import Place, Talk
from tests.bench.rows import Row, Target, interleaved
from tests.bench.sizes import Sizes

_BINDING = "version: 1\nagent: echo\nroles: {helper: {runtime: echo}}\ncan: {agents: {allow: [helper]}}\n"


def calling(place: Place, sizes: Sizes) -> Iterator[Row]:
    (place.folder / "calling").mkdir()
    (place.folder / "calling/.agent.yaml").write_text(_BINDING)
    with place.talk("calling") as talk:
        talk.turn("/call helper hello")
        pair = interleaved(sizes.times, lambda: talk.turn("/call helper hello") * 1000, lambda: _direct(place) * 1000)
        call, direct = (statistics.median(series) for series in pair)
        yield Row("what agent_call adds", "a prompt to that agent, begun anew", call - direct, direct, "ms", Target(30, "ms"))


def _direct(place: Place) -> float:
    """Seconds of a new conversation's first turn."""
    with Client("bench") as client:
        began = time.perf_counter()
        params = {"path": str(place.folder / "calling"), "agent": "helper", "environment": dict(os.environ)}
        talk = Talk(client, client.request("conversation/create", params)["id"])
        client.subscribe(talk.conversation, None)
        talk.until_end(talk.start("hello"))
        return time.perf_counter() - began
