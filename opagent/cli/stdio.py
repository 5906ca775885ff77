"""The pipe to an editor: what it says as bytes, what it is told in a buffer that never blocks; knows no message.

Standard output may be shared with others, so it is not set to non-blocking: a pipe or terminal is opened once more, a socket is
told so with each piece, and of all else what is ready takes a small piece at once.
"""

from __future__ import annotations

import os
import select
import socket
import stat
from collections import deque
from collections.abc import Callable

_READ = 1 << 16
_PIECE = 1 << 18  # bytes that are offered at once

Put = Callable[[memoryview], int]  # takes what there is room for; raises BlockingIOError, BrokenPipeError


class Stdio:
    """`waiting`: bytes that the editor has not taken yet."""

    def __init__(self, incoming: int = 0, outgoing: int = 1) -> None:
        self.incoming, self.outgoing = incoming, outgoing
        self.waiting = 0
        self._pieces: deque[memoryview] = deque()
        self._put, self.close = _way(outgoing)

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
        while self._pieces:
            piece = self._gathered()
            try:
                sent = self._put(piece)
            except BlockingIOError:
                sent = 0
            self.waiting -= sent
            if sent < len(piece):
                self._pieces.appendleft(piece[sent:])
                return

    def _gathered(self) -> memoryview:
        """The next piece; small ones together."""
        parts, size = [self._pieces.popleft()], 0
        while self._pieces and (size := size + len(parts[-1])) < _PIECE:
            parts.append(self._pieces.popleft())
        return parts[0] if len(parts) == 1 else memoryview(b"".join(parts))


def _way(outgoing: int) -> tuple[Put, Callable[[], None]]:
    """How to write there without waiting, and how to end that; the descriptor itself stays open."""
    mode = os.fstat(outgoing).st_mode
    if stat.S_ISSOCK(mode):
        stream = socket.socket(fileno=os.dup(outgoing))
        return lambda piece: stream.send(piece, socket.MSG_DONTWAIT), stream.close
    if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):  # a terminal that is ready has no room for a whole piece
        try:
            again = os.open(f"/proc/self/fd/{outgoing}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError:  # another user's, or no Linux
            pass
        else:
            return lambda piece: os.write(again, piece), lambda: os.close(again)
    room = select.poll()
    room.register(outgoing, select.POLLOUT)
    return lambda piece: _small(outgoing, room, piece), lambda: None


def _small(outgoing: int, room: select.poll, piece: memoryview) -> int:
    """Pieces that fit into a pipe which is ready, as long as it is."""
    sent = 0
    while sent < len(piece):
        found = next((event for _, event in room.poll(0)), 0)
        if not found & select.POLLOUT:
            if found & (select.POLLERR | select.POLLNVAL):
                raise BrokenPipeError("the editor does not listen any more")
            break
        sent += os.write(outgoing, piece[sent : sent + select.PIPE_BUF])
    return sent
