"""A conversation file of 1 MB in memory: found regions, merged saves and new bytes, against what just moves the bytes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC

from opagent.document import edit
from opagent.document.memory import Memory
from opagent.document.merge import merge
from opagent.document.parse import rescan, scan
from tests.bench.place import Place
from tests.bench.rows import Row, Target, compared, interleaved
from tests.bench.sizes import Sizes

_SIZE, _EXCHANGE = 1_000_000, 4_000  # bytes
_TAG = "bnch"
_AT = "2026-01-01T00:00:00Z"
_ANSWER = "An answer of some lines, with words in it and no end.\n" * (_EXCHANGE // 54 - 5)
_BOX = b"- [ ] **Send**"


def merges(place: Place, sizes: Sizes) -> Iterator[Row]:
    """Milliseconds; every ratio is one of processor time without waiting."""
    content = _conversation()
    path = place.folder / "conversation.md"
    path.write_bytes(content)
    memory = Memory.of(content, _TAG, "bench", UTC)
    document, last = memory.document, memory.document.regions[-2].id
    typed, edited = content.replace(_BOX, b"A question.\n\n" + _BOX), content.replace(b"A question", b"The question", 1)

    def merged(save: bytes) -> None:
        memory.document = document
        merge(memory, save)

    def shown() -> None:
        memory.put(last, _ANSWER, ("done", _AT), False)
        memory.content()

    measures: tuple[tuple[str, str, Callable[[], object], Callable[[], object], Target | None], ...] = (
        ("regions of 1 MB", "raw read", lambda: scan(content, _TAG), lambda: _read(path), Target(60)),
        ("regions of 1 MB, the end changed", "raw read", lambda: rescan(document.regions, content, typed, _TAG), lambda: _read(path), Target(6)),
        ("merge of a save, draft typed, 1 MB", "all regions", lambda: merged(typed), lambda: scan(content, _TAG), Target(2)),
        ("merge of a save, first message edited, 1 MB", "all regions", lambda: merged(edited), lambda: scan(content, _TAG), None),
        ("a reply put and the bytes, 1 MB", "the bytes joined", shown, lambda: document.content(), None),
    )  # fmt: skip
    for name, against, measure, base, target in measures:
        memory.document = document
        pair = interleaved(sizes.times, lambda measure=measure: _took(measure, sizes), lambda base=base: _took(base, sizes))
        yield compared(name, against, "ms", pair, target)


def _read(path: os.PathLike[str]) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return file.read()


def _took(measure: Callable[[], object], sizes: Sizes) -> float:
    """The best of some, in milliseconds."""
    best = float("inf")
    for _ in range(sizes.times):
        began = time.perf_counter()
        measure()
        best = min(best, time.perf_counter() - began)
    return best * 1000


def _conversation() -> bytes:
    header = {"conversation": f"{_TAG}-merged", "agent": "echo", "created": _AT}
    one = edit.new(header, "bench", UTC).begin(_opening("0000")).put("r0000", _ANSWER, ("done", _AT))
    head, message, reply, area = one.regions
    turn = message.raw + reply.raw
    turns = b"".join(turn.replace(b"0000", b"%04d" % number) for number in range(_SIZE // _EXCHANGE))
    return head.raw + turns + area.raw.replace(b"r0000", b"r%04d" % (_SIZE // _EXCHANGE - 1))


def _opening(number: str) -> edit.Opening:
    return edit.Opening(f"m{number}", f"r{number}", "bench", "A question.", "echo", _AT, _AT)
