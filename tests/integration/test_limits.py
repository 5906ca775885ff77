"""Agents that take too much, through the real daemon: ended or cancelled, said in the turn and recorded; the next turn goes on."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from opagent import paths
from opagent.model import ProcessId
from opagent.process import weighing
from opagent.process.tree import Family, start_time
from tests.doubles import runtimes
from tests.doubles.patience import until
from tests.integration.conftest import Talk

HANDS = Path(__file__).parents[1] / "doubles/hands.py"
HOG = "import os, time, mmap, subprocess\n"


@pytest.fixture
def hands(talk: Talk) -> Talk:
    runtimes.put("hands", sys.executable, "-I", "-S", str(HANDS))
    return talk


def bound(talk: Talk, **limits: Any) -> dict[str, Any]:
    runtimes.bind(talk.client, talk.directory, "hands", limits=limits)
    return talk.create("hands")


def recorded() -> list[dict[str, Any]]:
    with sqlite3.connect(f"file:{paths.database()}?mode=ro", uri=True) as db:
        return [json.loads(body) for (body,) in db.execute("select body from journal where kind = 'limit.hit' order by seq")]


def sentence(talk: Talk, conversation: dict[str, Any], turn: str) -> str:
    events = talk.show(conversation)["events"]
    return "".join(str(event["body"].get("sentence") or "") for event in events if event["turn"] == turn)


MEMORY = {
    "its own": "data = bytearray(b'x' * (300 << 20))",
    "shared": "m = mmap.mmap(-1, 300 << 20); m[:] = b'x' * (300 << 20)",
    "a file in memory": "fd = os.memfd_create('m')\nfor _ in range(300): os.write(fd, b'x' * (1 << 20))",
    "of many": "for _ in range(4):\n    if os.fork() == 0:\n        data = bytearray(b'x' * (90 << 20)); time.sleep(600)",
}


@pytest.mark.parametrize("way", MEMORY)
def test_too_much_memory_ends_the_agent(hands: Talk, way: str) -> None:
    conversation = bound(hands, memory="200M")
    turn = hands.say(conversation, f"{HOG}{MEMORY[way]}\ntime.sleep(600)")
    assert (turn["state"], turn["reason"]) == ("interrupted", "memory")
    said = sentence(hands, conversation, turn["id"])
    assert "hands was ended: it took " in said
    assert f"limits.memory allows 200M ({hands.directory}/.agent.yaml:" in said
    assert "limits.memory allows 200M" in hands.file(conversation, f"/{turn['id']} interrupted")
    (hit,) = recorded()
    assert (hit["limit"], hit["allowed"]) == ("memory", 200 << 20)
    assert 200 << 20 < hit["used"] < 500 << 20
    again = hands.say(conversation, "print('here again')")
    assert again["state"] == "done"
    assert "here again" in hands.answer(conversation, again["id"])


def test_memory_that_is_shared_counts_once(hands: Talk) -> None:
    conversation = bound(hands, memory="300M")
    script = "m = mmap.mmap(-1, 120 << 20); m[:] = b'x' * (120 << 20)\nfor _ in range(4):\n    if os.fork() == 0: sum(m[::4096]); time.sleep(600)\ntime.sleep(2)"
    turn = hands.say(conversation, HOG + script)
    assert turn["state"] == "done"
    assert recorded() == []


def test_too_many_processes_end_the_agent(hands: Talk) -> None:
    conversation = bound(hands, processes=20)
    script = "for _ in range(60): subprocess.Popen(['sleep', '600'])\nprint('started'); time.sleep(600)"
    turn = hands.say(conversation, HOG + script)
    if turn["reason"] == "processes":
        assert "processes at once, and limits.processes allows 20" in sentence(hands, conversation, turn["id"])
        assert recorded()[0]["limit"] == "processes"
    else:  # the kernel refused the twenty-first
        assert "Resource temporarily unavailable" in hands.answer(conversation, turn["id"])


def test_too_much_growth_cancels_the_turn(hands: Talk) -> None:
    conversation = bound(hands, disk="50M")
    write = "with open('big{0}', 'wb') as file:\n    for _ in range({1}): file.write(os.urandom(1 << 20))\n"
    small = hands.say(conversation, HOG + write.format(1, 10))
    assert small["state"] == "done"
    # hands does not heed a cancel: it has its time, or is ended for much more
    turn = hands.say(conversation, HOG + write.format(2, 100) + "time.sleep(600)")
    assert turn["reason"] == "disk"
    assert turn["state"] in ("cancelled", "interrupted")
    assert "the directory grew by" in sentence(hands, conversation, turn["id"])
    assert {hit["limit"] for hit in recorded()} == {"disk"}
    (hands.directory / "big2").unlink()
    (hands.directory / "big1").unlink()
    until(lambda: hands.say(conversation, "print('room')")["state"] == "done")


def test_the_weight_of_a_tree_that_is_gone() -> None:
    with subprocess.Popen(["sleep", "600"]) as child:
        start = start_time(child.pid) or 0
        family, another = (Family(ProcessId("x1"), child.pid, when) for when in (start, start + 1))
        assert weighing.weigh({family: 0})[family.id].processes == 1
        assert weighing.weigh({another: 0}) == {}
        child.kill()
        child.wait()
    assert weighing.weigh({family: 0}) == {}
