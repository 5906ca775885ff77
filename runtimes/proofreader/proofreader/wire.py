"""Newline-delimited JSON-RPC 2.0 over two descriptors: lines in, messages out; it knows no method of ACP."""

import contextlib
import json
import os
import sys
import threading
from collections.abc import Iterator
from typing import Any

Message = dict[str, Any]

LINE_LIMIT = 16 * 1024 * 1024
INVALID_REQUEST, UNKNOWN_METHOD, INVALID_PARAMS, INTERNAL = -32600, -32601, -32602, -32603


class Refused(Exception):
    """A request that is answered with an error: code and sentence."""

    def __init__(self, code: int, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


def log(text: str) -> None:
    """stderr is for people; a closed one must not end a turn."""
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(f"proofreader: {text}\n")
        sys.stderr.flush()


def messages(fd: int, limit: int = LINE_LIMIT) -> Iterator[Message]:
    """The JSON objects of fd until its end. What is none, or too long, is logged and skipped; the next line counts."""
    held = bytearray()
    dropping = False
    while chunk := os.read(fd, 1 << 18):
        *ended, rest = chunk.split(b"\n")
        for piece in ended:
            held += piece
            if dropping or len(held) > limit:
                log("dropped a line that is too long")
            elif (message := _parse(bytes(held))) is not None:
                yield message
            held.clear()
            dropping = False
        held += rest
        if len(held) > limit:
            held.clear()
            dropping = True


def _parse(line: bytes) -> Message | None:
    if not line.strip():
        return None
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as error:
        log(f"skipped a malformed line ({type(error).__name__})")
        return None
    return message if isinstance(message, dict) else None


class Writer:
    """Messages to a descriptor, whole lines, from several threads."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lock = threading.Lock()

    def send(self, message: Message) -> None:
        """Raises OSError when the client is gone."""
        text = json.dumps({"jsonrpc": "2.0", **message}, ensure_ascii=False, separators=(",", ":"))
        data = memoryview(text.encode("utf-8", "replace") + b"\n")
        with self._lock:
            while data:
                data = data[os.write(self._fd, data) :]

    def result(self, request: object, result: Message) -> None:
        self.send({"id": request, "result": result})

    def error(self, request: object, code: int, sentence: str) -> None:
        self.send({"id": request, "error": {"code": code, "message": sentence}})

    def notify(self, method: str, params: Message) -> None:
        self.send({"method": method, "params": params})
