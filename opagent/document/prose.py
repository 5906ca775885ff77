"""Agent text as it streams: cleaned, escaped, and closed at every look; one `Prose` is one unbroken run of text in a reply.

API: `Prose`. Cost: of `feed` the chunk, of `markdown` the text so far and a parse of its last block.
"""

from __future__ import annotations

from opagent.document.clean import Cleaner
from opagent.document.closers import OpenBlocks
from opagent.document.markers import escape


class Prose:
    def __init__(self) -> None:
        self._cleaner = Cleaner()
        self._blocks = OpenBlocks()
        self._settled: list[str] = []  # whole lines, escaped
        self._line: list[str] = []  # pieces of the last, unfinished line, not yet escaped
        self._shown: str | None = None

    def feed(self, chunk: str) -> None:
        self._take(self._cleaner.feed(chunk))

    def finish(self) -> None:
        """Nothing more comes: what the cleaner held back belongs to the text."""
        self._take(self._cleaner.finish())

    def _take(self, text: str) -> None:
        if not text:
            return
        self._shown = None
        cut = text.rfind("\n") + 1
        if not cut:
            self._line.append(text)
            return
        lines = escape("".join((*self._line, text[:cut])))
        self._settled.append(lines)
        self._blocks.feed(lines)
        self._line = [text[cut:]] if text[cut:] else []

    @property
    def blank(self) -> bool:
        return not any(piece.strip() for piece in (*self._settled, *self._line))

    @property
    def text(self) -> str:
        """The text so far, escaped, without closing lines."""
        return "".join(self._settled) + escape("".join(self._line))

    def markdown(self) -> str:
        """The text with a line end and its closing lines; the text itself is never changed but for the escapes."""
        if self._shown is None:
            settled, line = "".join(self._settled), "".join(self._line)
            self._settled = [settled] if settled else []
            self._line = [line] if line else []
            last = f"{escape(line)}\n" if line else ""
            self._shown = "".join(filter(None, (settled, last, self._blocks.closers(last))))  # of one piece no copy
        return self._shown
