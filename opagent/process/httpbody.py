"""Where a body ends: counted, in chunks, or with the connection; and the answer of a host as the agent gets it. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Protocol

from opagent.process.httprequest import Malformed

HEAD_LIMIT = 64 * 1024
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(;[^\x00-\x08\x0a-\x1f\x7f]*)?")
_LINE_LIMIT = 8 * 1024
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])(?: [^\r\n\x00]*)?")
_OURS = (b"connection", b"keep-alive", b"proxy-", b"upgrade")


class Body(Protocol):
    done: bool

    def feed(self, data: bytes) -> tuple[int, bytes]:
        """How many of these bytes belong to the body, and what they hold. Raises Malformed."""


class Counted:
    def __init__(self, length: int) -> None:
        self._left = length
        self.done = length == 0

    def feed(self, data: bytes) -> tuple[int, bytes]:
        used = min(self._left, len(data))
        self._left -= used
        self.done = self._left == 0
        return used, data[:used]


class Endless:
    """Until the connection ends."""

    done = False

    def feed(self, data: bytes) -> tuple[int, bytes]:
        return len(data), data


class Chunked:
    """RFC 9112, section 7.1."""

    def __init__(self) -> None:
        self.done = False
        self._line = bytearray()  # what came of a line so far
        self._left = 0  # bytes of the chunk
        self._state = self._size
        self._trailers = 0

    def feed(self, data: bytes) -> tuple[int, bytes]:
        place, held = 0, []
        while place < len(data) and not self.done:
            if self._left:
                piece = data[place : place + self._left]
                held.append(piece)
                place += len(piece)
                self._left -= len(piece)
                continue
            end = data.find(b"\n", place) + 1 or len(data)
            self._line += data[place:end]
            place = end
            if len(self._line) > _LINE_LIMIT:
                raise Malformed("a line between chunks is too long")
            if self._line.endswith(b"\n"):
                line = bytes(self._line)
                self._line.clear()
                if not line.endswith(b"\r\n"):
                    raise Malformed("a line between chunks ends oddly")
                self._state(line[:-2])
        return place, b"".join(held)

    def _size(self, line: bytes) -> None:
        found = _SIZE.fullmatch(line)
        if found is None:
            raise Malformed("the size of a chunk is no number")
        self._left = int(found[1], 16)
        self._state = self._after if self._left else self._trailer

    def _after(self, line: bytes) -> None:
        if line:
            raise Malformed("a chunk is longer than it says")
        self._state = self._size

    def _trailer(self, line: bytes) -> None:
        self._trailers += len(line)
        if self._trailers > _LINE_LIMIT:
            raise Malformed("too much after the last chunk")
        self.done = not line


def of_length(length: int | None) -> Body:
    return Chunked() if length is None else Counted(length)


class Answer:
    """What a host says, piece by piece: `feed` gives what goes on, `done` is true at its end. `hear`: the content as it comes."""

    def __init__(self, method: str, hear: Callable[[bytes], None]) -> None:
        self.done = False
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self._method, self._hear = method, hear
        self._head = bytearray()
        self._body: Body | None = None

    def feed(self, data: bytes) -> bytes:
        """Raises Malformed."""
        out = bytearray()
        while data and not self.done:
            if self._body is not None:
                used, held = self._body.feed(data)
                self._hear(held)
                self.done = self._body.done
                return bytes(out) + data[:used] if out else data[:used]  # no copy of what only passes
            self._head += data
            end = self._head.find(b"\r\n\r\n") + 4
            if end < 4:
                if len(self._head) > HEAD_LIMIT:
                    raise Malformed("the head of the answer is too long")
                break
            head, data = bytes(self._head[:end]), bytes(self._head[end:])
            self._head.clear()
            out += self._begun(head)
        return bytes(out)

    def _begun(self, head: bytes) -> bytes:
        first, *lines = head[:-4].split(b"\r\n")
        found = _STATUS.fullmatch(first)
        if found is None:
            raise Malformed("the answer is no HTTP")
        self.status = int(found[1])
        if self.status == 101:
            raise Malformed("the host changes the protocol")
        if self.status < 200:
            return head
        pairs = [(name.strip().lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines)]
        self.headers = dict(pairs)
        self._body = self._framed(pairs)
        self.done = self._body.done
        kept = [line for line, (name, _) in zip(lines, pairs, strict=True) if not name.startswith(_OURS)]
        return b"\r\n".join([first, *kept, b"connection: close", b"", b""])

    def _framed(self, pairs: list[tuple[bytes, bytes]]) -> Body:
        if self._method == "HEAD" or self.status in (204, 304):
            return Counted(0)
        if any(name == b"transfer-encoding" for name, _ in pairs):
            return Chunked() if self.headers[b"transfer-encoding"].lower() == b"chunked" else Endless()
        lengths = {value for name, value in pairs if name == b"content-length"}
        if len(lengths) == 1 and (length := lengths.pop()).isdigit() and len(length) < 16:
            return Counted(int(length))
        if lengths:
            raise Malformed("the answer has two lengths")
        return Endless()
