"""The daemon's socket: greeting, versions, limits, strangers, slow readers, leaving when idle."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from pathlib import Path
from typing import Any

import psutil
import pytest

from opagent import control, paths
from opagent.client import Client
from opagent.process import tree
from tests.doubles.patience import PATIENCE, until
from tests.integration.conftest import Talk


class Wire:
    """A client that says exactly what the test wants."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(str(paths.socket()))
        self.file = self.socket.makefile("rb")
        self.greeting = self.read()

    def read(self) -> Any:
        line = self.file.readline()
        return json.loads(line) if line else None

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def ask(self, method: str, params: dict[str, Any] | None = None, ident: int = 1) -> Any:
        self.send(json.dumps({"jsonrpc": "2.0", "id": ident, "method": method, "params": params or {}}).encode() + b"\n")
        return self.read()

    def hello(self, protocol: int = control.PROTOCOL) -> Any:
        return self.ask("hello", {"client": "test", "version": "0", "protocol": protocol, "pid": os.getpid()})

    def close(self) -> None:
        self.file.close()
        self.socket.close()


@pytest.fixture
def wire(talk: Talk) -> Any:
    found = Wire()
    yield found
    found.close()


def test_the_daemon_speaks_first(wire: Wire) -> None:
    body = wire.greeting["opagent"]
    assert body["protocol"] == [control.OLDEST, control.NEWEST] and body["daemon"] > 0 and body["boot"]


@pytest.mark.parametrize("protocol", [control.PROTOCOL - 1, control.PROTOCOL, control.PROTOCOL + 1])
def test_one_version_older_and_newer_is_understood(wire: Wire, protocol: int) -> None:
    assert wire.hello(protocol)["result"]["protocol"] <= control.PROTOCOL
    assert wire.ask("daemon/status")["result"]["pid"] == wire.greeting["opagent"]["daemon"]


@pytest.mark.parametrize("protocol", [0, control.PROTOCOL + 2, -1])
def test_other_versions_get_one_sentence_and_a_command(wire: Wire, protocol: int) -> None:
    error = wire.hello(protocol)["error"]
    assert error["data"]["code"] == "protocol_mismatch" and error["data"]["hint"]
    assert wire.read() is None


def test_nothing_goes_before_hello(wire: Wire) -> None:
    assert wire.ask("daemon/status")["error"]["data"]["code"] == "usage"
    assert wire.read() is None


def test_garbage_is_survived(wire: Wire) -> None:
    wire.hello()
    wire.send(b"no json\n[]\n{}\n\xff\xfe\n" + b"[" * 100_000 + b"\n" + b"\n\n")
    answers = []
    while (answer := wire.ask("daemon/status", ident=77)) and answer.get("id") != 77:
        answers.append(answer)
    assert answer["result"]["pid"]


def test_a_line_that_is_too_long_is_answered_and_ends_the_connection(wire: Wire) -> None:
    wire.hello()
    with contextlib.suppress(ConnectionError):
        wire.send(b"x" * (control.FRAME_LIMIT + 2**17))
    answer = wire.read()
    assert answer["id"] is None and str(control.FRAME_LIMIT) in answer["error"]["message"]
    with contextlib.suppress(ConnectionResetError):
        assert wire.read() is None


def test_a_stop_with_a_client_connected_is_no_mistake(wire: Wire, talk: Talk) -> None:
    wire.hello()
    wire.send(b'{"jsonrpc": "2.0", "id": 1, "method": "none"}\n' * 10_000)  # and reads none of the answers
    talk.client.request("daemon/stop")
    until(lambda: tree.start_time(wire.greeting["opagent"]["daemon"]) is None)
    assert "Traceback" not in paths.daemon_log().read_text()


def test_a_client_has_a_limited_number_of_open_requests(wire: Wire, talk: Talk) -> None:
    wire.hello()
    conversation = talk.create()
    talk.start(conversation, "/hang")
    stop = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "process/stop", "params": {"process": conversation["id"]}}).encode()
    wire.send(b"".join(stop.replace(b'"id": 1', b'"id": %d' % number) + b"\n" for number in range(1, 100)))
    answers = [wire.read() for _ in range(99)]
    refused = [answer for answer in answers if "error" in answer]
    assert len(refused) == 99 - control.OPEN_REQUESTS and all("open requests" in each["error"]["message"] for each in refused)


def test_another_user_is_refused(talk: Talk, home: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to become another user: run the tests as root")
    for path in (paths.run(), *paths.run().parents[: paths.run().parents.index(home.parent) + 1]):
        path.chmod(0o711)
    paths.socket().chmod(0o666)
    reading, writing = os.pipe()
    child = os.fork()  # not a new interpreter: the other user may not be able to reach it
    if child == 0:
        os.setgid(65534)
        os.setuid(65534)
        stranger = socket.socket(socket.AF_UNIX)
        stranger.settimeout(PATIENCE)
        stranger.connect(str(paths.socket()))
        os.write(writing, b"got " + stranger.recv(10))
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert os.read(reading, 100) == b"got "
    os.close(reading)
    os.close(writing)
    assert talk.client.request("daemon/status")["pid"]


def test_a_slow_reader_is_told_and_loses_nothing(talk: Talk, wire: Wire) -> None:
    wire.hello()
    conversation = talk.create()
    wire.ask("events/subscribe", {"conversation": conversation["id"], "after": 0})
    turn = talk.start(conversation, "/flood 30000 1000")
    assert talk.ended(conversation, turn["id"])["state"] == "done"
    seen, lagging = [], None
    while lagging is None:
        message = wire.read()
        assert message is not None
        if message["method"] == "lagging":
            lagging = message["params"]
        else:
            seen.append(message["params"]["seq"])
    assert seen == list(range(1, len(seen) + 1)) and lagging["seq"] == seen[-1]
    with Client("patient") as client:
        client.subscribe(conversation["id"], lagging["seq"])
        while (event := client.next_event(PATIENCE)) is not None:
            seen.append(event.seq)
            if event.turn == turn["id"] and event.body.get("state") == "done":
                break
    assert seen == list(range(1, len(seen) + 1))


def test_all_conversations_by_the_number_of_the_journal(talk: Talk, wire: Wire) -> None:
    wire.hello()
    assert wire.ask("events/subscribe", {"conversation": "*", "after": None})["result"]["conversation"] == "*"
    one, two = talk.create(), talk.create()
    talk.say(one, "one")
    talk.say(two, "two")
    numbers, conversations, message = [], set(), wire.read()
    while len(conversations) < 2 or message["params"]["body"].get("state") != "done":
        message = wire.read()
        numbers.append(message["params"]["journal"])
        conversations.add(message["params"]["conversation"])
    assert numbers == sorted(set(numbers)) and conversations == {one["id"], two["id"]}


def test_who_follows_hears_of_an_end_that_the_file_shows(talk: Talk, wire: Wire) -> None:
    wire.hello()
    conversation = talk.create()
    wire.ask("events/subscribe", {"conversation": conversation["id"], "after": None})
    for number in range(10):
        turn = talk.start(conversation, f"number {number}")
        while (event := wire.read()["params"])["kind"] != "turn_state" or event["body"]["state"] != "done":
            pass
        assert f"/{turn['id']} done" in Path(conversation["path"]).read_text()


def test_an_idle_daemon_leaves_and_a_busy_one_stays(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPAGENT_IDLE_EXIT", "0.5")
    (home / "notes").mkdir()
    with Client("test") as client:
        talk = Talk(client, home / "notes")
        pid = client.request("daemon/status")["pid"]
        conversation = talk.create()
        turn = talk.start(conversation, "/slow 40 0.05")
    with Client("later", start=False) as client:  # the turn goes on for two seconds, so the daemon is there
        talk = Talk(client, home / "notes")
        assert client.request("daemon/status")["pid"] == pid
        assert talk.ended(conversation, turn["id"])["state"] == "done"
        client.request("process/stop", {"process": conversation["id"]})
    until(lambda: not paths.socket().exists())
    until(lambda: psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)  # it is this process's child
