"""The disk below a running daemon fails, is full, is slow: what was acknowledged is there, nothing else was, and one line says why."""

from __future__ import annotations

import contextlib
import signal
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from opagent import paths
from opagent.errors import NotTrusted, StoreFailed
from opagent.store.opening import connect_reader
from tests.doubles.checker import Checker
from tests.doubles.patience import until
from tests.doubles.sheet import Sheet
from tests.doubles.shim import Shim
from tests.faults.conftest import Place, trust

WAL = "opagent.db-wal"
FULL, BROKEN = 28, 5


def refused(place: Place, words: str) -> int:
    """Turns until one is refused; how many were acknowledged before it."""
    conversation, count = place.create("oracle"), 0
    with pytest.raises(StoreFailed, match=words):
        while True:
            place.start(conversation, f"acknowledged {count}")
            count += 1
    return count


def quiet(place: Place, conversation: dict[str, Any]) -> None:
    """A turn has ended and nothing is left to be written: the next write is what the test does."""
    turn = place.say(conversation, "before")
    place.file(conversation, f"/{turn['id']} done")


def audited(kind: str) -> list[str]:
    connection = connect_reader(paths.database())
    try:
        query = "select json_extract(cast(head as text), '$.error') from journal where kind = ?"
        return [row[0] for row in connection.execute(query, (kind,))]
    finally:
        connection.close()


@pytest.mark.parametrize("count", [2, -1], ids=["twice", "until there is room"])
def test_no_room_for_a_commit(place: Place, shim: Shim, count: int) -> None:
    """D1: nothing is taken that cannot be kept; it is said, recorded once, and over by itself."""
    place.anew(**shim.fails("write", WAL, errno=FULL, count=count))
    conversation = place.create("oracle")
    quiet(place, conversation)
    shim.arm()
    with pytest.raises(StoreFailed, match=r"could not be written|the disk is full"):
        place.start(conversation, "refused")
    shim.disarm()
    until(lambda: _taken(place, "oracle"))
    assert place.say(conversation, "room again")["state"] == "done"
    assert "refused" not in [turn["text"] for turn in place.show(conversation)["turns"]]
    place.settle()
    assert audited("limit.hit") == ["disk_full"]


def _taken(place: Place, agent: str) -> bool:
    with contextlib.suppress(StoreFailed):
        place.create(agent)
        return True
    return False


def test_every_write_of_the_log_fails(place: Place, shim: Shim) -> None:
    """D4: what was acknowledged is there, from then on the database is only read, and the next start goes on."""
    place.anew(**shim.fails("write", WAL, errno=BROKEN, after=60))
    conversation = place.create("oracle")
    quiet(place, conversation)
    shim.arm()
    acknowledged = refused(place, r"could not be written|only be read")
    until(lambda: not _taken(place, "oracle"))
    shown = place.show(conversation)  # reading goes on
    assert shown["turns"][0]["state"] == "done"
    said = place.command("send", conversation["id"], "refused", "--no-wait")
    assert said.returncode == 1 and "only be read" in said.stderr and "Traceback" not in said.stderr, said.stderr
    shim.disarm()
    place.kill_daemon(signal.SIGTERM)
    place.back()
    assert place.say(conversation, "after")["state"] == "done"
    assert acknowledged > 0
    place.settle()


def test_a_log_that_could_not_be_written_is_told_apart_from_one_that_can_only_be_read(place: Place, shim: Shim) -> None:
    """D4: once may be an accident, and is to be tried again; after the second time only a new start helps."""
    place.anew(**shim.fails("write", WAL, errno=BROKEN))
    conversation = place.create("oracle")
    quiet(place, conversation)
    shim.arm()
    once, twice = (place.command("send", conversation["id"], "refused", "--no-wait") for _ in range(2))
    assert (once.returncode, twice.returncode) == (1, 1)
    assert "the database could not be written" in once.stderr and "try again" in once.stderr, once.stderr
    assert "only be read" not in once.stderr, once.stderr
    assert "the database can only be read" in twice.stderr and "opagent daemon stop" in twice.stderr, twice.stderr
    assert "could not be written" not in twice.stderr, twice.stderr
    shim.disarm()
    place.kill_daemon(signal.SIGTERM)
    place.back()
    assert place.say(conversation, "after")["state"] == "done"
    place.settle()


def test_a_save_while_the_log_can_only_be_read(place: Place, shim: Shim) -> None:
    """D4: the listing says why nothing is sent; what was typed stays in the file, and the next daemon sends it."""
    place.anew(**shim.fails("write", WAL, errno=BROKEN))
    sheet = Sheet(place, place.create("oracle"))
    quiet(place, sheet.conversation)
    shim.arm()
    for _ in range(2):
        assert place.command("send", sheet.conversation["id"], "refused", "--no-wait").returncode == 1
    sheet.type("typed meanwhile\n\n/send")
    until(lambda: problem(place).startswith("the database can"))
    assert "typed meanwhile" in sheet.text()
    shim.disarm()
    place.kill_daemon(signal.SIGTERM)
    place.back()
    turn = until(lambda: [turn for turn in sheet.turns() if turn["text"] == "typed meanwhile"])[0]
    assert place.ended(sheet.conversation, turn["id"])["state"] == "done"
    place.settle()


def test_a_file_that_could_not_be_written_is_told_apart_from_one_that_can_only_be_read(place: Place, shim: Shim) -> None:
    """D4 of the conversation file: the log goes on, and the listing says which of the two it is."""
    place.anew(**shim.fails("write", ".opagent/tmp/", errno=BROKEN))
    conversation = place.create("oracle")
    path = Path(conversation["path"])
    quiet(place, conversation)
    shim.arm()
    broken = place.say(conversation, "while the disk is bad")
    until(lambda: problem(place) == f"{path} could not be written: Input/output error")
    shim.disarm()
    place.file(conversation, f"/{broken['id']} done")
    path.chmod(0o444)
    locked = place.say(conversation, "while it is locked")
    until(lambda: problem(place) == f"{path} can only be read: its mode is -r--r--r--")
    path.chmod(0o600)
    place.file(conversation, f"/{locked['id']} done")
    until(lambda: not problem(place))
    place.settle()


def problem(place: Place) -> str:
    """Why the file of the only conversation is not written, as the listing says it."""
    (found,) = place.client.request("conversation/list", {"path": str(place.directory)})["conversations"]
    return str(found.get("problem", ""))


def test_one_sync_of_the_log_fails(place: Place, shim: Shim) -> None:
    """D5: the turn is not acknowledged, the database is opened anew and looked at, the next one is taken."""
    place.anew(**shim.fails("fsync", WAL, errno=BROKEN, count=1))
    conversation = place.create("oracle")
    quiet(place, conversation)
    shim.arm()
    with pytest.raises(StoreFailed, match="could not be written"):
        place.start(conversation, "not acknowledged")
    assert place.say(conversation, "the next one")["state"] == "done"
    place.settle()


@pytest.mark.parametrize("op", ["write", "fsync"])
def test_a_checkpoint_fails(place: Place, shim: Shim, op: str) -> None:
    """D6: nobody notices; what was acknowledged lies in the log, and the next checkpoint takes it over."""
    place.anew(**shim.fails(op, "opagent.db", errno=BROKEN))
    conversation = place.create("oracle")
    quiet(place, conversation)
    shim.arm()
    for number in range(5):
        place.say(conversation, f"/flood 200 2000\nmeanwhile {number}")
    place.kill_daemon(signal.SIGTERM)  # a clean stop folds the log into the database
    shim.disarm()
    place.back()
    assert place.say(conversation, "after")["state"] == "done"
    place.settle()


def trusted(directory: Path) -> bool:
    """Whether the answer of the person is in the database itself."""
    with contextlib.closing(sqlite3.connect(f"file:{paths.database()}?immutable=1", uri=True)) as db:
        if not db.execute("select 1 from sqlite_master where name = 'trust'").fetchone():
            return False  # all that there is stood in the log
        return bool(db.execute("select 1 from trust where path = ?", (str(directory),)).fetchone())


@pytest.mark.parametrize("gone", [("-wal",), ("-shm",), ("-wal", "-shm")], ids="".join)
@pytest.mark.parametrize("how", ["stop", "kill"])
def test_files_beside_the_database_are_removed(place: Place, gone: tuple[str, ...], how: str) -> None:
    """D8: it opens; where the log lost its end the journal says so itself, and the files of the conversations have the rest."""
    conversation = place.create("oracle")
    place.say(conversation, "before")
    until(lambda: "echo: before" in Path(conversation["path"]).read_text())  # what the file does not hold yet goes with the log
    place.kill_daemon(signal.SIGTERM if how == "stop" else signal.SIGKILL)
    lost = how == "kill" and "-wal" in gone
    for end in gone:
        Path(f"{paths.database()}{end}").unlink(missing_ok=True)
    kept = lost and trusted(place.directory)  # a daemon that had nothing to do has taken the log over
    place.back()
    if lost:  # nothing of a test's acknowledgements counts: a database that is robbed cannot keep them
        place.checker = Checker(place.directory)
        (place.directory / ".oracle/heard").unlink()
        place.checker.gap_expected = bool(audited("audit.gap"))
        if not kept:
            said = place.command("send", conversation["path"], "after")
            assert said.returncode == NotTrusted.exit, "an answer that is lost is no yes (B11)"
            trust(place.client, place.directory)
    said = place.command("send", conversation["path"], "after")
    assert (said.returncode, said.stdout) == (0, "echo: after\n"), said.stderr
    assert "echo: before" in Path(conversation["path"]).read_text()
    place.settle()


@pytest.mark.parametrize("short", [0, 100], ids=["no room", "a short write, then no room"])
def test_no_room_for_the_conversation_file(place: Place, shim: Shim, short: int) -> None:
    """D2, D3: the old file stays whole, the text is in the log, and it is written when there is room."""
    place.anew(**shim.fails("write", ".opagent/tmp/", errno=FULL, short=short))
    conversation = place.create("oracle")
    first = place.say(conversation, "before")
    before = place.file(conversation, f"/{first['id']} done")
    shim.arm()
    second = place.say(conversation, "meanwhile")
    assert second["state"] == "done" and "meanwhile" in place.answer(conversation, second["id"])
    assert Path(conversation["path"]).read_text() == before
    shim.disarm()
    place.file(conversation, f"/{second['id']} done")
    place.settle()


def test_a_slow_disk_holds_up_no_reader(place: Place, shim: Shim) -> None:
    """D11: each sync takes 50 ms; many turns at once share them, and who only looks does not wait for the disk."""
    place.anew(**shim.slow_sync(0.05))
    conversations = [place.create("oracle") for _ in range(4)]
    turns = [(each, place.start(each, f"slowly {number}")) for number, each in enumerate(conversations)]
    for conversation, turn in turns:
        assert place.ended(conversation, turn["id"])["state"] == "done"
    place.settle()
