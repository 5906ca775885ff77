"""Commands that an agent runs through us: asked, shown, cut, killed with all that they started; over the real daemon."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import psutil
import pytest

from tests.doubles.patience import until
from tests.doubles.strings import Strings


def test_a_command_is_always_asked_and_its_end_is_told(free: Strings) -> None:
    created = free.allowed("terminal/create", command="sh", args=["-c", "echo out; echo err >&2; exit 3"])
    terminal = created["result"]["terminalId"]
    assert free.ask("terminal/wait_for_exit", terminalId=terminal)["result"] == {"exitCode": 3, "signal": None}
    shown = free.ask("terminal/output", terminalId=terminal)["result"]
    assert "out\n" in shown["output"] and "err\n" in shown["output"]
    assert (shown["truncated"], shown["exitStatus"]) == (False, {"exitCode": 3, "signal": None})
    assert free.ask("terminal/release", terminalId=terminal)["result"] == {}
    assert free.ask("terminal/output", terminalId=terminal)["error"]["code"] == -32002


def test_a_signal_without_a_name_is_told_by_its_number(free: Strings) -> None:
    code = "import os; os.kill(os.getpid(), 35)"
    created = free.allowed("terminal/create", command=sys.executable, args=["-c", code])
    terminal = created["result"]["terminalId"]
    assert free.ask("terminal/wait_for_exit", terminalId=terminal)["result"]["signal"] == "SIG35"


def test_a_denied_command_does_not_run(free: Strings) -> None:
    turn = free.start({"id": "q", "method": "terminal/create", "params": {"command": "touch", "args": ["ran"]}})
    assert free.decide(False)["subject"] == "touch ran"
    assert free.answers(turn)[0]["error"]["code"] == -32003
    assert not (free.talk.directory / "ran").exists()


def test_output_is_kept_up_to_its_limit_and_cut_at_a_letter(free: Strings) -> None:
    code = "print('ä' * 1000, end='')"
    terminal = free.allowed("terminal/create", command=sys.executable, args=["-c", code], outputByteLimit=101)["result"][
        "terminalId"
    ]
    free.ask("terminal/wait_for_exit", terminalId=terminal)
    shown = free.ask("terminal/output", terminalId=terminal)["result"]
    assert shown["truncated"] is True
    assert len(shown["output"].encode()) <= 101
    assert set(shown["output"]) == {"ä"}


def test_variables_and_directory_of_a_command(free: Strings) -> None:
    (free.talk.directory / "sub").mkdir()
    script = "pwd; echo $COLOUR"
    env = [{"name": "COLOUR", "value": "green"}]
    created = free.allowed("terminal/create", command="sh", args=["-c", script], cwd=str(free.talk.directory / "sub"), env=env)
    terminal = created["result"]["terminalId"]
    free.ask("terminal/wait_for_exit", terminalId=terminal)
    assert free.ask("terminal/output", terminalId=terminal)["result"]["output"] == f"{free.talk.directory}/sub\ngreen\n"


@pytest.mark.parametrize("params", [
    {"command": "ls", "cwd": "/"}, {"command": "ls", "cwd": ".."}, {"command": "ls", "cwd": "sub/../.."}, {"command": ""}, {},
    {"command": "no-such-program"}, {"command": "a\0b"}, {"command": "ls", "cwd": "missing"},
])  # fmt: skip
def test_commands_that_cannot_run_are_errors(free: Strings, params: dict[str, Any]) -> None:
    turn = free.start({"id": "q", "method": "terminal/create", "params": params})
    ended = lambda: free.talk.turn(free.conversation, turn["id"])["state"] in ("done", "failed")  # noqa: E731
    until(lambda: free.talk.approvals() or ended())
    if free.talk.approvals():
        free.decide(True)
    assert "error" in free.answers(turn)[0]


def running(word: str) -> list[psutil.Process]:
    return [one for one in psutil.process_iter(["cmdline"]) if word in (one.info["cmdline"] or ())]


def test_a_command_is_killed_with_all_it_started(free: Strings) -> None:
    word = f"10{os.getpid()}"
    terminal = free.allowed("terminal/create", command="sh", args=["-c", f"sleep {word} & sleep {word}"])["result"]["terminalId"]
    until(lambda: len(running(word)) == 2)
    assert free.ask("terminal/kill", terminalId=terminal)["result"] == {}
    until(lambda: not running(word))
    status = free.ask("terminal/output", terminalId=terminal)["result"]["exitStatus"]
    assert status["signal"] in ("SIGTERM", "SIGKILL")


def test_commands_end_with_their_agent(free: Strings) -> None:
    word = f"20{os.getpid()}"
    free.allowed("terminal/create", command="sleep", args=[word])
    until(lambda: running(word))
    os.kill(free.talk.client.request("process/list", {})["processes"][0]["pid"], signal.SIGKILL)
    until(lambda: not running(word))


@pytest.mark.parametrize(
    "params", [{}, {"terminalId": "nonsense"}, {"terminalId": 5}, {"terminalId": None}, {"terminalId": ["t"]}]
)
def test_unknown_terminals_are_errors(free: Strings, params: dict[str, Any]) -> None:
    for method in ("terminal/output", "terminal/wait_for_exit", "terminal/kill", "terminal/release"):
        assert free.ask(method, **params)["error"]["code"] == -32002


def test_a_person_can_cancel_while_a_service_is_asked_for(free: Strings) -> None:
    turn = free.start({"id": "q", "method": "terminal/create", "params": {"command": "ls"}})
    until(free.talk.approvals)
    free.talk.client.request("turn/cancel", {"conversation": free.conversation["id"]})
    assert free.talk.ended(free.conversation, turn["id"])["state"] == "cancelled"
    assert free.talk.approvals() == []
    assert "result" in free.ask("fs/read_text_file", path=str(free.talk.directory / "a.md"))
