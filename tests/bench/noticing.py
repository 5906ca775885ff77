"""What noticing saves costs: a watched directory beside a large tree against one beside nothing, a look at it, a save told.

python -m tests.bench.noticing DIRECTORY SECONDS    # one watch in a process of its own, as JSON on stdout
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import psutil

from opagent.model import Kind
from opagent.watch.changes import REST
from opagent.watch.observer import Observer
from opagent.watch.survey import scan
from tests.bench.place import PATIENCE, Place, Talk
from tests.bench.rows import Row, Target, compared, interleaved
from tests.bench.sizes import Sizes

_MILLION = 1e6
_SAVES = 9
_LOOKED_AT = 500  # files
_SAME = Target(1.5)
_BOX, _ONCE = "- [ ] **Send**", "1 1000 20"  # what paced.py is asked: one chunk


def saves(place: Place, sizes: Sizes) -> Iterator[Row]:
    alone, beside = place.folder / "alone", place.folder / "beside"
    for folder in (alone, beside):
        (folder / "conversations").mkdir(parents=True)
    for number in range(sizes.tree // 10):
        leaf = beside / f"{number % 100}/{number}"
        leaf.mkdir(parents=True)
        for each in range(10):
            (leaf / f"{each}.txt").touch()
    measured = [(_apart(beside, sizes), _apart(alone, sizes)) for _ in range(sizes.cold)]
    tree = f"beside {sizes.tree} files"
    for name, unit, key, target in (
        (f"watching {tree}, until ready", "ms", "ready", None),
        (f"watching {tree}, memory", "MB", "memory", _SAME),
        (f"watching {tree}, idle processor time", "ms/s", "idle", None),
        (f"a save {tree}, until told", "ms", "told", _SAME),
    ):
        pair = [[one[key] for one, _ in measured], [other[key] for _, other in measured]]
        yield compared(name, "beside none", unit, pair, target, _told(key))
    many = place.folder / "many"
    many.mkdir()
    for number in range(_LOOKED_AT):
        (many / f"{number}.md").touch()
    pair = interleaved(sizes.times, lambda: _timed(lambda: scan(str(many))), lambda: _timed(lambda: _bare(many)))
    yield compared(f"a look at {_LOOKED_AT} files", "scandir and stat", "ms", pair)
    with place.talk("paced") as talk:
        file = Path(talk.client.request("conversation/show", {"conversation": talk.conversation})["conversation"]["path"])
        pair = interleaved(_SAVES, lambda: _heard(talk, lambda: _send(file)), lambda: _heard(talk, lambda: talk.start(_ONCE)))
    yield compared("a draft saved, until the agent has it", "turn/start", "ms", pair, Target(150, "ms"), _told("told"))


def _send(file: Path) -> None:
    """As an editor that writes in place."""
    before, box, after = file.read_text().rpartition(_BOX)
    file.write_text(f"{before}{_ONCE}\n\n{box.replace('[ ]', '[x]')}{after}")


def _heard(talk: Talk, send: Callable[[], object]) -> float:
    """Milliseconds until the agent says its one chunk, by its own clock."""
    began = time.monotonic()
    send()
    said = [str(event.body["text"]) for event in talk.events() if event.kind == Kind.TEXT]
    return (float(said[0][1:].split()[0]) - began) * 1000


def _told(key: str) -> str:
    return f"{REST * 1000:.0f} ms of it wait for more events" if key == "told" else ""


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000


def _bare(folder: Path) -> None:
    with os.scandir(folder) as entries:
        for entry in entries:
            entry.stat()


def _apart(folder: Path, sizes: Sizes) -> dict[str, float]:
    argv = [sys.executable, "-m", "tests.bench.noticing", str(folder / "conversations"), str(sizes.watched_seconds)]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(argv, stdout=subprocess.PIPE, check=True, text=True, timeout=PATIENCE, cwd=root)
    found: dict[str, float] = json.loads(done.stdout)
    return found


async def _one(folder: Path, seconds: float) -> dict[str, float]:
    told = asyncio.Event()
    tasks: list[asyncio.Task[None]] = []

    def spawn(work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        tasks.append(asyncio.create_task(work, name=name))
        return tasks[-1]

    memory, began = psutil.Process().memory_info().rss, time.perf_counter()
    observer = Observer(spawn, lambda path: told.set())
    watch = observer.watch(str(folder))
    await watch.ready.wait()
    ready = time.perf_counter() - began
    grown = psutil.Process().memory_info().rss - memory
    spent = time.process_time()
    await asyncio.sleep(seconds)
    idle = (time.process_time() - spent) / seconds
    waits = []
    for number in range(_SAVES):
        told.clear()
        began = time.perf_counter()
        (folder / "c.md").write_text(f"{number}\n")
        await asyncio.wait_for(told.wait(), PATIENCE)
        waits.append(time.perf_counter() - began)
    await observer.close()
    await asyncio.gather(*tasks, return_exceptions=True)
    return {"ready": ready * 1000, "memory": grown / _MILLION, "idle": idle * 1000, "told": statistics.median(waits) * 1000}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_one(Path(sys.argv[1]), float(sys.argv[2])))))
