"""Agents that take too much, through the real daemon: ended or cancelled, said in the turn and recorded; the next turn goes on."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from opagent import paths
from opagent.client import Client
from opagent.errors import Usage
from opagent.model import ProcessId
from opagent.process import weighing
from opagent.process.profile import Limits
from opagent.process.tree import Family, start_time
from tests.doubles import runtimes
from tests.doubles.daemons import kill
from tests.doubles.patience import until
from tests.integration.conftest import Talk

HANDS = Path(__file__).parents[1] / "doubles/hands.py"
HOG = "import os, time, mmap, subprocess\n"


@pytest.fixture
def hands(talk: Talk) -> Talk:
    runtimes.put("hands", sys.executable, "-I", "-S", str(HANDS))
    return talk


def bound(talk: Talk, level: str = "", **limits: Any) -> dict[str, Any]:
    runtimes.bind(talk.client, talk.directory, "hands", limits=limits, **({"sandbox": {"level": level}} if level else {}))
    return talk.create("hands")


def recorded(kind: str = "limit.hit") -> list[dict[str, Any]]:
    with sqlite3.connect(f"file:{paths.database()}?mode=ro", uri=True) as db:
        return [json.loads(body) for (body,) in db.execute("select body from journal where kind = ? order by seq", (kind,))]


def sentence(talk: Talk, conversation: dict[str, Any], turn: str) -> str:
    events = talk.show(conversation)["events"]
    return "".join(str(event["body"].get("sentence") or "") for event in events if event["turn"] == turn)


MEMORY = {  # ways past the limit of a single process
    "shared": "m = mmap.mmap(-1, 300 << 20)\nfor at in range(300): m[at << 20 : at + 1 << 20] = b'x' * (1 << 20)",
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
    assert 200 << 20 < hit["used"] < 900 << 20, "no more than all that it tries to take, each of four twice 90 MiB at a time"
    again = hands.say(conversation, "print('here again')")
    assert again["state"] == "done"
    assert "here again" in hands.answer(conversation, again["id"])


def test_a_single_process_is_refused_more_memory(hands: Talk) -> None:
    conversation = bound(hands, memory="200M")
    turn = hands.say(conversation, "data = bytearray(300 << 20)")
    assert turn["state"] == "done"
    assert "MemoryError" in hands.answer(conversation, turn["id"])


def test_a_runtime_has_the_memory_that_it_needs_unless_a_binding_says_how_much(hands: Talk) -> None:
    runtimes.put("hands", sys.executable, "-I", "-S", str(HANDS), needs={"memory": "3G"})
    measure = "import resource; print(resource.getrlimit(resource.RLIMIT_DATA)[0] >> 20, 'MiB')"

    def shown() -> tuple[int, str]:
        values = hands.client.request("binding/explain", {"path": str(hands.directory), "environment": dict(os.environ)})[
            "values"
        ]
        return next((each["value"], each["origin"]) for each in values if each["key"] == "limits.memory")

    needed = bound(hands)
    assert "3072 MiB" in hands.answer(needed, hands.say(needed, measure)["id"])
    assert shown() == (3 << 30, str(paths.config() / "runtimes/hands/runtime.yaml"))
    said = bound(hands, memory="200M")
    assert "200 MiB" in hands.answer(said, hands.say(said, measure)["id"])
    assert shown()[1].startswith(f"{hands.directory}/.agent.yaml:")


def test_memory_that_is_shared_counts_once(hands: Talk) -> None:
    conversation = bound(hands, memory="300M")
    script = "m = mmap.mmap(-1, 120 << 20); m[:] = b'x' * (120 << 20)\nfor _ in range(4):\n    if os.fork() == 0: sum(m[::4096]); time.sleep(600)\ntime.sleep(2)"
    turn = hands.say(conversation, HOG + script)
    assert turn["state"] == "done"
    assert recorded() == []


@pytest.mark.parametrize("level", ["auto", "landlock"])
def test_too_many_processes(hands: Talk, level: str) -> None:
    conversation = bound(hands, level, processes=20)
    script = "for _ in range(60): subprocess.Popen(['sleep', '600'])\nprint('started'); time.sleep(600)"
    turn = hands.say(conversation, HOG + script)
    if os.geteuid() == 0 or level == "landlock":  # the kernel does not count
        assert (turn["state"], turn["reason"]) == ("interrupted", "processes")
        assert "processes at once, and limits.processes allows 20" in sentence(hands, conversation, turn["id"])
        assert recorded()[0]["limit"] == "processes"
    else:
        assert "Resource temporarily unavailable" in hands.answer(conversation, turn["id"])


LISTEN = "import os, time, socket, subprocess, sys\nsockets = []\nfor _ in range({0}): sockets.append(socket.create_server(('127.0.0.1', 0)))\n"


@pytest.mark.parametrize("level", ["auto", "off"])
def test_too_many_ports(hands: Talk, level: str) -> None:
    if level == "off":
        (paths.config() / "config.yaml").write_text("version: 1\nsandbox: {level: off}\n")
    conversation = bound(hands, ports=6)
    few = (
        LISTEN.format(3)
        + "clients = [socket.create_connection(s.getsockname()) for s in sockets for _ in range(9)]\ntime.sleep(1)"
    )
    assert hands.say(conversation, f"{few}\nfor s in sockets + clients: s.close()")["state"] == "done"
    assert recorded() == []
    assert hands.client.request("process/list", {})["processes"][0]["level"] == ("off" if level == "off" else "strict")
    turn = hands.say(
        conversation, LISTEN.format(4) + f"subprocess.run([sys.executable, '-c', {LISTEN.format(4) + 'time.sleep(600)'!r}])"
    )
    assert (turn["state"], turn["reason"]) == ("interrupted", "ports")
    assert f"it listened on 8 ports at once, and limits.ports allows 6 ({hands.directory}/.agent.yaml:" in sentence(
        hands, conversation, turn["id"]
    )
    assert [(hit["limit"], hit["used"], hit["allowed"]) for hit in recorded()] == [("ports", 8, 6)]
    assert hands.say(conversation, "print('here again')")["state"] == "done"


def test_no_port_at_all(hands: Talk) -> None:
    conversation = bound(hands, ports=0)
    assert hands.say(conversation, "import socket; s = socket.socketpair(); import time; time.sleep(1)")["state"] == "done"
    assert hands.say(conversation, LISTEN.format(1) + "time.sleep(600)")["reason"] == "ports"


def test_a_home_without_a_size_of_its_own_is_looked_at(hands: Talk) -> None:
    conversation = bound(hands, "landlock", tmp="20M")
    script = "with open(os.environ['TMPDIR'] + '/big', 'wb') as file:\n    for _ in range(40): file.write(os.urandom(1 << 20))\ntime.sleep(600)"
    turn = hands.say(conversation, HOG + script)
    assert (turn["state"], turn["reason"]) == ("interrupted", "tmp")
    assert "limits.tmp allows 20M" in sentence(hands, conversation, turn["id"])


def test_a_home_that_a_dead_daemon_left_is_gone_with_the_next(hands: Talk) -> None:
    conversation = bound(hands, "landlock")
    turn = hands.start(conversation, "import os, time; open(os.environ['TMPDIR'] + '/left', 'w').close(); time.sleep(600)")
    until(lambda: list(paths.landlock_home("").glob("*/tmp/left")))
    kill(hands.client.request("daemon/status", {})["pid"])
    with Client("test") as client:
        assert Talk(client, hands.directory).ended(conversation, turn["id"])["state"] == "interrupted"
    assert not paths.landlock_home("").exists()


WRITE = "with open('big{0}', 'wb') as file:\n    for _ in range({1}): file.write(os.urandom(1 << 20))\n"


def answer(talk: Talk, words: str) -> dict[str, Any]:
    (question,) = until(talk.approvals)
    said: dict[str, Any] = talk.client.request("approval/answer", {"approval": question["id"], "allow": True, "answer": words})
    return said


def test_too_much_growth_stops_the_turn_and_a_person_may_raise_it(hands: Talk) -> None:
    conversation = bound(hands, disk="50M")
    small = hands.say(conversation, HOG + WRITE.format(1, 10))
    assert small["state"] == "done"
    # hands does not heed a cancel: it has its time, or is ended for much more
    turn = hands.say(conversation, HOG + WRITE.format(2, 100) + "time.sleep(600)")
    assert (turn["state"], turn["reason"]) == ("cancelled", "disk")
    said = sentence(hands, conversation, turn["id"])
    assert "The directory grew by" in said and f"limits.disk allows 50M ({hands.directory}/.agent.yaml:" in said
    assert {hit["limit"] for hit in recorded()} == {"disk"}
    (question,) = until(hands.approvals)
    assert [option["id"] for option in question["options"]] == ["raise", "double", "stop"]
    assert question["id"] in hands.file(conversation, f"/{turn['id']} cancelled")
    row = hands.client.request("process/list", {})["processes"][0]
    assert (row["state"], row["waiting_for"]) == ("waiting", [question["id"]])
    refused = hands.say(conversation, "print('not sent')")
    assert (refused["state"], refused["reason"]) == ("cancelled", "disk") and len(hands.approvals()) == 1
    with pytest.raises(Usage, match="no answer"):
        answer(hands, "a bit")
    answer(hands, "double")
    again = until(lambda: [each for each in hands.show(conversation)["turns"] if each["text"] == "Go on."])[0]
    assert hands.ended(conversation, again["id"])["state"] == "done"
    (raised,) = recorded("limit.raise")
    assert raised["added"] == raised["used"] - (50 << 20) + (50 << 20) and raised["approval"] == question["id"]
    assert hands.say(conversation, HOG + WRITE.format(3, 10))["state"] == "done"


def test_what_is_removed_is_room_again(hands: Talk) -> None:
    conversation = bound(hands, disk="20M")
    assert hands.say(conversation, HOG + WRITE.format(1, 100) + "time.sleep(600)")["reason"] == "disk"
    assert hands.approvals()
    (hands.directory / "big1").unlink()
    until(lambda: hands.say(conversation, "print('room')")["state"] == "done")
    assert not hands.approvals(), "the conversation went on"


def test_the_question_outlives_the_daemon_and_a_size_can_be_answered(hands: Talk) -> None:
    conversation = bound(hands, disk="20M")
    assert hands.say(conversation, HOG + WRITE.format(1, 30) + "time.sleep(600)")["reason"] == "disk"
    kill(hands.client.request("daemon/status", {})["pid"])
    with Client("test") as client:
        talk = Talk(client, hands.directory)
        client.request("workspace/open", {"path": str(hands.directory), "environment": dict(os.environ)})
        answer(talk, "raise 1G")
        again = until(lambda: [each for each in talk.show(conversation)["turns"] if each["text"] == "Go on."])[0]
        assert talk.ended(conversation, again["id"])["state"] == "done"
        assert talk.say(conversation, HOG + WRITE.format(2, 60))["state"] == "done"
        assert [each["added"] for each in recorded("limit.raise")] == [1 << 30]


def test_nobody_raises_what_the_machine_sets(hands: Talk, home: Path) -> None:
    policy = home.parent / "no-policy.yaml"
    policy.write_text("limits: {disk: 20M}\n")
    policy.chmod(0o644)
    conversation = bound(hands)
    assert hands.say(conversation, HOG + WRITE.format(1, 40) + "time.sleep(600)")["reason"] == "disk"
    assert [option["id"] for option in hands.approvals()[0]["options"]] == ["stop"]
    with pytest.raises(Usage):
        answer(hands, "raise 1G")
    answer(hands, "stop")
    assert not hands.approvals()
    assert hands.say(conversation, "print('on')")["reason"] == "disk"


def test_the_weight_of_a_tree_that_is_gone() -> None:
    with subprocess.Popen(["sleep", "600"]) as child:
        start = start_time(child.pid) or 0
        family, another = (Family(ProcessId("x1"), child.pid, when) for when in (start, start + 1))
        assert weighing.weigh({family: Limits()})[family.id].processes == 1
        assert weighing.weigh({another: Limits()}) == {}
        child.kill()
        child.wait()
    assert weighing.weigh({family: Limits()}) == {}
