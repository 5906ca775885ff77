"""An effect that cannot be recorded does not happen; one whose end nobody recorded is unknown, shown, and not done again.

Run as a program this file is what gets killed or refused: see `main`.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from opagent.daemon import effects
from opagent.daemon.effects import Act, Effects
from opagent.daemon.redaction import Known
from opagent.errors import StoreFailed
from opagent.model import ConversationId, Decision, Effect, TurnId
from opagent.store.database import Database
from opagent.store.effects import State
from opagent.store.events import AuditKind, Journal
from tests.doubles.patience import PATIENCE, until
from tests.doubles.terminal import run_json
from tests.faults.conftest import Place

STEPS = {"before": [], "pending": ["unknown"], "happened": ["unknown"], "ended": ["done"]}


@pytest.mark.parametrize("step", STEPS)
def test_a_kill_at_each_step(step: str, tmp_path: Path) -> None:
    """K12a and K12b: whoever starts next knows what is not known, and says so once."""
    done = program(step, tmp_path / "state")
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert (tmp_path / "oracle").exists() is (step in ("happened", "ended"))
    for start in (1, 2):
        states, unknown = asyncio.run(recovered(tmp_path / "state"))
        assert states == STEPS[step]
        assert unknown == (1 if STEPS[step] == ["unknown"] and start == 1 else 0), "it is told once"
    assert (tmp_path / "oracle").exists() is (step in ("happened", "ended")), "nothing was done again"


async def recovered(state: Path) -> tuple[list[str], int]:
    """The states of all effects after a start, and how many this start made unknown."""
    database = Database(state / "opagent.db")
    journal = Journal(database, "host", "boot")
    database.start(asyncio.get_running_loop())
    found = await database.write(lambda db: effects.lost(journal, db), barrier=True)
    states = database.read(lambda db: [row[0] for row in db.execute("select state from effect order by id")])
    ends = database.read(lambda db: db.execute("select count(*) from journal where ref is not null").fetchone()[0])
    assert ends == len([state for state in states if state != "pending"]), "each ends in the journal, once"
    await database.close()
    return states, len(found)


@pytest.mark.parametrize("how", ["refused", "full"])
def test_an_effect_that_cannot_be_recorded_does_not_happen(how: str, tmp_path: Path) -> None:
    place = tmp_path / "small"
    place.mkdir(mode=0o700)
    mount = 'mount -t tmpfs -o size=12m,mode=700 tmpfs "$1" && shift && exec "$@"'
    small = ["unshare", "-Urm", "sh", "-c", mount, "sh", str(place)]
    done = program(how, place / "state", before=small if how == "full" else [])
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"refused": True, "happened": False, "after": ["done", "done"]}


def program(what: str, state: Path, before: list[str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [*(before or []), sys.executable, __file__, what, str(state)]
    return subprocess.run(command, capture_output=True, text=True, timeout=4 * PATIENCE)


def test_a_command_that_ran_when_the_daemon_was_killed_is_unknown_and_shown(place: Place) -> None:
    """The command ends with its agent; nobody saw how. It is told in the file, by ps and by audit, and not run again."""
    conversation = place.create("oracle")
    (place.directory / "run.sh").write_text("echo ran >> ran; exec sleep 600\n")
    turn = place.start(conversation, "/terminal sh run.sh")
    place.allow(until(place.approvals)[0]["id"])
    until(lambda: (place.directory / "ran").exists())
    place.kill_daemon()
    place.back()
    assert place.ended(conversation, turn["id"])["state"] == "interrupted"
    place.file(conversation, "It is not known whether this happened: the command")
    found = run_json("audit", "--state", "unknown")["records"]
    assert [(row["kind"], row["who"]["turn"]) for row in found] == [("exec.end", turn["id"])]
    shown = run_json("ps", "-a")["processes"]
    assert [row["unknown"] for row in shown if row["conversation"] == conversation["id"]] == [1]
    place.say(conversation, "and now something else")
    assert (place.directory / "ran").read_text() == "ran\n"
    assert all("unknown" not in row for row in run_json("ps", "-a")["processes"]), "of the last turn only"


# ---- what is killed --------------------------------------------------------------------------------------------------------


def act(number: int) -> Act:
    decision = Decision(Effect.ALLOW, "rule", "layer", "acp")
    obj = {"path": f"/somewhere/{number}"}
    return Act(AuditKind.FS_WRITE, obj, {}, decision, None, ConversationId("c"), TurnId("a1"), "writer")


async def main(what: str, state: Path) -> None:
    """One effect: a file beside the state. Killed by its own hand at a step, or refused by the kernel."""
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    oracle = state.parents[1 if what in ("refused", "full") else 0] / "oracle"  # not on the disk that is full
    database = Database(state / "opagent.db")
    journal = Journal(database, "host", "boot")
    database.start(asyncio.get_running_loop())
    seam = Effects(journal, database, Known())
    if what in ("refused", "full"):
        print(json.dumps(await without_record(what, seam, database, oracle)))
        await database.close()
        return
    if what == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    async with seam.of(act(1)):
        if what == "pending":
            os.kill(os.getpid(), signal.SIGKILL)
        oracle.write_text("happened")
        if what == "happened":
            os.kill(os.getpid(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


async def without_record(what: str, seam: Effects, database: Database, oracle: Path) -> dict[str, Any]:
    """The disk takes no record; then there is room again."""
    async with seam.of(act(1)):
        pass
    hog, limits = database.path.parents[1] / "hog", resource.getrlimit(resource.RLIMIT_FSIZE)
    refused = False
    try:
        if what == "full":
            await fill(seam, hog)
        else:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size(database.path), limits[1]))
        async with seam.of(act(2)):
            oracle.write_text("happened")
    except StoreFailed:
        refused = True
    happened = oracle.exists()
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    hog.unlink(missing_ok=True)
    async with seam.of(act(3)):
        pass
    states = database.read(
        lambda db: [State(row[0]).value for row in db.execute("select state from effect where path like '/somewhere/%'")]
    )
    return {"refused": refused, "happened": happened, "after": states}


def size(database: Path) -> int:
    return database.with_name(database.name + "-wal").stat().st_size


async def fill(seam: Effects, hog: Path) -> None:
    """To the last byte, and until the store has noticed."""
    with hog.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
    while True:
        await seam.begin(Act(AuditKind.NET_CONNECT, {"host": "x" * 20_000}))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
