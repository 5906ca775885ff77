"""Newline-delimited JSON-RPC 2.0 on stdin and stdout inside an event loop; it knows no method of ACP."""

import asyncio
import contextlib
import itertools
import json
import os
import select
import sys
from collections.abc import AsyncIterator
from typing import Any

Message = dict[str, Any]

LINE_LIMIT = 32 * 1024 * 1024
INVALID_REQUEST, UNKNOWN_METHOD, INVALID_PARAMS, INTERNAL = -32600, -32601, -32602, -32603
AUTH_REQUIRED = -32000


class Refused(Exception):
    """A request that is answered with an error: code and sentence."""

    def __init__(self, code: int, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


def log(text: str) -> None:
    """stderr is for people; a closed one must not end a turn."""
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(f"assistant: {text}\n")
        sys.stderr.flush()


def parse(line: bytes) -> Message | None:
    """One message; None for what is no JSON object: that line is skipped."""
    if not line.strip():
        return None
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as error:
        log(f"skipped a malformed line ({type(error).__name__})")
        return None
    return message if isinstance(message, dict) else None


async def lines(reader: asyncio.StreamReader, limit: int = LINE_LIMIT) -> AsyncIterator[bytes]:
    """Complete lines until the end; one that is too long is dropped, the next one counts."""
    held = bytearray()
    dropping = False
    while chunk := await reader.read(1 << 18):
        *ended, rest = chunk.split(b"\n")
        for piece in ended:
            held += piece
            if dropping or len(held) > limit:
                log("dropped a line that is too long")
            else:
                yield bytes(held)
            held.clear()
            dropping = False
        held += rest
        if len(held) > limit:
            held.clear()
            dropping = True


def encode(message: Message) -> bytes:
    text = json.dumps({"jsonrpc": "2.0", **message}, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "replace") + b"\n"


class Connection:
    """The client's side: what is sent to it, and the answers that we wait for."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Message]] = {}

    def send(self, message: Message) -> None:
        """Raises OSError when the client is gone. A client that does not read holds us up: nothing is kept for it."""
        data = memoryview(encode(message))
        while data:
            try:
                data = data[os.write(self._fd, data) :]
            except BlockingIOError:
                select.select([], [self._fd], [])

    def result(self, request: object, result: Message) -> None:
        self.send({"id": request, "result": result})

    def error(self, request: object, code: int, sentence: str) -> None:
        self.send({"id": request, "error": {"code": code, "message": sentence}})

    def update(self, session: str, update_kind: str, /, **body: Any) -> None:
        update = {"sessionUpdate": update_kind, **body}
        self.send({"method": "session/update", "params": {"sessionId": session, "update": update}})

    async def request(self, method: str, params: Message) -> Message:
        """The client's whole answer, with `result` or `error`."""
        number = next(self._numbers)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            self.send({"id": number, "method": method, "params": params})
            found: Message = await answer
            return found
        finally:
            del self._waiting[number]

    def answered(self, message: Message) -> None:
        """An answer of the client; one that nobody waits for is dropped."""
        ident = message.get("id")
        waiting = self._waiting.get(ident) if isinstance(ident, int) else None
        if waiting is not None and not waiting.done():
            waiting.set_result(message)


async def standard_input() -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader
