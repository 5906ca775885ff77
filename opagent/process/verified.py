"""What a person trusted, as bytes: read beneath the workspace, compared with the digest, and put into the box as copies.

What runs is what was hashed: a swap after the look, or a `git pull` while the agent lives, changes nothing in the box. Decides
not what is trusted. The digests are those of `binding/closure.py`.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from opagent import files
from opagent.errors import FileRefused, NotTrusted

MOST, BYTES = 64, 8 << 20  # files of one launch and their bytes: each takes a descriptor


@dataclass(frozen=True, slots=True)
class File:
    """`target`: where a link leads, as it says; `content` None: to a directory."""

    name: str
    mode: int
    content: bytes | None
    target: str = ""


def read(top: int, digests: Mapping[str, str]) -> Iterator[File]:
    """Each as it was trusted. Raises NotTrusted for one that is another by now."""
    left = BYTES
    for name, digest in digests.items():
        try:
            found, note = _read(top, name, left)
        except (OSError, FileRefused) as error:
            raise _changed(name, str(error)) from error
        left -= len(found.content or b"")
        if hashlib.sha256(note + (found.content or b"")).hexdigest() != digest:
            raise _changed(name, "its bytes are others")
        yield found


def _read(top: int, name: str, left: int) -> tuple[File, bytes]:
    """The file, and what its digest begins with."""
    target, note = _link(top, name)
    fd = files.open_beneath(top, name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        mode = os.fstat(fd).st_mode
        if target and stat.S_ISDIR(mode):
            return File(name, 0, None, target), note
        return File(name, stat.S_IMODE(mode) & 0o555, files.read_regular(fd, max(left, 0), name), target), note
    finally:
        os.close(fd)


def _link(top: int, name: str) -> tuple[str, bytes]:
    folder, _, last = name.rpartition("/")
    fd = files.open_beneath(top, folder or ".", os.O_PATH | os.O_DIRECTORY, links=False)
    try:
        target = os.readlink(last, dir_fd=fd)
    except OSError:
        return "", b""
    finally:
        os.close(fd)
    return target, b"link to " + os.fsencode(target) + b"\n"


def _changed(name: str, why: str) -> NotTrusted:
    return NotTrusted(f"{name} has changed since it was trusted", why, "opagent trust .")
