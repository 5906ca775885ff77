"""kill -9 of the daemon at each step of a draft's way to the agent: no line lost, no turn doubled, nothing sent twice."""

from __future__ import annotations

import contextlib
import random
import re
import subprocess
import sys
import time

import pytest

from opagent import launch
from opagent.errors import OpAgentError
from opagent.process import tree
from tests.doubles import mortal_daemon, saver
from tests.doubles.checker import heard_by
from tests.doubles.daemons import environment
from tests.doubles.mortal_daemon import LINE, STEPS, WORD
from tests.doubles.patience import until
from tests.doubles.sheet import BOX, Sheet
from tests.faults.conftest import Place
from tests.faults.test_state_directory import mounted

BEFORE = ("merged", "queued", "exchanged", "displaced", "stamped")  # the agent cannot have got it
MESSAGE = f"{WORD} words, only once"


def dying(place: Place, monkeypatch: pytest.MonkeyPatch, step: str) -> int:
    """The pid of a daemon that ends at a step; the one after it is as usual."""
    place.kill_daemon()
    with monkeypatch.context() as patch:
        patch.setattr(launch, "DAEMON", ("-m", mortal_daemon.__name__, step))
        patch.setenv("PYTHONPATH", environment()["PYTHONPATH"])
        place.back()
    return place.daemon()


def sheet_of(place: Place) -> Sheet:
    sheet = Sheet(place, place.create("oracle"))
    first = place.say(sheet.conversation, "warm up")
    sheet.holds(f"/{first['id']} done")
    return sheet


@pytest.mark.parametrize("again", [False, True], ids=["", "killed once more"])
@pytest.mark.parametrize("step", STEPS)
def test_a_draft_is_sent_once(place: Place, monkeypatch: pytest.MonkeyPatch, step: str, again: bool) -> None:
    sheet = sheet_of(place)
    pid = dying(place, monkeypatch, step)
    sheet.type(f"{MESSAGE}\n\n/send")
    until(lambda: tree.start_time(pid) is None)
    if again:  # in the recovery, wherever that is
        with contextlib.suppress(OpAgentError):
            place.client.request("daemon/status", {})
        place.kill_daemon()
    place.back()
    turn = until(lambda: [turn for turn in sheet.turns() if turn["text"] == MESSAGE])[0]
    ended = place.ended(sheet.conversation, turn["id"])
    text = sheet.holds(f"/{turn['id']} {ended['state']} ")
    assert text.count(f"\n{MESSAGE}\n") == 1 and "/send" not in text
    states = (
        ("done", "interrupted")
        if again or step == "given"
        else ("done",)
        if step in (*BEFORE, "ended", "shown")
        else ("interrupted",)
    )
    assert ended["state"] in states
    heard = heard_by(place.directory).count(MESSAGE)
    assert heard == 1 if ended["state"] == "done" else heard <= 1
    if step == "displaced":
        assert LINE.decode() in sheet.draft()
    assert [turn["text"] for turn in sheet.turns()].count(MESSAGE) == 1
    place.settle()
    until(lambda: not list((place.directory / ".opagent/tmp").iterdir()))


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_a_draft_that_waits_waits_on_after_a_restart(place: Place, how: str) -> None:
    sheet = sheet_of(place)
    place.start(sheet.conversation, "/slow 200 0.05\nfirst")
    place.start(sheet.conversation, "before it")
    until(lambda: len(sheet.queue()["turns"]) == 2)
    sheet.type("the draft that waits\n\n/send")
    sheet.holds("Sent when what runs has ended; 2 before it")
    if how == "kill":
        place.kill_daemon()
    else:
        place.client.request("daemon/stop", {})
    place.back()
    turn = sheet.sent(4)
    assert turn["text"] == "the draft that waits"
    assert heard_by(place.directory)[-2:] == ["before it", "the draft that waits"]
    assert "Sent when" not in sheet.text()
    place.settle()


def test_what_did_not_count_does_not_count_after_a_restart(place: Place) -> None:
    sheet = sheet_of(place)
    sheet.path.chmod(0o622)
    sheet.type("not mine\n\n/send")
    sheet.holds("Not sent: ")
    place.kill_daemon()
    sheet.path.chmod(0o600)
    place.back()
    sheet.sent_only("warm up")
    sheet.holds("Not sent: ")
    assert "everybody can write" in str(sheet.listed()["not_sent"])
    sheet.save(sheet.bytes())
    assert sheet.sent(3)["text"] == "not mine"
    place.settle()


def test_a_retry_is_made_once(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    sheet = Sheet(place, place.create("echo"))  # the same prompt twice, which no oracle would believe
    place.say(sheet.conversation, "warm up")
    place.say(sheet.conversation, MESSAGE)
    pid = dying(place, monkeypatch, "queued")
    sheet.type("/retry")
    until(lambda: tree.start_time(pid) is None)
    place.back()
    sheet.sent(3)
    sheet.lacks("/retry")
    place.ended(sheet.conversation, place.start(sheet.conversation, "is that all?")["id"])
    assert sheet.texts() == ["warm up", MESSAGE, MESSAGE, "is that all?"]
    place.settle()


def test_what_a_person_saved_while_no_daemon_ran_is_sent_by_the_next_one(place: Place) -> None:
    sheet = sheet_of(place)
    place.kill_daemon()
    sheet.type("typed in the night\n\n/send")
    place.client.request("daemon/status", {})
    until(lambda: [turn for turn in sheet.turns() if turn["text"] == "typed in the night"])
    assert "does not know where your programs are" in sheet.holds("`opagent open`")  # the agent is a program of the person's
    place.back()
    sheet.sent(2)
    sheet.lacks("where your programs are")
    place.settle()


def test_a_reply_that_the_file_has_more_of_than_the_log_is_taken_over(place: Place) -> None:
    """A power cut: the log lost its last moments, the file did not."""
    sheet = sheet_of(place)
    turn = place.start(sheet.conversation, "/slow 30 0.01\n/wait")
    sheet.holds(" 28 29 30 ")
    place.kill_daemon()
    said = sheet.region(turn["id"]).body.decode().rstrip()
    sheet.save(sheet.text().replace(said, f"{said} and what the log has lost"))
    place.back()
    text = sheet.holds(f"/{turn['id']} interrupted")
    assert text.count("and what the log has lost") == 1 and "and what the log has lost" not in sheet.draft()
    assert "> [!WARNING]" in sheet.region(turn["id"]).body.decode()
    place.settle()


@pytest.mark.parametrize("how", ["inplace", "rename"])
def test_kills_while_an_editor_saves(place: Place, how: str, rounds: int) -> None:
    """The daemon is killed again and again while a person saves every few milliseconds and a reply streams."""
    sheet = sheet_of(place)
    chance = random.Random(11)
    count = 400 * rounds
    argv = [sys.executable, saver.__file__, str(sheet.path), how, str(count)]
    editor = subprocess.Popen(argv, env=environment())
    texts = []
    while editor.poll() is None:
        texts.append(f"/slow 30 0.01\nround {len(texts)}")
        with contextlib.suppress(OpAgentError):
            place.start(sheet.conversation, texts[-1])
        time.sleep(chance.random() * 0.3)
        place.kill_daemon()
        place.back()
    place.settle()
    until(lambda: _lines(sheet) == list(range(1, count + 1)))
    assert all("P0" not in turn["text"] for turn in sheet.turns())
    assert BOX in sheet.draft()


def _lines(sheet: Sheet) -> list[int]:
    return sorted(int(found) for found in re.findall(r"^P(\d{5})$", sheet.text(), re.M))


def test_a_full_disk_below_the_file(place: Place) -> None:
    """The log goes on, the old file stays whole, the status says so, and with room again all of it is there."""
    script = """
        export XDG_STATE_HOME="$PWD/state"  # a daemon of its own
        mkdir -m 700 state notes && mount -t tmpfs -o size=300k,mode=700 none notes || exit 99
        cd notes
        opagent open . --agent echo -m first >/dev/null || exit 98
        before=$(cat conversations/*.md)
        head -c 400k /dev/zero >fill 2>/dev/null
        opagent open . --last -m second >/dev/null || exit 97
        test "$(cat conversations/*.md)" = "$before" || exit 96
        opagent conversations list --json
        rm fill
        opagent open . --last -m third >/dev/null || exit 95
        opagent daemon stop >&2
        cat conversations/*.md
    """
    place.kill_daemon()
    said = mounted(script, place)
    assert said.returncode == 0, (said.returncode, said.stdout, said.stderr)
    assert "No space left" in said.stdout
    assert [said.stdout.count(f"echo: {word}\n") for word in ("first", "second", "third")] == [1, 1, 1]
    place.back()
