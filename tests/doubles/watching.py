"""A daemon's observer on its own: what it told, waited for with a deadline; and observers of watchdog that fail on purpose.

python -m tests.doubles.watching DIRECTORY    # one line per thing it tells, until stdin ends
"""

from __future__ import annotations

import asyncio
import errno
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

from watchdog.observers.api import BaseObserver
from watchdog.observers.inotify import InotifyFullEmitter, InotifyObserver
from watchdog.observers.inotify_c import InotifyEvent, InotifyFD

from opagent.watch.events import Events
from opagent.watch.observer import Observer
from tests.doubles.patience import PATIENCE


async def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"it did not happen in time: {what}"
        await asyncio.sleep(0.005)


class Watching:
    """An observer with one directory, used in an `async with`."""

    def __init__(self, directory: Path, events: Events | None = None) -> None:
        self.directory = directory
        self.told: Counter[str] = Counter()  # by path relative to the directory
        self._fences: list[str] = []
        self._tasks: list[asyncio.Task[None]] = []
        self.observer = Observer(self._spawn, self._changed, events)

    async def __aenter__(self) -> Watching:
        self.watch = self.observer.watch(str(self.directory))
        await asyncio.wait_for(self.watch.ready.wait(), PATIENCE)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.observer.close()
        for task in self._tasks:
            assert task.cancelled() or not task.done() or task.exception() is None, task
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        self._tasks.append(asyncio.create_task(work, name=name))
        return self._tasks[-1]

    def _changed(self, path: str) -> None:
        self.told[os.path.relpath(path, self.directory)] += 1

    async def settle(self) -> dict[str, int]:
        """What was told so far, once nothing that has happened yet can be told any more, by an event or by a look at it all.

        A new name without a close is told after the longest wait there is, so whatever came before it was told by then.
        """
        fence = f"fence-{len(self._fences)}.md"
        self._fences.append(fence)
        (self.directory / f"fence-{len(self._fences)}.d").mkdir()  # wakes the look at it all
        os.mkfifo(self.directory / fence)
        await until(lambda: self.told[fence] and fence in self.watch.state.files, fence)
        return {path: count for path, count in self.told.items() if path not in self._fences}


class Exhausted(InotifyObserver):
    """The user has no inotify watch left."""

    def schedule(self, *_: Any, **__: Any) -> NoReturn:
        raise OSError(errno.ENOSPC, "inotify watch limit reached")


class Gate(InotifyFD):
    """The thread that reads inotify's queue, held up while `open` is not set."""

    def __init__(self) -> None:
        super().__init__()
        self.open = threading.Event()
        self.open.set()

    def read_events(self, **more: Any) -> list[InotifyEvent]:
        found = super().read_events(**more)
        self.open.wait()
        return found

    def observer(self) -> BaseObserver:
        self.start()
        return BaseObserver(InotifyFullEmitter, inotify_fd=self)


async def _main(directory: Path) -> None:
    async with Watching(directory) as watching:
        print(watching.watch.state.how.value, watching.watch.state.why, flush=True)
        seen: Counter[str] = Counter()
        ended = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        while not ended.done():
            for path in watching.told - seen:
                print("told", path, flush=True)
            seen = watching.told.copy()
            await asyncio.sleep(0.01)


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1])))
