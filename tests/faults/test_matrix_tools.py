"""The kill matrix with a server of tools as the victim: the daemon stops itself at a step, the server is killed, the daemon goes on."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from opagent import paths
from tests.doubles import barrier_daemon, mcp_server
from tests.doubles.checker import heard_by
from tests.doubles.mortal_daemon import WORD
from tests.doubles.patience import PATIENCE, until
from tests.faults.conftest import Place, is_daemon_of_test, trust
from tests.faults.matrix import cells, state
from tests.faults.test_matrix import LONG, SHORT, TEXTS, provoked, replayed, stopping_at

VICTIM = "MCP server"
PROGRAM = str(Path(mcp_server.__file__))
TOOLS = [("pid", "Its process."), ("write", "Adds to a file.")]
USE = "/mcp box pid"
WRITE = "/mcp box write " + json.dumps({"path": "made.md", "text": WORD})


def bound(place: Place) -> None:
    (place.directory / "tools.json").write_text(json.dumps(TOOLS))
    binding = {
        "version": 1,
        "agent": "oracle",
        "can": {"write": {"default": "allow"}, "read": {"default": "allow"}, "mcp": {"allow": ["box/*"]}},
        "tools": {"box": {"command": [sys.executable, "-I", "-S", PROGRAM]}},
    }
    (place.directory / ".agent.yaml").write_text(json.dumps(binding))
    trust(place.client, place.directory)


def servers(daemon: int) -> list[psutil.Process]:
    """The server and what its box consists of."""
    found = []
    for process in psutil.Process(daemon).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if PROGRAM in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def kill(daemon: int) -> None:
    processes = servers(daemon)
    assert processes, "no server runs"
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):  # the rest of a box goes with its first
            process.kill()
    until(lambda: not servers(daemon))


@pytest.mark.parametrize(("step", "victim"), cells(VICTIM))
def test_a_kill_of_a_tool_server_at_a_step(place: Place, step: str, victim: str) -> None:
    bound(place)
    daemon = stopping_at(place, step)
    conversation = place.create("oracle")
    before = used(place, conversation, "warm up")
    text = TEXTS.get(step, "{}").format(LONG if step == "K15" else SHORT) + f"\n{USE}"
    if step.startswith("K12"):
        text = f"{WRITE}\n{SHORT}"
    client = place.began("send", conversation["id"], text)
    answering = provoked(place, conversation, step)
    barrier_daemon.stands(daemon)
    kill(daemon)
    barrier_daemon.goes_on(daemon)
    if step == "K15":
        until(lambda: not is_daemon_of_test(daemon))
    place.back()
    if step == "K10":
        place.allow(place.approvals()[0]["id"])
    (turn,) = until(lambda: [each for each in place.show(conversation)["turns"] if each["text"] == text])
    ended = place.ended(conversation, turn["id"])
    assert ended["state"] in state(step, victim), ended
    assert heard_by(place.directory).count(text) <= 1
    client.wait(PATIENCE)
    if answering is not None:
        answering.wait(PATIENCE)
    if step.startswith("K12"):
        _called_once(place, place.answer(conversation, turn["id"]), step)
    assert used(place, conversation, "and now?") != before
    _the_same(place, conversation)
    replayed(conversation)
    place.client.request("process/stop", {"process": conversation["id"]})  # the start of a server is an effect that ends with it
    until(lambda: not servers(place.daemon()))
    place.settle()


def used(place: Place, conversation: dict[str, Any], word: str) -> int:
    """A call that works; the pid of the server that answered it, outside its box."""
    turn = place.say(conversation, f"{USE}\n{word}")
    assert turn["state"] == "done"
    said = place.answer(conversation, turn["id"])
    assert said.split()[0].isdecimal(), said
    return max(process.pid for process in servers(place.daemon()))


def _called_once(place: Place, said: str, step: str) -> None:
    """The call ended clearly, once: it happened, or the agent heard why not, and the record says the same."""
    with sqlite3.connect(f"file:{paths.database()}?mode=ro", uri=True) as connection:
        rows = connection.execute("select effect.state, body from effect join journal using (seq) where effect.kind = 'mcp.call'")
        states = [state for state, body in rows if WORD.encode() in body]
    made = place.directory / "made.md"
    written = made.read_text() if made.exists() else ""
    if written:
        assert written == WORD and said.startswith("written") and states == ["done"], (written, said, states)
    else:
        assert step == "K12a" and said.startswith("error: box: ") and states == ["unknown"], (said, states)


def _the_same(place: Place, conversation: dict[str, Any]) -> None:
    """Each start ran the same program, and its tools, which were compared, are as they were allowed."""
    spawned = place.client.request("audit/query", {"kinds": ["agent.spawn"], "limit": 1000})["records"]
    starts = {each["obj"]["argv"] for each in spawned if each["obj"].get("name") == "tool box" and each["state"] == "pending"}
    assert len(starts) == 1
    (box,) = place.client.request("tool/list", {"path": str(place.directory)})["servers"]
    assert {each["name"]: each["state"] for each in box["tools"]} == {"pid": "allowed", "write": "allowed"}
    notes = [event["body"]["text"] for event in place.show(conversation)["events"] if event["kind"] == "note"]
    assert not [each for each in notes if "hidden" in each]
