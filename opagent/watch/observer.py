"""Notices saves: tells the daemon which conversation files to look at; reads and judges none of them.

API, all of it on the event loop::

    observer = Observer(spawn, changed)     # changed(path), when it has come to rest: it was made, saved, moved or removed
    watch = observer.watch(directory)       # the same object for the same directory; it need not exist
    await watch.ready.wait()                # what is saved from now on is noticed, what stands there now is not told
    watch.state                             # How it is watched, and why not by events
    watch.active()                          # somebody talks there: a polled directory is looked at more often
    observer.unwatch(directory); await observer.close()

Events say where to look; a look at the whole directory every two seconds finds what they missed, and is all there is where
they cannot work. Whatever may hang runs in a thread. (Design: "Watching".)
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import stat
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from opagent.watch.changes import MOST, REST, Quiet, Sightings, Signature
from opagent.watch.events import Events, Kind
from opagent.watch.survey import How, Survey, WatchState

NET = 2.0  # seconds between two looks at a directory that is listened to, or that is not there
POLL, POLL_IDLE = 0.5, 5.0  # at one that is not listened to: while somebody talks there, and else
ACTIVE = 600.0  # seconds after the last sign of life
_SHARE = 20  # a look that takes long is repeated later: it takes at most a twentieth of the time
_CLOSE = 3.0

T = TypeVar("T")
Spawn = Callable[[Coroutine[Any, Any, None], str], asyncio.Task[None]]


class Observer:
    """One per daemon. It costs nothing until something is watched."""

    def __init__(self, spawn: Spawn, changed: Callable[[str], None], events: Events | None = None) -> None:
        self._spawn, self._changed = spawn, changed
        self._events = events or Events()
        self._watches: dict[str, Watch] = {}

    def watch(self, directory: str) -> Watch:
        directory = os.path.abspath(directory)
        known = self._watches.get(directory)
        if known is None:
            known = self._watches[directory] = Watch(directory, self._events, self._changed)
            known.task = self._spawn(known.keep(), f"watch {directory}")
        return known

    def unwatch(self, directory: str) -> None:
        watch = self._watches.pop(os.path.abspath(directory), None)
        if watch is not None:
            watch.end()

    def watches(self) -> tuple[Watch, ...]:
        return tuple(self._watches.values())

    async def close(self) -> None:
        """Nothing is told any more. A thread that hangs in a dead file system is left behind."""
        for directory in list(self._watches):
            self.unwatch(directory)
        await asyncio.wait({_apart(self._events.close)}, timeout=_CLOSE)


class Watch:
    """One directory. Made by `Observer.watch`."""

    def __init__(self, directory: str, events: Events, changed: Callable[[str], None]) -> None:
        self.directory = directory
        self.state = WatchState(How.ABSENT, "not looked at yet", {})
        self.ready = asyncio.Event()
        self.task: asyncio.Task[None]
        self._changed = changed
        self._loop = asyncio.get_running_loop()
        self._survey = Survey(directory, events, self._hear)
        self._quiet, self._sightings = Quiet(), Sightings()
        self._timer: asyncio.TimerHandle | None = None
        self._wake = asyncio.Event()
        self._active = self._loop.time()
        self._doubt = False  # the last look found what no event had told
        self._lock = threading.Lock()
        self._heard: dict[str, Kind] = {}  # by threads of watchdog, until the loop takes it
        self._ended = False

    def active(self) -> None:
        """Somebody talks there."""
        idle = self._loop.time() - self._active > ACTIVE
        self._active = self._loop.time()
        if idle:
            self._wake.set()

    def end(self) -> None:
        """Nothing is told any more."""
        self._ended = True
        self.task.cancel()
        if self._timer is not None:
            self._timer.cancel()
        threading.Thread(target=self._survey.leave, name="unwatch", daemon=True).start()

    async def keep(self) -> None:
        """Looks at the whole directory, for ever."""
        try:
            while True:
                doubt, self._doubt = self._doubt, False
                self._take(await _apart(lambda: self._survey.look(doubt)))  # noqa: B023
                self.ready.set()
                await self._pause(max(self._period(), _SHARE * self.state.took))
        finally:
            self.ready.set()  # nobody waits for a watch that ended

    def _period(self) -> float:
        if self.state.how is not How.POLLING:
            return NET
        return POLL if self._loop.time() - self._active <= ACTIVE else POLL_IDLE

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):  # wait_for of Python 3.11 forgets to be cancelled when it is woken just then
                await self._wake.wait()
            await asyncio.sleep(REST)  # a tree that comes or goes wakes us many times
        self._wake.clear()

    def _take(self, found: WatchState) -> None:
        """What a look at the whole directory found, against what was told so far."""
        self.state = found
        if not self.ready.is_set():
            self._sightings.start(found.files)
            return
        for path in self._sightings.changed(found.files):
            if self._quiet.full:
                self._wake.set()  # the others with the next look
                break
            if path not in self._quiet:
                self._quiet.event(path, self._loop.time())
                self._doubt = True
        self._arm()

    # ---- events ----------------------------------------------------------------------------------------------------------

    def _hear(self, path: str, kind: Kind) -> None:
        """Called in a thread of watchdog."""
        with self._lock:
            first = not self._heard
            if len(self._heard) >= MOST:
                path, kind = "", Kind.FOLDER
            self._heard[path] = kind
        if first:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._take_heard)

    def _take_heard(self) -> None:
        with self._lock:
            heard, self._heard = self._heard, {}
        for path, kind in heard.items():
            if kind is Kind.FOLDER or self._quiet.full:
                self._wake.set()
            else:
                self._quiet.event(path, self._loop.time(), unfinished=kind is Kind.MADE)
        self._arm()

    def _arm(self) -> None:
        """A deadline may come nearer by the next event, so nothing longer than a rest is waited for."""
        if self._timer is None and not self._ended and (deadline := self._quiet.next_deadline()) is not None:
            self._timer = self._loop.call_at(min(deadline, self._loop.time() + REST), self._ring)

    def _ring(self) -> None:
        self._timer = None
        for path in self._quiet.due(self._loop.time()):
            self._loop.call_soon(self._at_rest, path)
        self._arm()

    def _at_rest(self, path: str) -> None:
        signature = self._signature(path)
        if self._ended or not self._sightings.differs(path, signature):
            return
        self._sightings.note(path, signature, time.time_ns())
        self._active = self._loop.time()
        self._changed(os.path.join(self.directory, path))

    def _signature(self, path: str) -> Signature | None:
        """As the file is now. Where looking may hang, as the last look at the whole directory found it."""
        if self.state.how is How.EVENTS:
            try:
                found = os.lstat(os.path.join(self.directory, path))
            except OSError:
                return None
            if not stat.S_ISLNK(found.st_mode):
                return Signature(found.st_mtime_ns, found.st_size, found.st_ino)
            self._wake.set()
        return self.state.files.get(path)


def _apart(work: Callable[[], T]) -> asyncio.Future[T]:
    """`work` in a thread of its own, which nobody waits for at the end: it may hang on a dead mount for ever."""
    done: concurrent.futures.Future[T] = concurrent.futures.Future()

    def run() -> None:
        done.set_running_or_notify_cancel()
        try:
            done.set_result(work())
        except Exception as error:  # the edge of the thread: whoever waits gets it
            done.set_exception(error)

    threading.Thread(target=run, name="watch", daemon=True).start()
    return asyncio.wrap_future(done)
