"""A JSON object as one line of UTF-8: what a client needs to speak, without the messages of jsonrpc.py. Pure."""

from __future__ import annotations

import json
from typing import Any


def encode_line(body: dict[str, Any]) -> bytes:
    """With its newline. ValueError for NaN and infinity; a lone surrogate is written as an escape."""
    try:
        return (_WRITER.encode(body) + "\n").encode()
    except UnicodeEncodeError:
        return (_ASCII_WRITER.encode(body) + "\n").encode()


_WRITER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":"))
_ASCII_WRITER = json.JSONEncoder(ensure_ascii=True, allow_nan=False, check_circular=False, separators=(",", ":"))
