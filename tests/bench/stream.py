"""Text on its way from an agent to a client that subscribed, through the daemon and through a bare asyncio loop."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import Callable, Iterator

from opagent import paths
from tests.bench.bare import Bare
from tests.bench.place import Place, processor
from tests.bench.rows import Row, Target, compared, interleaved
from tests.bench.sizes import Sizes

LOOP = "bare asyncio ACP loop"
_STAMP = re.compile(r"@(\d+\.\d+) ")


def flood(place: Place, sizes: Sizes) -> Iterator[Row]:
    """Chunks of text a second, from the prompt to the last one that arrived, and what each costs the daemon."""
    text = f"/flood {sizes.chunks} {sizes.chunk_bytes}"
    expected = sizes.chunks * sizes.chunk_bytes
    echo = [sys.executable, "-I", "-S", str(paths.bundled_runtimes() / "echo")]
    daemon = place.daemon()
    spent: tuple[list[float], list[float]] = ([], [])
    with place.talk() as talk:

        def ours() -> float:
            before = processor(daemon)
            events = talk.events(talk.start(text))
            took = _followed((str(event.body["text"]) for event in events if event.kind == "text"), expected)
            spent[0].append((processor(daemon) - before) * 1e6 / sizes.chunks)
            return sizes.chunks / took

        def bare() -> float:
            before = time.process_time()
            took = _bare(echo, place, text, expected)
            spent[1].append((time.process_time() - before) * 1e6 / sizes.chunks)
            return sizes.chunks / took

        talk.turn("hello")
        pair = interleaved(sizes.cold, ours, bare)
    size = f"{sizes.chunk_bytes} byte chunks"
    yield compared(size, LOOP, "chunks/s", pair, Target(0.25, least=True))
    yield compared(f"{size}, processor time", LOOP, "us", spent, Target(4))


def delay(place: Place, sizes: Sizes) -> Iterator[Row]:
    """Milliseconds from the agent's write to the client's hand, of a paced stream: median and 99th percentile."""
    count = int(sizes.rate * sizes.paced_seconds)
    text = f"{count} {sizes.rate} {sizes.chunk_bytes}"
    paced = [sys.executable, "-I", "-S", __file__.replace("stream.py", "paced.py")]
    series: list[list[list[float]]] = [[], []]
    with place.talk("paced") as talk:
        talk.turn("1 1 1")
        for _ in range(sizes.cold):
            late: list[float] = []
            for event in talk.events(talk.start(text)):
                _note(str(event.body["text"]) if event.kind == "text" else "", late)
            series[0].append(late)
            late = []
            asyncio.run(_prompt(paced, str(place.workspace), text, lambda said, late=late: _note(said, late)))  # type: ignore[misc]
            series[1].append(late)
    assert all(len(late) == count for side in series for late in side), "chunks were lost"
    pace = f"at {sizes.rate}/s"
    yield compared(f"delay {pace}, p50", LOOP, "ms", [[_percentile(late, 50) for late in side] for side in series])
    most = Target(10, "ms")
    yield compared(f"delay {pace}, p99", LOOP, "ms", [[_percentile(late, 99) for late in side] for side in series], most)


def _note(text: str, late: list[float]) -> None:
    now = time.monotonic()
    late.extend((now - float(stamp)) * 1000 for stamp in _STAMP.findall(text))


def _percentile(values: list[float], percent: int) -> float:
    return sorted(values)[min(len(values) - 1, len(values) * percent // 100)]


def _followed(texts: Iterator[str], expected: int) -> float:
    """Seconds until all the text was there; the rest of the turn is waited for and not counted."""
    began = time.perf_counter()
    size, took = 0, 0.0
    for said in texts:
        size += len(said)
        if size >= expected and not took:
            took = time.perf_counter() - began
    assert size == expected, (size, expected)
    return took


def _bare(argv: list[str], place: Place, text: str, expected: int) -> float:
    heard = [0]

    def count(said: str) -> None:
        heard[0] += len(said)

    took = asyncio.run(_prompt(argv, str(place.workspace), text, count))
    assert heard[0] == expected
    return took


async def _prompt(argv: list[str], cwd: str, text: str, heard: Callable[[str], None]) -> float:
    """Seconds of one turn; starting and ending the agent is not counted."""
    async with Bare(argv, cwd) as bare:
        began = time.perf_counter()
        await bare.prompt(text, heard)
        return time.perf_counter() - began
