"""Bytes of a file as JSON, for another machine: whole, or what differs from bytes that it has; compressed.

API: `pack`, `unpack`, `shared_ends`. A conversation grows in one place, so what both ends have in common is what need not travel.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Mapping
from typing import Any

from opagent.document.records import file_digest
from opagent.errors import Usage

_STEP = 1 << 14  # bytes that are compared at once


def pack(content: bytes, base: bytes | None = None) -> dict[str, Any]:
    """`{digest, size, data}`; with a `base`, `{from, head, tail}` of its bytes stand around the data."""
    said: dict[str, Any] = {"digest": file_digest(content), "size": len(content)}
    head = tail = 0
    if base:
        head, tail = shared_ends(base, content)
        said |= {"from": file_digest(base), "head": head, "tail": tail}
    middle = content[head : len(content) - tail]
    return said | {"data": base64.b64encode(zlib.compress(middle)).decode()}


def unpack(said: Any, base: bytes | None, limit: int) -> bytes:
    """Raises Usage for what is no packed content, is larger than `limit` bytes, comes from other bytes, or has another digest."""
    if not isinstance(said, Mapping):
        raise Usage("the content of the file is missing")
    head, tail = (said.get(key, 0) for key in ("head", "tail"))
    if not all(type(number) is int and number >= 0 for number in (head, tail)):
        raise Usage("the content of the file is damaged")
    base = base or b""
    if (head or tail) and (head + tail > len(base) or said.get("from") != file_digest(base)):
        raise Usage("the content of the file comes from another version")
    middle = _unzipped(said.get("data"), limit - head - tail)
    content = b"".join((base[:head], middle, base[len(base) - tail :]))
    if said.get("digest") != file_digest(content):
        raise Usage("the content of the file has another digest")
    return content


def _unzipped(data: Any, limit: int) -> bytes:
    try:
        inflate = zlib.decompressobj()
        found = inflate.decompress(base64.b64decode(str(data), validate=True), max(1, limit + 1))
    except (binascii.Error, zlib.error, ValueError) as error:
        raise Usage("the content of the file is damaged") from error
    if len(found) > limit or inflate.unconsumed_tail:
        raise Usage("the file is too large")
    if not inflate.eof:
        raise Usage("the content of the file is damaged")
    return found


def shared_ends(base: bytes, content: bytes) -> tuple[int, int]:
    """How many bytes both begin with, and with how many of the others both end."""
    head = _common(base, content)
    return head, _common(base[head:][::-1], content[head:][::-1])


def _common(one: bytes, other: bytes) -> int:
    """How many bytes both begin with."""
    most, at = min(len(one), len(other)), 0
    while at < most and one[at : at + _STEP] == other[at : at + _STEP]:
        at += _STEP
    at = min(at, most)
    while at < most and one[at] == other[at]:
        at += 1
    return at
