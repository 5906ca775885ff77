"""Reads the names of other repositories (gitlinks) in a git index, of which not one byte is believed; no I/O.

The format: gitformat-index(5), versions 2 to 4.
"""

from __future__ import annotations

import hashlib
import struct

_GITLINK = 0o160000
_MOST = 10_000_000  # entries


def gitlinks(content: bytes) -> frozenset[bytes]:
    """Raises ValueError for what is no index, or one that lies in several files."""
    if len(content) < 32 or content[:4] != b"DIRC":
        raise ValueError("no index")
    version, count = struct.unpack(">II", content[4:12])
    if version not in (2, 3, 4) or count > _MOST:
        raise ValueError("an index of another version")
    size = 32 if hashlib.sha256(content[:-32]).digest() == content[-32:] else 20
    found, at, name = set(), 12, b""
    for _ in range(count):
        mode, name, at = _entry(content, at, size, version, name)
        if mode & 0o170000 == _GITLINK:
            found.add(name)
    _extensions(content, at, size)
    return frozenset(found)


def _entry(content: bytes, at: int, size: int, version: int, before: bytes) -> tuple[int, bytes, int]:
    """Mode and name of the entry that begins here, and where the next one does."""
    fixed = at + 40 + size
    if fixed + 2 > len(content):
        raise ValueError("the index is cut off")
    (mode,), (flags,) = struct.unpack_from(">I", content, at + 24), struct.unpack_from(">H", content, fixed)
    begin = fixed + (4 if flags & 0x4000 else 2)
    if version == 4:
        drop, begin = _number(content, begin)
        end = content.find(b"\0", begin)
        if end < 0 or drop > len(before):
            raise ValueError("the index is cut off")
        return mode, before[: len(before) - drop] + content[begin:end], end + 1
    end = content.find(b"\0", begin)
    if end < 0:
        raise ValueError("the index is cut off")
    return mode, content[begin:end], at + (end - at + 8) // 8 * 8


def _number(content: bytes, at: int) -> tuple[int, int]:
    """The variable-width number of OFS_DELTA, and where it ends."""
    value = -1
    while at < len(content):
        byte = content[at]
        at += 1
        value = ((value + 1) << 7) | (byte & 0x7F)
        if not byte & 0x80:
            return value, at
    raise ValueError("the index is cut off")


def _extensions(content: bytes, at: int, size: int) -> None:
    while at + 8 <= len(content) - size:
        name, (length,) = content[at : at + 4], struct.unpack_from(">I", content, at + 4)
        if name == b"link":
            raise ValueError("the index is split into several files")
        at += 8 + length
