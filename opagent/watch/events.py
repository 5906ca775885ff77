"""watchdog behind one lock: what happens in directories, told as it comes; waits for nothing to settle, remembers nothing.

API: `Events` (one per daemon), `Kind`. Everything here may block and is called in threads; listeners are called in threads of
watchdog, must return at once and must not raise. watchdog is imported by the first `add`.
"""

from __future__ import annotations

import enum
import errno
import os
import platform
import threading
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from watchdog.events import FileSystemEvent, FileSystemEventHandler
    from watchdog.observers.api import BaseObserver, ObservedWatch

_PAIRED_WITHIN = 0.01  # seconds
_JOIN = 2.0


class Kind(enum.Enum):
    FILE = "file"  # it was closed after writing, came, went, or has another name
    MADE = "made"  # it is new, and its writer has yet to close it
    FOLDER = "folder"  # a directory came or went with all that is in it, or the watched one itself


Listener = Callable[[str, Kind], None]  # path relative to the watched directory; "" for itself


class Events:
    """`backend` makes the observer that is used; it raises OSError where the system has no more of them."""

    def __init__(self, backend: Callable[[], BaseObserver] | None = None) -> None:
        self._backend = backend or _native
        self._lock = threading.Lock()
        self._observer: BaseObserver | None = None
        self._handlers: dict[str, _Handler] = {}
        self._closed = False

    def add(self, directory: str, listener: Listener) -> None:
        """Tell what happens in a real directory and below it. Raises OSError: ENOSPC, EMFILE, ENOENT, ..."""
        with self._lock:
            if self._closed:
                raise OSError(errno.ESHUTDOWN, "nothing is watched any more")
            if self._observer is None:
                self._observer = self._backend()
                self._observer.start()
            handler = self._handlers.get(directory) or _Handler(directory)
            if not self._alive(handler):
                self._end(handler)
                handler.watch = _schedule(self._observer, handler)
            handler.listeners.add(listener)
            self._handlers[directory] = handler

    def remove(self, directory: str, listener: Listener) -> None:
        with self._lock:
            handler = self._handlers.get(directory)
            if handler is None:
                return
            handler.listeners.discard(listener)
            if not handler.listeners:
                self._end(self._handlers.pop(directory))

    def alive(self, directory: str) -> bool:
        """Whether the directory that was added is still listened to: a watch ends when what it watches is removed."""
        with self._lock:
            return directory in self._handlers and self._alive(self._handlers[directory])

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._handlers.clear()
            if self._observer is not None:
                self._observer.stop()
                self._observer.join(_JOIN)

    def _alive(self, handler: _Handler) -> bool:
        if self._observer is None or not self._observer.is_alive():
            return False
        return any(emitter.watch is handler.watch and emitter.is_alive() for emitter in self._observer.emitters)

    def _end(self, handler: _Handler) -> None:
        if self._observer is not None and handler.watch is not None and not self._closed:
            self._observer.unschedule(handler.watch)
            handler.watch = None


class _Handler:
    """What watchdog calls, in its own thread. One per directory: it keeps one emitter for equal watches."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.listeners: set[Listener] = set()
        self.watch: ObservedWatch | None = None

    def dispatch(self, event: FileSystemEvent) -> None:
        kind = Kind.FOLDER if event.is_directory else Kind.MADE if event.event_type == "created" else Kind.FILE
        for path in {os.fsdecode(event.src_path), os.fsdecode(event.dest_path)} - {""}:
            for listener in tuple(self.listeners):
                listener(path[len(self.directory) + 1 :], kind)


def _schedule(observer: BaseObserver, handler: _Handler) -> ObservedWatch:
    """Never without the filter: with the default mask watchdog counts its own walk as events and never settles."""
    from watchdog import events

    wanted: list[type[FileSystemEvent]] = [
        events.FileClosedEvent, events.FileMovedEvent, events.FileCreatedEvent, events.FileDeletedEvent,
        events.DirCreatedEvent, events.DirMovedEvent, events.DirDeletedEvent,
    ]  # fmt: skip
    called = cast("FileSystemEventHandler", handler)
    return observer.schedule(called, handler.directory, recursive=True, event_filter=wanted)


def _native() -> BaseObserver:
    """inotify with all it says about moves into and out of the directory; elsewhere what the system has."""
    if platform.system() != "Linux":
        from watchdog.observers import Observer

        return Observer()
    from watchdog.observers.inotify import InotifyObserver
    from watchdog.observers.inotify_move_event_grouper import InotifyMoveEventGrouper

    # It holds back everything behind a name that leaves the directory, for half a second, in case it comes in elsewhere.
    # One name leaves with each exchange of ours, so a save after one came 500 ms late.
    InotifyMoveEventGrouper.delay = _PAIRED_WITHIN
    # What it warns of, a directory that left and came back, is harmless and nobody here can change it.
    warnings.filterwarnings("ignore", "Callback with id", RuntimeWarning)
    return InotifyObserver(generate_full_events=True)
