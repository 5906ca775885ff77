"""How much is measured: the whole, or just enough to see that everything works; no numbers elsewhere."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sizes:
    times: int = 9  # of each interleaved pair, the first one dropped beside
    cold: int = 7
    chunks: int = 20_000
    chunk_bytes: int = 1000
    rate: int = 4000  # chunks a second, paced
    paced_seconds: float = 2.0
    idle: tuple[int, ...] = (0, 10, 100)  # conversations
    turns: int = 1000
    window: int = 100  # turns that are averaged
    appends: int = 5000
    tree: int = 100_000  # files beside the watched directory
    watched_seconds: float = 4.0


WHOLE = Sizes()
QUICK = Sizes(
    times=1, cold=1, chunks=500, rate=1000, paced_seconds=0.2, idle=(0, 1, 2), turns=8, window=2, appends=100, tree=100,
    watched_seconds=0.1,
)  # fmt: skip
