"""Code of ours that was put on this machine and is not used any more; removes that, and nothing else.

It lies in `BASE/rt/DIGEST`; a daemon that runs it holds a shared lock on its file `.ok`, whose time says when it was used last.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

KEPT = 7 * 86400.0  # seconds that code stays after its last use


def tidy(base: Path, digest: str, kept: float = KEPT) -> list[str]:
    """Remove code that was not used for a while and that no process runs: the names of what went."""
    gone = []
    now = _clock_of(base / "rt")
    for place in _codes(base):
        if place.name == digest:
            continue
        with _unused(place / ".ok") as unused:
            if unused and now - (place / ".ok").stat().st_mtime > kept:
                aside = place.with_name(f".tmp-old-{place.name[:16]}-{os.getpid()}")
                os.rename(place, aside)
                shutil.rmtree(aside, ignore_errors=True)
                gone.append(place.name)
    return gone


def used(base: Path) -> list[str]:
    """The digests of what some process runs, also one of another machine where the file system carries locks."""
    found = []
    for place in _codes(base):
        with _unused(place / ".ok") as unused:
            if not unused and (place / ".ok").exists():
                found.append(place.name)
    return found


def _codes(base: Path) -> Iterator[Path]:
    with contextlib.suppress(OSError):
        yield from (place for place in (base / "rt").iterdir() if re.fullmatch(r"[0-9a-f]{64}", place.name))


@contextlib.contextmanager
def _unused(lock: Path) -> Iterator[bool]:
    """Whether no daemon holds the file of this code; none can take it meanwhile."""
    try:
        fd = os.open(lock, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        yield False
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        unused = True
    except OSError:
        unused = False
    try:
        yield unused
    finally:
        os.close(fd)


def _clock_of(folder: Path) -> float:
    """What time it is for this file system: a server's clock may be another one."""
    probe = folder / f".tmp-clock-{os.getpid()}"
    try:
        probe.touch()
        found = probe.stat().st_mtime
        probe.unlink()
    except OSError:
        return 0.0
    return found
