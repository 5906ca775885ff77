"""The echo agent's misbehaviour, driven over stdio: each mode does what its README says, and nothing of it outlives the test."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.doubles.stdio_agent import StdioAgent, running

ECHO = Path(__file__).resolve().parents[2] / "runtimes/echo"


class Factory:
    """Starts echo agents in one directory and ends them with the test."""

    def __init__(self, stack: ExitStack, cwd: Path) -> None:
        self.stack = stack
        self.cwd = cwd

    def start(self, *arguments: str) -> StdioAgent:
        return self.stack.enter_context(running([sys.executable, "-I", "-S", str(ECHO), *arguments], self.cwd))

    def ready(self, *arguments: str) -> StdioAgent:
        agent = self.start(*arguments)
        agent.begin(self.cwd)
        return agent


@pytest.fixture
def factory(tmp_path: Path) -> Iterator[Factory]:
    with ExitStack() as stack:
        yield Factory(stack, tmp_path)


@pytest.mark.parametrize(
    ("directive", "status", "text"),
    [
        ("/crash", 70, ""),
        ("/crash 3 2", 3, "1 2 "),
        ("/crash SIGKILL", -9, ""),
        ("/crash segv 1", -11, "1 "),
        ("/crash TERM", -15, ""),
        ("/exit", 0, "leaving "),
        ("/half", 0, "half "),
    ],
)
def test_the_process_ends_in_a_turn(factory: Factory, directive: str, status: int, text: str) -> None:
    agent = factory.ready()
    agent.ask(directive)
    assert agent.ended() == status
    assert agent.text() == text
    assert not any("stopReason" in m.get("result", {}) for m in agent.messages)


@pytest.mark.parametrize(("option", "status"), [("initialize", 70), ("session:5", 5), ("prompt:SIGABRT", -6)])
def test_the_process_ends_at_a_stage(factory: Factory, option: str, status: int) -> None:
    agent = factory.start(f"--crash={option}")
    calls: list[tuple[str, dict[str, Any]]] = [
        ("initialize", {"protocolVersion": 1}),
        ("session/new", {"cwd": "/", "mcpServers": []}),
    ]
    for method, params in calls if "initialize" not in option else calls[:1]:
        agent.post(method, **params)
    if option.startswith("prompt"):
        agent.until(lambda m: "sessionId" in m.get("result", {}))
        agent.ask("hello")
    assert agent.ended() == status
    assert b"echo: ending as asked" in agent.errors


@pytest.mark.parametrize("stage", ["initialize", "session", "prompt"])
def test_a_stage_hangs_or_fails(factory: Factory, stage: str) -> None:
    hung, failed = factory.start(f"--hang={stage}"), factory.start(f"--fail={stage}:-32000")
    for agent in (hung, failed):
        agent.post("initialize", protocolVersion=1)
        agent.post("session/new", cwd="/", mcpServers=[])
        if stage == "prompt":
            created = agent.until(lambda m: "sessionId" in m.get("result", {}))
            agent.session = created["result"]["sessionId"]
            agent.ask("hello")
        agent.post("no/such/method")
        agent.until(lambda m: m.get("error", {}).get("code") == -32601)
    failures = [m for m in failed.messages if m.get("error", {}).get("code") == -32000]
    assert len(failures) == 1
    assert failures[0]["id"] not in [m.get("id") for m in hung.messages]


def test_flood_sends_every_update_in_order_and_hears_a_cancel(factory: Factory) -> None:
    agent = factory.ready()
    text, _ = agent.prompt("/flood 20000 50")
    assert len(text) == 20_000 * 50
    assert [int(text[at : at + 8]) for at in range(0, len(text), 50)] == list(range(20_000))
    turn = agent.ask("/flood 100000000 200")
    agent.pump(5)
    agent.notify("session/cancel", sessionId=agent.session)
    assert agent.answer_to(turn)["result"]["stopReason"] == "cancelled"


def test_huge_is_one_line_and_the_next_one_counts(factory: Factory) -> None:
    agent = factory.ready()
    text, _ = agent.prompt("/huge 4")
    assert len(text) == 4 * 2**20 + len("before after the huge line ")
    assert text.endswith("after the huge line ")


def test_garbage_stands_between_valid_chunks(factory: Factory) -> None:
    agent = factory.ready("--garbage")
    turn = agent.ask("/garbage")
    result = agent.until(lambda m: m.get("id") == turn and type(m["id"]) is int)
    assert result["result"]["stopReason"] == "end_turn"
    agent.until(lambda m: m.get("error", {}).get("message") == "too late")
    valid = [u["content"]["text"] for u in agent.updates() if u["content"]["text"].startswith("valid")]
    assert valid == [f"valid {number} " for number in range(1, len(valid))] + ["valid end "]
    assert len(valid) > 20
    kept = b"\n".join(agent.noise)
    for noise in (b"Welcome", b"\x1b[31m", b"\xef\xbb\xbf", b"\xff\xfe", b"{not json}", b"\x00", b"[[[["):
        assert noise in kept, noise


def test_dribble_arrives_whole(factory: Factory) -> None:
    assert factory.ready().prompt("/dribble grün 水")[0] == "grün 水"


def test_term_and_the_end_of_input_can_be_ignored(factory: Factory) -> None:
    early, late = factory.ready("--ignore-term", "--ignore-eof"), factory.ready()
    late.prompt("/ignore-term\n/ignore-eof")
    for agent in (early, late):
        agent.process.terminate()
        assert agent.prompt("still here")[0] == "echo: still here"
        agent.close_input()
        assert agent.pump(0.3) is None
        assert agent.process.poll() is None


def test_hang_does_not_hear_a_cancel_but_serves_others(factory: Factory) -> None:
    agent = factory.ready()
    turn = agent.ask("/hang")
    agent.notify("session/cancel", sessionId=agent.session)
    agent.call("session/new", cwd="/", mcpServers=[])
    assert turn not in [m.get("id") for m in agent.messages]


def test_noread_leaves_input_unread_for_its_time(factory: Factory) -> None:
    agent = factory.ready()
    assert agent.prompt("/noread 0.4")[0] == "deaf "
    assert agent.prompt("later")[0] == "echo: later"
    agent.prompt("/noread")
    assert agent.process.stdin is not None
    os.set_blocking(agent.process.stdin.fileno(), False)
    with pytest.raises(BlockingIOError):
        for _ in range(100):
            os.write(agent.process.stdin.fileno(), b" " * 65536)
    agent.process.terminate()
    assert agent.ended() == -15


def test_mute_closes_stdout_and_lives(factory: Factory) -> None:
    agent = factory.ready()
    agent.ask("/mute")
    while agent.pump(5):
        pass
    assert agent.text() == "mute "
    assert agent.process.poll() is None


def test_stderr_is_written_in_full(factory: Factory) -> None:
    agent = factory.ready()
    assert agent.prompt("/stderr 20000")[0] == "stderr 20000 "
    agent.close_input()
    assert agent.ended() == 0
    assert len(agent.errors) == 20_000 * 100


@pytest.mark.parametrize(("directive", "count"), [("/fork", 1), ("/fork clean", 1), ("/forkmany 4", 4)])
def test_daemons_outlive_the_agent_and_hold_no_descriptor(factory: Factory, directive: str, count: int) -> None:
    agent = factory.ready()
    text, _ = agent.prompt(directive)
    daemons = [psutil.Process(int(word)) for word in text.split()[1:]]
    try:
        assert len(daemons) == count
        agent.close_input()
        assert agent.ended() == 0
        for daemon in daemons:
            assert daemon.is_running()
            assert os.getsid(daemon.pid) != os.getsid(0)
            assert os.getpgid(daemon.pid) != agent.process.pid
    finally:
        for daemon in daemons:
            daemon.kill()


@pytest.mark.parametrize(("kind", "count"), [("none", 0), ("many", 500), ("same", 4), ("misnamed", 2), ("kinds", 1)])
def test_bad_options(factory: Factory, kind: str, count: int) -> None:
    agent = factory.ready()
    turn = agent.ask(f"/badoptions {kind}")
    request = agent.requested("session/request_permission")
    assert request["id"] == 0
    assert len(request["params"]["options"]) == count
    agent.send({"jsonrpc": "2.0", "id": 0, "result": {"outcome": {"outcome": "selected", "optionId": "never offered"}}})
    agent.answer_to(turn)
    assert agent.text() == "badoptions: unknown "


def test_unknown_things_go_out_and_their_errors_are_told(factory: Factory) -> None:
    agent = factory.ready()
    turn = agent.ask("/unknown stop")
    for method in ("_x/y", "echo/unknown"):
        identity = agent.requested(method)["id"]
        agent.send({"jsonrpc": "2.0", "id": identity, "error": {"code": -32601, "message": "Method not found"}})
    assert agent.answer_to(turn)["result"]["stopReason"] == "enlightenment"
    assert agent.text().count("-32601") == 2
    assert {"telepathy", "tool_call"} <= {u["sessionUpdate"] for u in agent.updates()}
    assert [m["method"] for m in agent.messages if m.get("method", "").endswith("/note")] == ["_x/note", "echo/note"]


def test_version_2_and_missing_abilities_are_told_at_initialize(factory: Factory) -> None:
    answer = factory.start("--v2", "--without=load,resume,list").initialize()
    assert answer["protocolVersion"] == 2
    assert answer["agentCapabilities"]["loadSession"] is False
    assert set(answer["agentCapabilities"]["sessionCapabilities"]) == {"close", "delete"}


def test_start_can_be_slow(factory: Factory) -> None:
    agent = factory.start("--start-delay=0.4")
    agent.post("initialize", protocolVersion=1)
    assert agent.pump(0.2) is None
    assert agent.answer_to(1)["result"]["protocolVersion"] == 1
