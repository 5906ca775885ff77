"""`opagent acp` in front of an agent, and the agent alone: how long it takes to start, what an update costs, how late it comes."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from opagent import paths
from opagent.client import Client
from tests.bench.bare import Bare
from tests.bench.place import Place
from tests.bench.rows import Row, Target, compared, interleaved
from tests.bench.sizes import Sizes
from tests.bench.stream import _note, _percentile

ALONE = "the agent alone"
_INITIALIZE = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"protocolVersion": 1, "clientCapabilities": {}}}


def editor(place: Place, sizes: Sizes) -> Iterator[Row]:
    acp = place.command("acp")
    echo = [sys.executable, "-I", "-S", str(paths.bundled_runtimes() / "echo")]
    cwd = str(place.workspace)
    with place.talk() as talk:
        talk.turn("hello")
    pair = interleaved(sizes.times, lambda: _started(acp, cwd), lambda: _started(echo, cwd))
    yield compared("acp, start to the answer of initialize", ALONE, "ms", pair, Target(150, "ms"))
    text, expected = f"/flood {sizes.chunks} {sizes.chunk_bytes}", sizes.chunks * sizes.chunk_bytes
    pair = interleaved(
        sizes.cold,
        lambda: asyncio.run(_flood(acp, cwd, text, expected)) * 1e6 / sizes.chunks,
        lambda: asyncio.run(_flood(echo, cwd, text, expected)) * 1e6 / sizes.chunks,
    )
    yield compared(f"acp, an update of {sizes.chunk_bytes} bytes in a flood", ALONE, "us", pair, Target(2))
    yield from _delays(place, sizes, acp)


def _delays(place: Place, sizes: Sizes, acp: Sequence[str]) -> Iterator[Row]:
    """Milliseconds from the agent's write to the editor's hand."""
    folder = place.folder / "paced"
    with Client("bench") as client:
        said = {"path": str(folder), "environment": dict(os.environ)}
        client.request("trust/grant", {**said, "digest": client.request("trust/show", said)["digest"]})
    alone = [sys.executable, "-I", "-S", str(Path(__file__).with_name("paced.py"))]
    count = int(sizes.rate * sizes.paced_seconds)
    text = f"{count} {sizes.rate} {sizes.chunk_bytes}"
    series: list[list[list[float]]] = [[], []]
    for _ in range(sizes.cold):
        for side, argv in zip(series, (acp, alone), strict=True):
            late: list[float] = []
            asyncio.run(_paced(argv, str(folder), text, late))
            assert len(late) == count, "chunks were lost"
            side.append(late)
    pace = f"at {sizes.rate}/s"
    for percent, target in ((50, None), (99, Target(5, "ms"))):
        pair = [[_percentile(late, percent) for late in side] for side in series]
        yield compared(f"acp, delay {pace}, p{percent}", ALONE, "ms", pair, target)


def _started(argv: Sequence[str], cwd: str) -> float:
    """Milliseconds from the start of the program to its first answer."""
    began = time.perf_counter()
    with subprocess.Popen(argv, cwd=cwd, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(json.dumps(_INITIALIZE).encode() + b"\n")
        process.stdin.flush()
        assert b"protocolVersion" in process.stdout.readline()
        took = (time.perf_counter() - began) * 1000
        process.stdin.close()
    return took


async def _flood(argv: Sequence[str], cwd: str, text: str, expected: int) -> float:
    """Seconds of one turn, its session being there."""
    heard = [0]

    def count(said: str) -> None:
        heard[0] += len(said)

    async with Bare(argv, cwd) as bare:
        await bare.prompt("hello", lambda said: None)
        began = time.perf_counter()
        await bare.prompt(text, count)
        took = time.perf_counter() - began
    assert heard[0] == expected, (heard[0], expected)
    return took


async def _paced(argv: Sequence[str], cwd: str, text: str, late: list[float]) -> None:
    async with Bare(argv, cwd) as bare:
        await bare.prompt("1 1 1", lambda said: None)
        await bare.prompt(text, lambda said: _note(said, late))
