"""Reads the marked lines of a program that we start on another machine, out of whatever else comes on the same stream.

A marked line holds `OPA1`, the nonce of this attempt and what it says. All before the first one is noise (start-up files of the
shell): skipped, and its end kept for the error.
"""

from __future__ import annotations

import asyncio

from opagent.errors import HostRefused, HostUnfit, HostUnreachable
from opagent.remote import refusals
from opagent.remote.seam import Ended, Stream

NOISE = 1024 * 1024  # bytes that are no marked line
KEPT = 4096  # of them, for the error
MARKER_WITHIN = 15.0  # seconds until the first one
GOES_ON_WITHIN = 120.0  # seconds until any other: it unpacks, it waits for another one that does the same
_SHOWN = 400  # characters in a sentence


class Silent(Exception):
    """The program ended, and nothing of ours was heard."""

    def __init__(self, ended: Ended, noise: bytes) -> None:
        super().__init__()
        self.ended, self.noise = ended, noise

    def explained(self, name: str) -> HostRefused:
        return refusals.no_shell(name, self.ended, self.noise)


class Marks:
    """Of one stream. `name`: the machine, for sentences."""

    def __init__(self, stream: Stream, nonce: str, name: str) -> None:
        self.stream, self.name = stream, name
        self._mark = f"OPA1 {nonce} ".encode()
        self._buffer = bytearray()
        self._noise = bytearray()
        self._skipped = 0
        self._heard = False

    @property
    def rest(self) -> bytes:
        """What came after the last line that was read."""
        return bytes(self._buffer)

    async def next(self) -> str:
        """What the next line says. Raises Silent, HostUnfit, HostUnreachable."""
        within = GOES_ON_WITHIN if self._heard else MARKER_WITHIN
        try:
            async with asyncio.timeout(within):
                while (line := self._taken()) is None:
                    if self._skipped > NOISE:
                        why = f"more than {NOISE // 1024} KiB came from a start-up file of its shell{quoted(self._noise)}"
                        raise HostUnfit(f"{self.name} prints too much", why, self._hint)
                    data = await self.stream.read()
                    if not data:
                        raise await self._ended()
                    self._buffer += data
        except TimeoutError:
            raise self._late(within) from None
        self._heard = True
        return line

    @property
    def _hint(self) -> str:
        return f"opagent host check {self.name}"

    def _taken(self) -> str | None:
        start = self._buffer.find(self._mark)
        end = self._buffer.find(b"\n", start) if start >= 0 else -1
        noise = start if start >= 0 else max(0, len(self._buffer) - len(self._mark))
        self._skipped += noise
        self._noise = (self._noise + self._buffer[:noise])[-KEPT:]
        if end < 0:
            del self._buffer[:noise]
            return None
        line = bytes(self._buffer[start + len(self._mark) : end]).decode(errors="replace").strip()
        del self._buffer[: end + 1]
        return line

    def _late(self, within: float) -> HostUnfit:
        if self._heard:
            why = f"nothing came within {within:g} s{quoted(self._noise + self._buffer)}"
            return HostUnfit(f"{self.name} does not go on", why, self._hint)
        why = f"a start-up file of its shell waits or starts another program{quoted(self._noise + self._buffer)}"
        return HostUnfit(f"{self.name} does not run our program within {within:g} s", why, self._hint)

    async def _ended(self) -> Exception:
        """Why the stream ended before it had said what we wait for."""
        ended = await self.stream.ended()
        noise = bytes(self._noise + self._buffer)
        if not self._heard:
            return Silent(ended, noise)
        how = "the connection ended" if ended.status is None else f"status {ended.status}"
        return HostUnreachable(
            f"the program on {self.name} ended before it was ready", f"{how}{quoted(noise + ended.stderr)}", self._hint
        )


def quoted(noise: bytes | bytearray) -> str:
    """The end of a sentence that says what was printed."""
    text = " ".join(harmless(noise[-KEPT:].decode(errors="replace")).split())
    return f"; it printed: {text[-_SHOWN:]}" if text else ", without a word"


def harmless(text: str) -> str:
    """The words of a stranger, without what a terminal would obey."""
    return "".join(char if char.isprintable() else " " for char in text)
