"""What a person waits for: commands with a warm daemon, and the first words of `open -m`, against a bare interpreter."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

from tests.bench.place import Place
from tests.bench.rows import Row, Target, compared, interleaved
from tests.bench.sizes import Sizes

BARE = "python3 -I -c pass"
_FAST, _EXPLAIN, _COLD = Target(80, "ms"), Target(120, "ms"), Target(800, "ms")


def command_line(place: Place, sizes: Sizes) -> Iterator[Row]:
    """`--version`, `ps`, `explain`, `send --no-wait` with a daemon that runs."""
    place.run("open", ".", "-m", "hello")
    for name, target, words in (
        ("--version", _FAST, ("--version",)),
        ("ps", _FAST, ("ps",)),
        ("explain", _EXPLAIN, ("explain", ".")),
    ):
        pair = interleaved(sizes.times, lambda words=words: _whole(place.command(*words), place), lambda: _bare(place))  # type: ignore[misc]
        yield compared(name, BARE, "ms", pair, target)
    with place.talk() as talk:
        talk.turn("hello")

        def send() -> float:
            began = time.perf_counter()
            place.run("send", talk.conversation, "hello", "--no-wait")
            took = time.perf_counter() - began
            talk.until_end()
            return took * 1000

        yield compared("send --no-wait", BARE, "ms", interleaved(sizes.times, send, lambda: _bare(place)), _FAST)


def opening(place: Place, sizes: Sizes) -> Iterator[Row]:
    """`open -m` to the first line of the echo agent: nothing runs, the daemon runs, the agent runs."""

    def cold() -> float:
        place.stop_daemon()
        return _first_line(place.command("open", ".", "-m", "hello"), place)

    def warm(*more: str) -> float:
        return _first_line(place.command("open", ".", "-m", "hello", *more), place)

    yield compared("open -m, no daemon", BARE, "ms", interleaved(sizes.cold, cold, lambda: _bare(place)), _COLD)
    yield compared("open -m, daemon runs", BARE, "ms", interleaved(sizes.times, warm, lambda: _bare(place)))
    pair = interleaved(sizes.times, lambda: warm("--last"), lambda: _bare(place))
    yield compared("open -m --last, agent runs", BARE, "ms", pair)


def _bare(place: Place) -> float:
    return _whole([sys.executable, "-I", "-c", "pass"], place)


def _whole(argv: list[str], place: Place) -> float:
    """Milliseconds to the end."""
    began = time.perf_counter()
    subprocess.run(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True, cwd=place.workspace)
    return (time.perf_counter() - began) * 1000


def _first_line(argv: list[str], place: Place) -> float:
    """Milliseconds to the first line on stdout."""
    began = time.perf_counter()
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=place.workspace) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        took = time.perf_counter() - began
        process.stdout.read()
    assert b"hello" in line and process.returncode == 0, (line, process.returncode)
    return took * 1000
