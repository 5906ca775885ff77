"""One watched directory as a thread sees it: listening or not and why, and what is in it; blocks, and knows no loop.

API: `Survey`: `look() -> WatchState` and `leave()`; `scan`.
"""

from __future__ import annotations

import enum
import os
import threading
import time
from contextlib import suppress
from dataclasses import dataclass

from opagent import mounts
from opagent.watch.changes import Signature, relevant
from opagent.watch.events import Events, Kind, Listener

PROBE = ".opagent-probe"
MOST = 100_000  # files of one directory; whoever puts more there cannot make us list for ever
_PROBED_WITHIN = 1.0  # seconds
_AGAIN = 60.0  # seconds; limits are raised, and a busy machine becomes idle


class How(enum.Enum):
    EVENTS = "events"
    POLLING = "polling"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class WatchState:
    """`why`: what stands against events, or why there is no directory. `files` by path relative to the directory."""

    how: How
    why: str
    files: dict[str, Signature]
    took: float = 0.0  # seconds, to list it


class Survey:
    """`listener` is called in other threads, with what happens between two looks."""

    def __init__(self, directory: str, events: Events, listener: Listener) -> None:
        self._directory, self._events, self._listener = directory, events, listener
        self._lock = threading.Lock()  # one thread at a time; the one that leaves may find one that looks
        self._identity: tuple[str, int, int] | None = None  # what was there at the last look
        self._listening = ""  # the real directory that is listened to
        self._why = ""
        self._again = 0.0
        self._probed = threading.Event()

    def look(self, doubt: bool = False) -> WatchState:
        """Listen to what stands at the path now, if that can be, and list it. `doubt`: an event seems to have been lost."""
        with self._lock:
            try:
                real = self._settle(doubt)
                began = time.monotonic()
                files = scan(real)
            except OSError as error:
                self._stop()
                self._identity = None
                return WatchState(How.ABSENT, error.strerror or str(error), {})
            return WatchState(How.EVENTS if self._listening else How.POLLING, self._why, files, time.monotonic() - began)

    def leave(self) -> None:
        with self._lock:
            self._stop()

    def _settle(self, doubt: bool) -> str:
        """Listening, or `_why` says why not. A directory that was moved, replaced or made anew is listened to anew."""
        real = os.path.realpath(self._directory)
        found = os.stat(real)
        identity = real, found.st_dev, found.st_ino
        if identity != self._identity or self._lost(real, doubt):
            self._stop()
            self._identity, self._again = identity, 0.0
        if not self._listening and time.monotonic() >= self._again:
            self._why = self._listen(real)
            self._again = time.monotonic() + _AGAIN
        return real

    def _lost(self, real: str, doubt: bool) -> bool:
        return bool(self._listening) and (not self._events.alive(real) or (doubt and not self._probe(real)))

    def _listen(self, real: str) -> str:
        if kind := mounts.untold(real):
            return f"changes that others make on {kind} are not told"
        try:
            self._events.add(real, self._hear)
        except OSError as error:
            return error.strerror or str(error)
        self._listening = real
        if not self._probe(real):
            self._stop()
            return "a file that was written there was not told of"
        return ""

    def _stop(self) -> None:
        if self._listening:
            self._events.remove(self._listening, self._hear)
        self._listening = ""

    def _probe(self, real: str) -> bool:
        """Whether a file written there is told of; also True where none can be written."""
        probe = os.path.join(real, PROBE)
        self._probed.clear()
        try:
            with suppress(FileNotFoundError):
                os.unlink(probe)
            os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
            os.unlink(probe)
        except OSError:
            return True
        return self._probed.wait(_PROBED_WITHIN)

    def _hear(self, path: str, kind: Kind) -> None:
        if path == PROBE:
            self._probed.set()
        elif kind is Kind.FOLDER or relevant(path):
            self._listener(path, kind)


def scan(directory: str) -> dict[str, Signature]:
    """The files that may be conversations, at most MOST. Raises OSError for the directory itself, not for others below."""
    found: dict[str, Signature] = {}
    folders = [""]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(os.path.join(directory, folder)) as entries:
                for entry in entries:
                    if len(found) >= MOST:
                        return found
                    if entry.name.startswith("."):
                        continue
                    path = folder + entry.name
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(f"{path}/")
                    elif relevant(entry.name) and (signature := _signature(entry)):
                        found[path] = signature
        except OSError:
            if not folder:
                raise
    return found


def _signature(entry: os.DirEntry[str]) -> Signature | None:
    """Of what a link leads to, if it leads somewhere; None for what has gone meanwhile."""
    for follow in (True, False):
        try:
            found = entry.stat(follow_symlinks=follow)
        except OSError:
            continue
        return Signature(found.st_mtime_ns, found.st_size, found.st_ino)
    return None
