"""What hiding secrets costs a chunk of text: streams without a secret, and one that is full of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from opagent.document.clean import Cleaner
from opagent.policy.redact import Redactor, Secrets
from tests.bench.place import Place
from tests.bench.rows import Row, Target, compared, interleaved
from tests.bench.sizes import Sizes

_SECRETS = Secrets({f"s3cret/value+{number:02}=Qz7{number * 7919:x}": f"KEY_{number}" for number in range(5)})
_PROSE = "The quick brown fox jumps over the lazy dog, and then it sits down by the river for a while. "
_CODE = "def read(self, path: str) -> dict[str, Any]:\n    return {key: value for key, value in _items(path) if key != 'x-y'}\n"


def redaction(place: Place, sizes: Sizes) -> Iterator[Row]:
    """Microseconds of this process for 1,000 characters, five values known; against cleaning the same text, which comes before."""
    texts = {
        "a flood of 1 kB chunks": ["0123 " + "x" * 995],
        "prose": [_PROSE * 11],
        "code": [_CODE * 9],
        "a secret in every chunk": [f"{_PROSE * 5}{value}{_PROSE * 5}" for value in _SECRETS.values],
    }
    for name, chunks in texts.items():
        ours, bare = Redactor(_SECRETS).feed, Cleaner().feed
        pair = interleaved(sizes.times, lambda: _each(ours, chunks), lambda: _each(bare, chunks))  # noqa: B023
        target = Target(2, "us") if "flood" in name else None
        yield compared(f"redaction, {name}", "cleaning it", "us", pair, target)


def _each(work: Callable[[str], object], chunks: Sequence[str], rounds: int = 2000) -> float:
    begun = time.perf_counter()
    for _ in range(rounds // len(chunks)):
        for chunk in chunks:
            work(chunk)
    return (time.perf_counter() - begun) * 1e9 / (rounds // len(chunks)) / sum(map(len, chunks))
