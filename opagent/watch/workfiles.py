"""The directory `.opagent/` of a workspace: new versions on their way, what was set aside, whole outputs; looks into no file.

API: `prepare`, `temporary`, `keep`, `set_aside`, `store_blob`, `leftovers`.

It lies in the workspace because an exchange needs the same file system. All of it is 0700 and hidden from git by a
`.gitignore` of its own.
"""

from __future__ import annotations

import glob
import itertools
import os
import re
import secrets
import time
from contextlib import suppress
from pathlib import Path

from opagent import files, paths
from opagent.errors import FileRefused

TEMPORARY, SAVES, BLOBS = "tmp", "saves", "blobs"
BESIDE = ".opagent-"  # a new version beside its target, where `.opagent/` lies on another device
_NAME_BYTES = 160  # of a conversation's name in a derived one: a name may have 255 bytes already
_BLOB = re.compile(r"[0-9a-z]{1,64}\.txt")

_PROCESS = secrets.token_hex(4)  # tells our files of this moment from what a crash left; a pid may come again
_counter = itertools.count(1)


def prepare(workspace: Path) -> Path:
    """Make `.opagent/` and what is in it. Raises NotPrivate where it belongs to somebody else or others can enter."""
    work = files.private_directory(workspace / paths.WORK)
    with suppress(FileExistsError):
        fd = os.open(work / ".gitignore", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            files.write_all(fd, b"*\n")
        finally:
            os.close(fd)
    for name in (TEMPORARY, SAVES, BLOBS):
        files.private_directory(work / name)
    return work


def _short(name: str) -> str:
    return os.fsencode(name)[:_NAME_BYTES].decode("utf-8", "ignore")


def _derived(name: str) -> str:
    return f"{_short(name)}.{time.time_ns()}.{_PROCESS}.{next(_counter)}"


def temporary(workspace: Path, target: Path, beside: bool) -> Path:
    """A name for a new version: in `tmp/`, or hidden beside the target."""
    name = _derived(target.name)
    return target.with_name(BESIDE + name) if beside else workspace / paths.WORK / TEMPORARY / name


def keep(workspace: Path, name: str, content: bytes) -> str:
    """Bytes that were set aside -> `saves/`, durable; the path of the new file."""
    kept = workspace / paths.WORK / SAVES / _derived(name)
    files.write_whole(kept, content)
    return str(kept)


def set_aside(workspace: Path, name: str, path: Path) -> str:
    """The same for a file that lies under a temporary name: renamed, or copied from another device."""
    kept = workspace / paths.WORK / SAVES / _derived(name)
    try:
        os.rename(path, kept)
    except OSError:
        files.write_whole(kept, files.read_file(path, 1 << 30))
        os.unlink(path)
    return str(kept)


def store_blob(workspace: Path, name: str, text: str) -> Path:
    """A whole output under the name that `document` gave it; written once."""
    if not _BLOB.fullmatch(name):
        raise FileRefused(f"{name!r} is no name of an output")
    path = prepare(workspace) / BLOBS / name
    if not path.exists():
        files.write_whole(path, text.encode("utf-8", "replace"), sync=False)
    return path


def leftovers(workspace: Path, target: Path) -> tuple[Path, ...]:
    """What an earlier daemon left under temporary names of the conversation file `target`, older first.

    Any of them may be a person's only copy of a save.
    """
    prefix = glob.escape(_short(target.name)) + ".*"
    left = [*(workspace / paths.WORK / TEMPORARY).glob(prefix), *target.parent.glob(BESIDE + prefix)]
    found = [path for path in left if f".{_PROCESS}." not in path.name and path.is_file()]
    return tuple(sorted(found, key=lambda path: path.name.split(".")[-3]))
