"""Reads how many tokens a model's answer cost out of the answer as it passes, whole or as server-sent events. Pure.

    meter = Meter(("usage.input_tokens", "usage.output_tokens"))
    meter.feed(piece) ...; meter.counts(content_type)   -> (input, output), None where nothing was said

Numbers of one answer are running totals in every interface that streams: the greatest counts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

WHOLE_LIMIT = 8 * 2**20  # bytes of an answer that comes as one value; a longer one is not read
LINE_LIMIT = 2**20
MOST = 10**12  # a number beyond is none
_WRAPPERS = ("message", "response")  # interfaces that put the same object into an event

Counts = tuple[int | None, int | None]


class Meter:
    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = [path.split(".") for path in paths]
        self._found: list[int | None] = [None] * len(self._paths)
        self._kept = bytearray()  # the whole, or the line that has not ended yet
        self._skipping = False
        self.streamed = False  # set by who knows the content type, before the first piece

    def feed(self, data: bytes) -> None:
        if not self._paths:
            return
        if not self.streamed:
            if len(self._kept) <= WHOLE_LIMIT:
                self._kept += data
            return
        *ended, rest = data.split(b"\n")
        for piece in ended:
            self._add(piece)
            if not self._skipping:
                self._line(bytes(self._kept))
            self._kept.clear()
            self._skipping = False
        self._add(rest)

    def counts(self) -> Counts:
        """At the end of the answer."""
        if self._kept and not self._skipping:
            if self.streamed:
                self._line(bytes(self._kept))
            elif len(self._kept) <= WHOLE_LIMIT:
                self._value(bytes(self._kept))
            self._kept.clear()
        first, second, *_ = [*self._found, None, None]
        return first, second

    def _add(self, piece: bytes) -> None:
        if len(self._kept) + len(piece) > LINE_LIMIT:
            self._skipping = True
            self._kept.clear()
        elif not self._skipping:
            self._kept += piece

    def _line(self, line: bytes) -> None:
        if line.startswith(b"data:"):
            self._value(line[5:])

    def _value(self, text: bytes) -> None:
        if not any(path[-1].encode() in text for path in self._paths):
            return
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return
        for each in _objects(value):
            for index, path in enumerate(self._paths):
                number = _at(each, path)
                if number is not None:
                    self._found[index] = max(number, self._found[index] or 0)


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    for each in value if isinstance(value, list) else [value]:
        if isinstance(each, dict):
            yield each
            yield from (inner for name in _WRAPPERS if isinstance(inner := each.get(name), dict))


def _at(value: Any, path: Sequence[str]) -> int | None:
    for key in path:
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST else None
