"""A JSON object as one line of UTF-8: what a client needs to speak, without the messages of jsonrpc.py. Pure."""

from __future__ import annotations

import contextlib
import json
from typing import Any

STRING = 8 * 2**20  # bytes of one text


def read_line(line: bytes) -> tuple[Any, bytes]:
    """The JSON value in it; of an event whose body is nothing but a text also that body as it stands there. Raises ValueError."""
    said = line.decode()
    cut = said.find(_BODY)
    if cut > 0:
        with contextlib.suppress(ValueError):  # the whole of it is read, or refused, below
            text, end = _JSON.raw_decode(said, cut + len(_BODY) - 1)
            message = json.loads(said[:cut] + _END) if said[end:] == "}" + _END else {}
            if isinstance(params := message.get("params"), dict):
                params["body"] = {"text": text}
                return message, line[line.index(_BODY.encode()) + len(_BEFORE) : -len(_END)]
    return json.loads(said), b""


_BEFORE, _END = ',"body":', "}}"
_BODY = _BEFORE + '{"text":"'
_JSON = json.JSONDecoder()


def encode_line(body: dict[str, Any]) -> bytes:
    """With its newline. ValueError for NaN and infinity; a lone surrogate is written as an escape."""
    try:
        return (_WRITER.encode(body) + "\n").encode()
    except UnicodeEncodeError:
        return (_ASCII_WRITER.encode(body) + "\n").encode()


def encode_text(text: str) -> bytes:
    """One text with its quotes, the same bytes as in a line of `encode_line`; a long one takes a third of the time."""
    try:
        raw = text.encode()
    except UnicodeEncodeError:
        return _ASCII_WRITER.encode(text).encode()
    if len(raw.translate(None, _RARE)) != len(raw):
        return _WRITER.encode(text).encode()
    for bare, escape in _ESCAPES:
        raw = raw.replace(bare, escape)
    return b'"%b"' % raw


def too_long_text(line: bytes) -> bool:
    """Whether one of its strings, as it stands there, is longer than STRING: no reader takes it."""
    return len(line) > STRING and max(map(len, without_escapes(line).split(b'"'))) > STRING


def without_escapes(line: bytes) -> bytes:
    """Without those that would hide where a text ends."""
    return line.replace(b"\\\\", b"").replace(b'\\"', b"")


CONTROLS = bytes(range(0x20))  # a text has them as escapes only
_ESCAPES = ((b"\\", b"\\\\"), (b'"', b'\\"'), (b"\n", b"\\n"), (b"\t", b"\\t"))  # the backslash first
_RARE = CONTROLS.translate(None, b"\t\n")
_WRITER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":"))
_ASCII_WRITER = json.JSONEncoder(ensure_ascii=True, allow_nan=False, check_circular=False, separators=(",", ":"))
