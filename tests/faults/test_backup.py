"""D13: a copy of the database that is made while people work, or cut off with its daemon, is whole or not there."""

from __future__ import annotations

import contextlib
import functools
import os
import sqlite3
import stat
import threading
from pathlib import Path

import pytest

from opagent import paths
from opagent.client import Client
from opagent.errors import FileRefused, OpAgentError, Usage
from opagent.store import audit
from opagent.store.blobs import Blobs
from tests.doubles.patience import until
from tests.doubles.terminal import run, run_json
from tests.faults.conftest import Place
from tests.faults.workers import Worker

COPIES = 5


def copied(path: Path) -> tuple[int, int]:
    """The last number of the journal and how many turns there are, of a copy that must be whole."""
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as db:
        assert db.execute("pragma integrity_check").fetchone() == ("ok",)
        found = audit.verify(db, Blobs(paths.database().parent / "cas"))
        assert found.broken is None, found.broken
        return found.rows, int(db.execute("select count(*) from turn").fetchone()[0])


def later(place: Place, last: int) -> int:
    """The end of the journal, once it is behind `last`."""
    found = int(place.client.request("audit/head", {})["seq"])
    return found if found > last else 0


def test_a_copy_while_people_work(place: Place) -> None:
    workers = [Worker(place, seed) for seed in range(3)]
    last = 0
    for number in range(COPIES):
        before = until(functools.partial(later, place, last))
        acknowledged = len(place.checker.turns)
        path = place.directory.parent / f"copy-{number}.db"
        said = place.client.request("audit/backup", {"path": str(path)})
        assert (said["path"], said["size"]) == (str(path), path.stat().st_size)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        rows, turns = copied(path)
        assert rows >= before and turns >= acknowledged
        last = before
    for worker in workers:
        worker.finish()
    place.settle()


def test_a_copy_that_is_cut_off_leaves_no_file_of_that_name(place: Place) -> None:
    conversation = place.create("oracle")
    place.say(conversation, "/flood 2000 2000")
    path = place.directory.parent / "copy.db"

    def ask() -> None:
        with contextlib.suppress(OpAgentError), Client("copier") as client:
            client.request("audit/backup", {"path": str(path)})

    asking = threading.Thread(target=ask)
    asking.start()
    place.kill_daemon()
    asking.join()
    place.back()
    if path.exists():
        copied(path)
    assert place.say(conversation, "and on")["state"] == "done"
    place.settle()


def test_it_takes_the_place_of_nothing(place: Place) -> None:
    path = place.directory.parent / "copy.db"
    path.write_text("mine")
    with pytest.raises(Usage, match="is there already"):
        place.client.request("audit/backup", {"path": str(path)})
    assert path.read_text() == "mine" and not list(path.parent.glob(".copy.db*"))
    with pytest.raises(FileRefused, match="cannot be written"):
        place.client.request("audit/backup", {"path": str(path.parent / "nowhere/copy.db")})
    os.symlink(path, path.with_name("link.db"))
    with pytest.raises(Usage):
        place.client.request("audit/backup", {"path": str(path.with_name("link.db"))})


def test_the_command(place: Place) -> None:
    done = run("audit", "backup", str(place.directory.parent / "a.db"))
    assert done.returncode == 0 and done.stdout.startswith("~/a.db   ")
    assert run_json("audit", "backup", str(place.directory.parent / "b.db"))["size"] > 0
    assert run("audit", "backup", str(place.directory.parent / "b.db")).returncode == 2
