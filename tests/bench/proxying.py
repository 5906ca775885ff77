"""What the way out of the sandbox costs: a small request and many bytes, through relay, proxy, decision and record, and bare."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.bench.place import Place, Talk
from tests.bench.rows import Row, compared, interleaved
from tests.bench.sizes import Sizes
from tests.doubles import caller_agent, webserver

_RUNTIME = (
    'name: caller\ntitle: Caller\nabout: Makes requests\nversion: "1.0.0"\ncommand: {command}\nnetwork: [api.example.com]\n'
)
_MANY = bytes(50_000_000)
_GETS = 100  # requests of one number


def proxying(place: Place, sizes: Sizes) -> Iterator[Row]:
    """The median of a GET, and a download, as urllib sees them."""

    def answer(handler: Any, _: bytes) -> None:
        handler.say(_MANY if handler.path == "/many" else b"hello")

    with webserver.running(answer) as server:
        url = f"http://127.0.0.1:{server.port}"
        _prepare(place, server.port)
        with place.talk("caller") as talk:
            gets = _GETS if sizes.times > 1 else 2
            pair = interleaved(
                sizes.times, lambda: _median(_told(talk, f"{url}/", gets)), lambda: _median(_bare(f"{url}/", gets))
            )
            yield compared("a GET through the proxy", "without it", "ms", pair)
            pair = interleaved(sizes.times, lambda: _rate(_told(talk, f"{url}/many", 1)), lambda: _rate(_bare(f"{url}/many", 1)))
            yield compared("bytes through the proxy", "without it", "MB/s", pair)


def _prepare(place: Place, port: int) -> None:
    rules = f'version: 1\ncan: {{network: {{allow: ["127.0.0.1:{port}"]}}}}\n'
    (place.folder / "config/config.yaml").write_text(rules)
    (place.folder / "caller").mkdir()
    (place.folder / "caller/.agent.yaml").write_text(f"{rules}agent: caller\n")
    package = place.folder / "config/runtimes/caller"
    package.mkdir(parents=True)
    command = [sys.executable, "-I", str(Path(caller_agent.__file__).resolve())]
    (package / "runtime.yaml").write_text(_RUNTIME.format(command=command))


def _told(talk: Talk, url: str, count: int) -> list[tuple[float, int]]:
    turn = talk.start("\n".join([f"clock {url}"] * count))
    said = "".join(event.body["text"] for event in talk.events(turn) if event.kind == "text")
    return [tuple(json.loads(line)) for line in said.splitlines()]


def _bare(url: str, count: int) -> list[tuple[float, int]]:
    return [tuple(json.loads(caller_agent.clock(url))) for _ in range(count)]


def _median(found: list[tuple[float, int]]) -> float:
    return sorted(found)[len(found) // 2][0] * 1000


def _rate(found: list[tuple[float, int]]) -> float:
    return sum(size for _, size in found) / sum(took for took, _ in found) / 1e6
