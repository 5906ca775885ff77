"""The pipe to an editor: what it says as bytes, what it is told in a buffer that never blocks; knows no message.

Standard output may be shared with others, so it is not set to non-blocking: a pipe that has room takes a small piece at once.
"""

from __future__ import annotations

import os
import select
from collections import deque

_PIECE = select.PIPE_BUF  # bytes that a pipe which is ready takes without blocking
_READ = 1 << 16


class Stdio:
    """`waiting`: bytes that the editor has not taken yet."""

    def __init__(self, incoming: int = 0, outgoing: int = 1) -> None:
        self.incoming, self.outgoing = incoming, outgoing
        self.waiting = 0
        self._pieces: deque[memoryview] = deque()
        self._room = select.poll()
        self._room.register(outgoing, select.POLLOUT)

    def read(self) -> bytes:
        """What is there; empty at the end."""
        try:
            return os.read(self.incoming, _READ)
        except ConnectionError:
            return b""

    def write(self, data: bytes) -> None:
        self._pieces.append(memoryview(data))
        self.waiting += len(data)

    def flush(self) -> None:
        """As much as the pipe takes now. Raises BrokenPipeError."""
        while self._pieces and self._ready():
            piece = self._gathered()
            sent = os.write(self.outgoing, piece)
            self.waiting -= sent
            if sent < len(piece):
                self._pieces.appendleft(piece[sent:])

    def _ready(self) -> bool:
        found = self._room.poll(0)
        if found and found[0][1] & (select.POLLERR | select.POLLNVAL) and not found[0][1] & select.POLLOUT:
            raise BrokenPipeError("the editor does not listen any more")
        return bool(found and found[0][1] & select.POLLOUT)

    def _gathered(self) -> memoryview:
        """The next piece; small ones together."""
        first = self._pieces.popleft()
        if len(first) >= _PIECE:
            if len(first) > _PIECE:
                self._pieces.appendleft(first[_PIECE:])
            return first[:_PIECE]
        parts, size = [first], len(first)
        while self._pieces and size + len(self._pieces[0]) <= _PIECE:
            parts.append(self._pieces.popleft())
            size += len(parts[-1])
        return parts[0] if len(parts) == 1 else memoryview(b"".join(parts))
