"""Newline-delimited JSON-RPC 2.0 over two descriptors: frames in, messages out; it knows no method of ACP."""

import json
import os
import sys
import threading
from collections.abc import Iterator
from typing import Any

Message = dict[str, Any]

LINE_LIMIT = 16 * 1024 * 1024
READ_SIZE = 1 << 18

PARSE_ERRORS = (ValueError, RecursionError)  # ValueError: no JSON, no UTF-8, a number of more than 4,300 digits
INVALID_PARAMS = -32602
UNKNOWN_METHOD = -32601
INVALID_REQUEST = -32600
INTERNAL = -32603


class Refused(Exception):
    """A request that is answered with an error: code and sentence."""

    def __init__(self, code: int, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


def log(text: str) -> None:
    """stderr is for people; a closed one must not end a turn."""
    try:
        sys.stderr.write(f"librarian: {text}\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        pass


def lines(fd: int, limit: int = LINE_LIMIT) -> Iterator[bytes]:
    """Complete lines of fd until its end; a line over `limit` bytes is dropped up to its newline, the next one counts.

    What stands after the last newline is not a message.
    """
    held: list[bytes] = []
    size = 0
    while chunk := os.read(fd, READ_SIZE):
        *ended, rest = chunk.split(b"\n")
        for piece in ended:
            if size + len(piece) <= limit:
                held.append(piece)
                yield b"".join(held)
            else:
                log(f"dropped a line of {size + len(piece)} bytes")
            held, size = [], 0
        size += len(rest)
        if size <= limit:
            held.append(rest)
        else:
            held = []


def parse(line: bytes) -> Message | None:
    """One message, or None for what is no JSON object (blank, malformed, too deep): that line is skipped."""
    if not line.strip():
        return None
    try:
        message = json.loads(line)
    except PARSE_ERRORS as error:
        log(f"skipped a malformed line of {len(line)} bytes ({type(error).__name__})")
        return None
    if not isinstance(message, dict):
        log("skipped a line that is no object")
        return None
    return message


class Writer:
    """Messages to a descriptor, whole lines, from several threads."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lock = threading.Lock()

    def send(self, message: Message) -> None:
        """Raises OSError when the client is gone."""
        text = json.dumps({"jsonrpc": "2.0", **message}, ensure_ascii=False, separators=(",", ":"))
        data = memoryview(text.encode("utf-8", "replace") + b"\n")  # lone surrogates become "?"
        with self._lock:
            while data:
                data = data[os.write(self._fd, data) :]

    def result(self, request: object, result: Message) -> None:
        self.send({"id": request, "result": result})

    def error(self, request: object, code: int, sentence: str) -> None:
        self.send({"id": request, "error": {"code": code, "message": sentence}})

    def notify(self, method: str, params: Message) -> None:
        self.send({"method": method, "params": params})
