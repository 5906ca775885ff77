"""Agents that misbehave: one clear line each on the terminal and in the file, the next turn works, the others notice nothing."""

from __future__ import annotations

import json
from typing import NamedTuple

import psutil
import pytest

from tests.doubles.patience import until
from tests.faults.conftest import Place, install_oracle, trust


class Case(NamedTuple):
    prompt: str
    state: str
    words: str  # in the file, and on the terminal unless `told` says otherwise
    exit: int
    told: str = ""


CASES = {
    "crash": Case("/crash 3", "interrupted", "exit status 3", 10),
    "killed": Case("/crash KILL", "interrupted", "signal 9", 10),
    "segfault": Case("/crash SEGV", "interrupted", "signal 11", 10),
    "mid stream": Case("/crash 3 20", "interrupted", "exit status 3", 10),
    "exit 0": Case("/exit", "interrupted", "exit status 0", 10),
    "half a line": Case("/half", "interrupted", "exit status 0", 10),
    "closed stdout": Case("/mute", "interrupted", "closed its output", 10),
    "error": Case("/error -32603 no such luck", "failed", "no such luck", 1),
    "garbage": Case("/garbage", "done", "valid end", 0),
    "huge line": Case("/huge 100", "done", "after the huge line", 0),
    "flood": Case("/flood 100000 100", "done", "00099999", 0),
    "stderr": Case("/stderr 20000", "done", "stderr 20000", 0),
    "daemons": Case("/forkmany 5\n/crash", "interrupted", "exit status 70", 10),
    "bare daemon": Case("/fork clean\n/crash", "interrupted", "exit status 70", 10),
}


@pytest.mark.parametrize("name", CASES)
def test_one_clear_line(place: Place, name: str) -> None:
    case = CASES[name]
    said = place.command("open", str(place.directory), "-m", case.prompt)
    conversation = place.client.request("conversation/list", {"all": True})["conversations"][0]
    turn = place.show(conversation)["turns"][0]
    assert turn["state"] == case.state
    assert said.returncode == case.exit, said.stderr
    shown = place.file(conversation, f"/{turn['id']} {case.state}")
    told = (said.stdout if case.exit == 0 else said.stderr).replace("\n", " ")
    assert case.words in shown.replace("\n> ", " ") or case.state == "done", shown[-2000:]
    assert (case.told or case.words) in told, told[-2000:]
    assert "Traceback" not in said.stderr + shown and "MUST NOT APPEAR" not in place.answer(conversation, turn["id"])
    if case.exit:
        errors = [line for line in said.stderr.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1 and len(said.stderr.splitlines()) <= 6, said.stderr
        assert shown.count("> [!WARNING]") == 1
    assert not [process for process in psutil.process_iter() if _sleeps_for_the_test(process)]
    assert place.say(conversation, "and now?")["state"] == "done"
    place.settle()


def _sleeps_for_the_test(process: psutil.Process) -> bool:
    """A daemon that echo left behind with an empty environment."""
    try:
        return "time.sleep(300)" in " ".join(process.cmdline()) and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def options(place: Place, **wanted: str) -> None:
    (place.directory / ".oracle/options").write_text(json.dumps(wanted))


STARTS = {
    "crash": ({"crash": "initialize:9"}, "exit status 9", 10),
    "wrong usage": ({"crash": "initialize:64"}, "exit status 64", 10),
    "crash in session/new": ({"crash": "session:9"}, "exit status 9", 10),
    "refuses": ({"fail": "session"}, "refused session/new", 10),
    "silent": ({"hang": "initialize"}, "did not answer initialize in time", 10),
    "late": ({"start-delay": "3"}, "did not answer initialize in time", 10),
    "another protocol": ({"crash": "initialize:127"}, "exit status 127", 10),
}


@pytest.mark.parametrize("name", STARTS)
def test_an_agent_that_does_not_start(place: Place, name: str) -> None:
    """The turn fails with the reason; once the agent is mended, `restart` and the next turn work."""
    wanted, words, status = STARTS[name]
    install_oracle(ready=2)
    trust(place.client, place.directory)
    options(place, **wanted)
    said = place.command("open", str(place.directory), "-m", "anybody there?")
    assert said.returncode in (status, 1), said.stderr
    assert words in said.stderr.replace("\n", " "), said.stderr
    conversation = place.client.request("conversation/list", {"all": True})["conversations"][0]
    turn = place.show(conversation)["turns"][0]
    assert turn["state"] == "failed"
    assert words in place.file(conversation, f"/{turn['id']} failed").replace("\n> ", " ")
    options(place)
    assert place.command("restart", conversation["id"]).returncode == 0
    assert place.say(conversation, "now?")["state"] == "done"
    place.settle()


def test_an_agent_that_needs_three_tries(place: Place) -> None:
    """It crashes at initialize twice: the turn waits out the back-off and runs, once."""
    options(place, **{"crash-first": "2"})
    conversation = place.create("oracle")
    assert place.say(conversation, "patience")["state"] == "done"
    place.settle()


def test_an_agent_that_never_reads_is_stuck_after_ten_seconds(place: Place) -> None:
    conversation = place.create("oracle")
    place.say(conversation, "/noread")
    turn = place.say(conversation, "x" * 1_000_000)
    assert turn["state"] == "failed" and turn["reason"] == "agent_stuck"
    assert "does not read" in place.file(conversation, f"/{turn['id']} failed")
    assert place.say(conversation, "and now?")["state"] == "done"
    place.settle()


def test_an_agent_that_ignores_everything_is_killed(place: Place) -> None:
    """EOF, TERM and cancel have no effect: cancel gives it ten seconds, the ladder eight more."""
    conversation = place.create("oracle")
    turn = place.start(conversation, "/ignore-eof\n/ignore-term\n/hang")
    until(lambda: "ignoring" in place.answer(conversation, turn["id"]))
    waiting = place.start(conversation, "waits behind it")
    pids = place.agents(conversation)
    place.client.request("turn/cancel", {"conversation": conversation["id"]})
    assert place.ended(conversation, turn["id"])["state"] == "cancelled"
    assert place.ended(conversation, waiting["id"])["state"] == "done"
    assert not any(psutil.pid_exists(pid) for pid in pids)
    place.settle()


def test_a_late_answer_is_ignored(place: Place) -> None:
    """Cancelled and ended, then the agent answers the old prompt: the next turn is not taken for it."""
    conversation = place.create("oracle")
    place.say(conversation, "/early")
    assert place.answer(conversation, place.say(conversation, "next")["id"]).endswith("echo: next")
    place.settle()


def test_an_agent_that_closed_its_input_and_lives(place: Place) -> None:
    conversation = place.create("oracle")
    place.say(conversation, "/closed-input")
    turn = place.say(conversation, "are you there?")
    assert turn["state"] == "failed" and "reads no more" in place.file(conversation, f"/{turn['id']} failed")
    assert place.say(conversation, "and now?")["state"] == "done"
    place.settle()


def test_a_file_that_is_being_written_when_the_turn_ends(place: Place) -> None:
    """Somebody has it open for writing: the end is shown once they close it."""
    conversation = place.create("oracle")
    place.say(conversation, "warm up")
    turn = place.start(conversation, "/slow 3 0.05")
    until(lambda: place.answer(conversation, turn["id"]))
    with open(conversation["path"], "r+b"):
        assert place.ended(conversation, turn["id"])["state"] == "done"
    place.file(conversation, f"/{turn['id']} done")
    assert place.say(conversation, "next")["state"] == "done"
    place.settle()
