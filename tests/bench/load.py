"""What many conversations and many turns cost: memory of the daemon, time of a turn in a long conversation."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil

from opagent import paths
from tests.bench.bare import Bare
from tests.bench.place import Place, processor
from tests.bench.rows import Row, Target, compared, interleaved
from tests.bench.sizes import Sizes
from tests.bench.stream import LOOP

_IDLE = "import asyncio, sqlite3; print(flush=True); input()"
_TICK = 0.01  # seconds: what the kernel counts processor time in
_PROMPT = "What is said here stays here, word by word, and a little more of it. " * 9  # echoed: 1.3 kB a turn


def memory(place: Place, sizes: Sizes) -> Iterator[Row]:
    """Resident memory of the daemon alone; its agents beside it in the note."""
    place.stop_daemon()
    argv = [sys.executable, "-I", "-c", _IDLE]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as bare:
        assert bare.stdin is not None and bare.stdout is not None
        bare.stdout.readline()
        base = _megabytes(psutil.Process(bare.pid))
        bare.stdin.write(b"\n")
    daemon = place.daemon()
    made = 0
    first = previous = 0.0
    for wanted in sizes.idle:
        while made < wanted:
            with place.talk() as talk:
                talk.turn("hello")
            made += 1
        value, agents = _megabytes(daemon), daemon.children()
        first, previous = (first or value), value
        note = f"{len(agents)} agent processes, {sum(map(_megabytes, agents)):.0f} MB" if agents else ""
        yield Row(f"memory, {wanted} idle conversations", "python3 -I, asyncio, sqlite3", value, base, "MB", None, note)
    grown = (previous - first) / max(1, sizes.idle[-1])
    yield Row("memory of one idle conversation", "the empty daemon", grown, first, "MB", Target(0.25, "MB"))


def turns(place: Place, sizes: Sizes) -> Iterator[Row]:
    """The first turns of a conversation against a bare loop, the last ones against a new conversation, turn by turn."""
    daemon, window = place.daemon(), sizes.window
    first: list[float] = []
    spent: list[float] = []
    with place.talk() as talk:
        talk.turn("hello")
        for _ in range(0, sizes.turns - window, window):
            before = processor(daemon)
            took = [talk.turn(_PROMPT) * 1000 for _ in range(window)]
            spent.append(max(_TICK, processor(daemon) - before) * 1000 / window)
            first = first or took
        with place.talk() as fresh:
            fresh.turn("hello")
            pair = interleaved(window, lambda: talk.turn(_PROMPT) * 1000, lambda: fresh.turn(_PROMPT) * 1000)
    base = [took * 1000 for took in asyncio.run(_bare_turns(place, window))]
    yield compared(f"a turn, first {window}", LOOP, "ms", [first, base])
    yield compared(f"a turn, last {window} of {sizes.turns}", "a new conversation", "ms", pair, Target(4))
    name = f"a turn, processor time, worst {window} of {sizes.turns}"
    yield Row(name, f"the first {window}", max(spent), spent[0], "ms", Target(4))


def beside(place: Place, sizes: Sizes) -> Iterator[Row]:
    """A turn of one conversation while two others are flooded without end."""
    with place.talk() as talk, place.talk() as one, place.talk() as two:
        for each in (talk, one, two):
            each.turn("hello")
            each.client.unsubscribe(each.conversation)
        talk.client.subscribe(talk.conversation, None)
        alone = [talk.turn(_PROMPT) * 1000 for _ in range(sizes.window)]
        for noisy in (one, two):
            noisy.start("/flood 100000000 1000")
        loud = [talk.turn(_PROMPT) * 1000 for _ in range(sizes.window)]
        for noisy in (one, two):
            noisy.client.request("turn/cancel", {"conversation": noisy.conversation})
    yield compared("a turn beside two floods", "the same alone", "ms", [loud, alone])
    yield Row("a turn beside two floods, slowest", "the same alone, slowest", max(loud), max(alone), "ms")


async def _bare_turns(place: Place, count: int) -> list[float]:
    async with Bare([sys.executable, "-I", "-S", str(paths.bundled_runtimes() / "echo")], str(place.workspace)) as bare:
        return [await _timed(bare) for _ in range(count)]


async def _timed(bare: Bare) -> float:
    began = time.perf_counter()
    await bare.prompt(_PROMPT, lambda said: None)
    return time.perf_counter() - began


def _megabytes(process: psutil.Process) -> float:
    return float(process.memory_info().rss) / 1e6
