"""The assistant as a process over stdio, against a scripted model in both interfaces: ACP, tools, questions, cancel, coming back."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.contract.test_acp_schema import fits
from tests.doubles import libraries, scripted_model
from tests.doubles.patience import until
from tests.doubles.scripted_model import CACHED, INPUT, OUTPUT, Model, call, calls, fail, say
from tests.doubles.stdio_agent import StdioAgent, running

ALLOW = {"outcome": "selected", "optionId": "allow"}
REJECT = {"outcome": "selected", "optionId": "reject"}
ABLE = {"session": {"notices": {}, "compaction": {}}}
Start = Callable[..., StdioAgent]


@pytest.fixture(scope="module")
def assistant() -> Iterator[Path]:
    with libraries.installed("assistant") as folder:
        yield folder


@pytest.fixture
def model() -> Iterator[Model]:
    with scripted_model.running() as serving:
        yield serving


@pytest.fixture(params=["chat", "messages"])
def interface(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    folder = tmp_path / "desk"
    folder.mkdir()
    (folder / "a.md").write_text("one\ntwo\nthree\n")
    return folder


@pytest.fixture
def launch(assistant: Path, desk: Path, tmp_path: Path) -> Iterator[Start]:
    """Starts assistants without a session."""
    with ExitStack() as stack:

        def begin(**environment: str) -> StdioAgent:
            env = {**os.environ, "OPAGENT_STATE": str(tmp_path / "state"), **environment}
            argv = [sys.executable, "-I", "-S", "-B", str(assistant)]
            agent = stack.enter_context(running(argv, desk, env))
            agent.call("initialize", protocolVersion=1, clientCapabilities=ABLE)
            return agent

        yield begin


@pytest.fixture
def start(launch: Start, model: Model, interface: str, desk: Path) -> Start:
    """Starts assistants with a session, in the interface of this test."""

    def begin(mode: str = "ask", servers: list[dict[str, Any]] | None = None, **environment: str) -> StdioAgent:
        agent = launch(**model.environment(interface), **environment)
        agent.session = agent.call("session/new", cwd=str(desk), mcpServers=servers or [])["sessionId"]
        if mode != "ask":
            agent.call("session/set_mode", sessionId=agent.session, modeId=mode)
        return agent

    return begin


def answered(agent: StdioAgent, text: str, *outcomes: dict[str, str]) -> tuple[Any, list[dict[str, Any]], list[dict[str, Any]]]:
    """One turn in which each question gets the next outcome: its result, the questions, the updates."""
    begin = seen = len(agent.messages)
    ident = agent.ask(text)
    questions: list[dict[str, Any]] = []
    while True:
        message = agent.until(
            lambda each: each.get("method") == "session/request_permission" or each.get("id") == ident, after=seen
        )
        seen = agent.messages.index(message) + 1
        if message.get("method") != "session/request_permission":
            return message, questions, agent.updates(begin)
        questions.append(message["params"])
        fits("RequestPermissionRequest", message["params"])
        agent.send({"jsonrpc": "2.0", "id": message["id"], "result": {"outcome": outcomes[len(questions) - 1]}})


def said(updates: list[dict[str, Any]]) -> str:
    return "".join(each["content"]["text"] for each in updates if each["sessionUpdate"] == "agent_message_chunk")


def notices(updates: list[dict[str, Any]]) -> list[str]:
    return [each["title"] for each in updates if each["sessionUpdate"] == "notice"]


def test_it_streams_and_says_what_it_used(start: Start, model: Model) -> None:
    model.then(say("Größe ändert sich ✓", thought="let me see"))
    agent = start(ASSISTANT_PRICES='{"*": {"input": 1000, "output": 2000, "cached": 0}}', ASSISTANT_CONTEXT="50000")
    message, _, updates = answered(agent, "hello")
    assert said(updates) == "Größe ändert sich ✓"
    assert sum(each["sessionUpdate"] == "agent_message_chunk" for each in updates) > 3
    assert "".join(each["content"]["text"] for each in updates if each["sessionUpdate"] == "agent_thought_chunk") == "let me see"
    usage = {"inputTokens": INPUT, "outputTokens": OUTPUT, "totalTokens": INPUT + OUTPUT, "cachedReadTokens": CACHED}
    assert message["result"] == {"stopReason": "end_turn", "usage": usage}
    [found] = [each for each in updates if each["sessionUpdate"] == "usage_update"]
    cost = ((INPUT - CACHED) * 1000 + OUTPUT * 2000) / 1e6
    assert found == {
        "sessionUpdate": "usage_update", "used": INPUT + OUTPUT, "size": 50000, "cost": {"amount": cost, "currency": "USD"}
    }  # fmt: skip
    assert "read" in model.asked[0].tools and "run" in model.asked[0].tools


def test_the_key_goes_where_the_interface_wants_it(start: Start, model: Model, interface: str) -> None:
    answered(start(), "hello")
    headers = model.asked[0].headers
    if interface == "chat":
        assert headers["authorization"] == "Bearer sk-test-0123456789"
        assert model.asked[0].body["stream_options"] == {"include_usage": True}
    else:
        assert (headers["x-api-key"], headers["anthropic-version"]) == ("sk-ant-0123456789", "2023-06-01")
        assert model.asked[0].body["max_tokens"] > 0


def test_it_reads_lists_and_searches_without_asking(start: Start, model: Model, desk: Path) -> None:
    (desk / "sub").mkdir()
    (desk / "sub/b.py").write_text("import two\n")
    model.then(
        calls(
            ("read", {"path": "a.md", "start": 2}), ("list", {}), ("list", {"pattern": "*.py"}), ("search", {"pattern": "tw[o]"}),
            ("search", {"pattern": "nothing like it"}), ("read", {"path": "../secret"}), ("read", {"path": "none.md"}), text="I look.",
        ),
        say("done"),
    )  # fmt: skip
    message, questions, updates = answered(start(), "look around")
    assert message["result"]["stopReason"] == "end_turn" and questions == []
    told = "\n".join(model.asked[1].texts)
    for expected in (
        "2\ttwo\n3\tthree",
        "a.md\nsub/",
        "sub/b.py",
        "a.md:2:two",
        "[nothing found]",
        "lies outside",
        "No such file",
    ):
        assert expected in told
    states = [each["status"] for each in updates if each["sessionUpdate"] == "tool_call_update"]
    assert (states.count("completed"), states.count("failed")) == (5, 2)
    for each in updates:
        fits("SessionNotification", {"sessionId": "x", "update": each})
    assert message["result"]["usage"]["inputTokens"] == 2 * INPUT


def test_an_edit_is_a_diff_that_is_asked_for(start: Start, model: Model, desk: Path) -> None:
    edit = call("edit", path="a.md", old="two", new="2")
    model.then(edit, say("was it no?"), edit, say("changed"))
    agent = start()
    _, [question], _ = answered(agent, "change it", REJECT)
    [diff] = question["toolCall"]["content"]
    assert diff == {"type": "diff", "path": str(desk / "a.md"), "oldText": "one\ntwo\nthree\n", "newText": "one\n2\nthree\n"}
    assert (desk / "a.md").read_text() == "one\ntwo\nthree\n"
    assert "the person did not allow this" in model.asked[1].texts[-1]
    answered(agent, "do change it", ALLOW)
    assert (desk / "a.md").read_text() == "one\n2\nthree\n"


def test_write_and_run_and_what_a_command_sees(start: Start, model: Model, desk: Path) -> None:
    model.then(
        call("write", path="new/deep.md", text="fresh\n"),
        call("run", command="cat new/deep.md; env; echo oops >&2; exit 3"),
        say("done"),
    )
    _, questions, _ = answered(start(), "go", ALLOW, ALLOW)
    assert (desk / "new/deep.md").read_text() == "fresh\n"
    assert [each["toolCall"]["kind"] for each in questions] == ["edit", "execute"]
    assert questions[1]["toolCall"]["rawInput"]["command"].startswith("cat new/deep.md")
    told = model.asked[2].texts[-1]
    assert "fresh" in told and "oops" in told and "[exit status 3]" in told
    assert "PATH=" in told and "0123456789" not in told


def test_auto_asks_nothing_and_plan_changes_nothing(start: Start, model: Model, desk: Path) -> None:
    write = call("write", path="x.md", text="x")
    model.then(write, say("done"))
    _, questions, _ = answered(start("auto"), "go")
    assert questions == [] and (desk / "x.md").read_text() == "x"
    model.then(call("write", path="y.md", text="y"), call("run", command="touch z"), say("I would"))
    _, questions, updates = answered(start("plan"), "go")
    assert questions == [] and not (desk / "y.md").exists() and not (desk / "z").exists()
    assert "in the mode `plan`" in "\n".join(model.asked[-1].texts)
    assert set(model.asked[-1].tools) == {"read", "list", "search"}
    assert "You are planning" in model.asked[-1].system
    assert [each["status"] for each in updates if each["sessionUpdate"] == "tool_call_update"] == ["failed", "failed"]


def test_what_the_model_gets_wrong_comes_back_to_it(start: Start, model: Model, desk: Path) -> None:
    (desk / "b.md").write_bytes(b"\xff\xfe\x00")
    wrong = [
        (call("read", raw='{"path": '), "no valid JSON"), (call("read", raw="[1]"), "no JSON object"), (call("fly"), "there is no tool fly"),
        (call("read"), "must be a text"), (call("read", path="a.md", start="x"), "must be a number"),
        (call("edit", path="a.md", old="four", new="4"), "not in the file exactly"), (call("edit", path="a.md", old="", new="4"), "is empty"),
        (call("read", path="b.md"), "no UTF-8"), (call("search", pattern="("), "grep"), (call("run", command="sleep 60", seconds=1), "the limit"),
    ]  # fmt: skip
    model.then(*(step for step, _ in wrong), say("done"))
    message, _, _ = answered(start("auto"), "go")
    assert message["result"]["stopReason"] == "end_turn"
    for (_, expected), asked in zip(wrong, model.asked[1:], strict=True):
        assert expected in asked.texts[-1]


def test_long_output_is_bounded(start: Start, model: Model) -> None:
    model.then(call("run", command="echo begin; head -c 3000000 /dev/zero | tr '\\0' x; echo; echo end"), say("done"))
    answered(start("auto"), "go")
    told = model.asked[1].texts[-1]
    assert "begin" in told and told.endswith("end\n") and "bytes left out" in told
    assert len(told) < 31_000


def test_what_a_command_leaves_in_the_background_ends_with_it(start: Start, model: Model, desk: Path) -> None:
    model.then(call("run", command="sleep 300 & echo $! > pid; echo up"), say("done"))
    answered(start("auto"), "go")
    assert "up" in model.asked[1].texts[-1]
    until(lambda: not psutil.pid_exists(int((desk / "pid").read_text())))


@pytest.mark.parametrize(
    ("step", "sentence"),
    [
        (fail(429, "slow down", retry_after="0"), "429: slow down; asked again in 0.0 seconds (try 2 of 6)"),
        (fail(500), "500: it is scripted so; asked again in"),
        (say("half an answer that is cut", broken="cut"), "broke off"),
        (say("half an answer that is cut", broken="end"), "the answer broke off"),
        (say("half an answer with garbage", broken="garbage"), "an event is no JSON"),
        (say(broken="closed"), "cannot be reached or broke off"),
        (say(broken="other"), "broke off (Expected response with content type"),
    ],
    ids=["429", "500", "cut", "short", "garbage", "closed", "other"],
)
def test_a_failure_is_said_and_tried_again(start: Start, model: Model, step: Any, sentence: str) -> None:
    model.then(step, say("whole"))
    message, _, updates = answered(start(), "hello")
    assert message["result"]["stopReason"] == "end_turn"
    [found] = notices(updates)
    assert sentence in found
    assert said(updates).endswith("whole")
    assert len(model.asked) == 2
    assert model.asked[1].texts == model.asked[0].texts


def test_retries_end_and_the_turn_fails_with_the_reason(start: Start, model: Model) -> None:
    model.then(*[fail(503, retry_after="0")] * 6)
    agent = start()
    message, _, updates = answered(agent, "hello")
    assert "503" in message["error"]["message"] and "it was asked 6 times" in message["error"]["message"]
    assert len(notices(updates)) == 5
    model.then(fail(429, retry_after="3600"))
    message, _, updates = answered(agent, "hello")
    assert "asks to wait 3600 seconds" in message["error"]["message"]
    assert notices(updates) == []
    model.then(fail(401, "wrong key"))
    message, _, _ = answered(agent, "hello")
    assert (message["error"]["code"], message["error"]["message"]) == (-32000, "the endpoint answers 401: wrong key")
    model.then(fail(400, "no such model"))
    assert "no such model" in answered(agent, "hello")[0]["error"]["message"]
    assert said(answered(agent, "and now?")[2]).endswith("and now?")


@pytest.mark.parametrize(("stop", "reason"), [("length", "max_tokens"), ("content_filter", "refusal")])
def test_why_a_model_stopped(start: Start, model: Model, stop: str, reason: str) -> None:
    model.then(say("so far", stop=stop))
    assert answered(start(), "hello")[0]["result"]["stopReason"] == reason


def test_cancel_in_the_stream(start: Start, model: Model) -> None:
    held = threading.Event()
    model.then(say("a long answer", hold=held))
    agent = start()
    ident = agent.ask("hello")
    agent.until(lambda each: each.get("params", {}).get("update", {}).get("sessionUpdate") == "agent_message_chunk")
    agent.notify("session/cancel", sessionId=agent.session)
    assert agent.answer_to(ident)["result"]["stopReason"] == "cancelled"
    answered(agent, "go on")
    told = model.asked[-1].texts
    assert any("[cut off by the person]" in each for each in told) and "go on" in told[-1]


def test_cancel_in_a_tool_in_a_question_and_in_a_retry(start: Start, model: Model, desk: Path) -> None:
    agent = start()
    model.then(call("run", command="echo $$ > pid; sleep 300"))
    ident = agent.ask("run it")
    question = agent.requested("session/request_permission")
    agent.send({"jsonrpc": "2.0", "id": question["id"], "result": {"outcome": ALLOW}})
    pid = int(until(lambda: (desk / "pid").exists() and (desk / "pid").read_text().strip()))
    agent.notify("session/cancel", sessionId=agent.session)
    assert agent.answer_to(ident)["result"]["stopReason"] == "cancelled"
    assert not psutil.pid_exists(pid)

    model.then(call("edit", path="a.md", old="two", new="2"))
    seen = len(agent.messages)
    ident = agent.ask("edit it")
    question = agent.until(lambda each: each.get("method") == "session/request_permission", after=seen)
    agent.notify("session/cancel", sessionId=agent.session)
    agent.send({"jsonrpc": "2.0", "id": question["id"], "result": {"outcome": {"outcome": "cancelled"}}})
    assert agent.answer_to(ident)["result"]["stopReason"] == "cancelled"
    assert (desk / "a.md").read_text() == "one\ntwo\nthree\n"

    model.then(fail(429, retry_after="100"))
    ident = agent.ask("wait for it")
    agent.until(lambda each: each.get("params", {}).get("update", {}).get("sessionUpdate") == "notice")
    agent.notify("session/cancel", sessionId=agent.session)
    assert agent.answer_to(ident)["result"]["stopReason"] == "cancelled"
    answered(agent, "still there?")
    assert sum("This was cut off" in each for each in model.asked[-1].texts) == 2


def test_a_question_that_is_answered_with_cancelled_ends_the_turn(start: Start, model: Model) -> None:
    model.then(calls(("run", {"command": "true"}), ("read", {"path": "a.md"})))
    message, _, _ = answered(start(), "go", {"outcome": "cancelled"})
    assert message["result"]["stopReason"] == "cancelled"


def test_it_comes_back_after_a_kill(start: Start, launch: Start, model: Model, interface: str, desk: Path) -> None:
    agent = start("plan")
    answered(agent, "my name is Ada")
    agent.call("session/set_mode", sessionId=agent.session, modeId="ask")
    model.then(call("run", command="sleep 300"))
    agent.ask("run it")
    agent.requested("session/request_permission")
    agent.kill()
    again = launch(**model.environment(interface))
    settings = again.call("session/resume", sessionId=agent.session, cwd=str(desk), mcpServers=[])
    assert settings["modes"]["currentModeId"] == "ask"
    assert again.text() == ""
    again.session = agent.session
    answered(again, "who am I?")
    told = model.asked[-1].texts
    assert "my name is Ada" in "\n".join(told) and any("This was cut off" in each for each in told)
    seen = len(again.messages)
    fits("LoadSessionResponse", again.call("session/load", sessionId=agent.session, cwd=str(desk), mcpServers=[]))
    kinds = [each["sessionUpdate"] for each in again.updates(seen)]
    assert {"user_message_chunk", "agent_message_chunk", "tool_call"} <= set(kinds)
    for ident in ("unknown-1", "../../etc/passwd", "", agent.session.upper()):
        answer = again.answer_to(again.post("session/load", sessionId=ident, cwd=str(desk), mcpServers=[]))
        assert answer["error"]["code"] == -32602


def test_a_full_context_is_made_shorter(start: Start, model: Model, desk: Path) -> None:
    (desk / "big.md").write_text("word " * 1200)
    agent = start(ASSISTANT_CONTEXT="4000")
    model.then(call("read", path="big.md"), say("read", used=3500), say("SUMMARY: Ada wants tulips"), say("tulips"))
    answered(agent, "I am Ada and want tulips")
    message, _, updates = answered(agent, "what do I want?")
    assert said(updates) == "tulips"
    assert [each["status"] for each in updates if each["sessionUpdate"] == "compaction_update"] == ["in_progress", "completed"]
    summary, last = model.asked[-2], model.asked[-1]
    assert summary.tools == [] and "I am Ada and want tulips" in summary.texts[-1]
    assert "SUMMARY: Ada wants tulips" in "\n".join(last.texts)
    assert "word word" not in "\n".join(last.texts)
    assert "what do I want?" in last.texts[-1]
    assert message["result"]["usage"]["inputTokens"] == 2 * INPUT


def test_an_endpoint_that_says_it_is_too_long_is_asked_again_with_less(start: Start, model: Model) -> None:
    agent = start()
    for number in range(3):
        answered(agent, f"message {number}")
    model.then(fail(400, "This model's maximum context length is 10 tokens"), say("a summary"), say("shorter"))
    message, _, updates = answered(agent, "go on")
    assert message["result"]["stopReason"] == "end_turn"
    assert said(updates) == "shorter"
    model.then(say("again a summary"))
    assert answered(agent, "/compact")[0]["result"]["stopReason"] == "end_turn"
    answered(agent, "and?")
    assert "again a summary" in "\n".join(model.asked[-1].texts)


def test_the_model_is_a_choice(start: Start, launch: Start, model: Model, desk: Path, interface: str) -> None:
    agent = start()
    [option] = agent.call("session/set_config_option", sessionId=agent.session, configId="model", value="other/model")[
        "configOptions"
    ]
    assert (option["category"], option["currentValue"]) == ("model", "other/model")
    answered(agent, "hello")
    assert model.asked[-1].body["model"] == "other/model"
    both = launch(**model.environment("chat"), **model.environment("messages"))
    both.session = both.call("session/new", cwd=str(desk), mcpServers=[])["sessionId"]
    for name, path in (("anthropic/x", "/v1/messages"), ("y", "/v1/chat/completions")):
        both.call("session/set_config_option", sessionId=both.session, configId="model", value=name)
        answered(both, "hello")
        assert (model.asked[-1].path, model.asked[-1].body["model"]) == (path, name.removeprefix("anthropic/"))


def test_without_a_model_it_says_how_to_get_one(launch: Start, desk: Path) -> None:
    agent = launch()
    agent.session = agent.call("session/new", cwd=str(desk), mcpServers=[])["sessionId"]
    message, _, updates = answered(agent, "hello")
    assert message["error"] == {"code": -32000, "message": "no model is configured"}
    for words in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "127.0.0.1:11434", "librarian"):
        assert words in said(updates)


def test_what_the_directory_says_is_the_systems_and_the_rest_is_the_message(start: Start, model: Model) -> None:
    agent = start()
    prompt = [
        {"type": "resource", "resource": {"uri": "opagent://instructions", "text": "Write short words."}},
        {"type": "resource", "resource": {"uri": "opagent://conversation", "text": "Earlier: tulips."}},
        {"type": "resource_link", "uri": "file:///x/a.md", "name": "a.md"},
        {"type": "text", "text": "hello"},
    ]
    agent.call("session/prompt", sessionId=agent.session, prompt=prompt)
    assert "Write short words." in model.asked[0].system
    assert "Write short words." not in model.asked[0].texts[-1]
    for words in ("Earlier: tulips.", "[a.md](file:///x/a.md)", "hello"):
        assert words in model.asked[0].texts[-1]


def test_the_protocol(start: Start, desk: Path) -> None:
    agent = start()
    fits("InitializeResponse", agent.call("initialize", protocolVersion=1, clientCapabilities={}))
    fits("NewSessionResponse", agent.call("session/new", cwd=str(desk), mcpServers=[]))
    assert agent.answer_to(agent.post("session/teleport"))["error"]["code"] == -32601
    for params in ({"cwd": "relative"}, {"cwd": "/no/such/directory"}, {}):
        assert agent.answer_to(agent.post("session/new", mcpServers=[], **params))["error"]["code"] == -32602
    assert agent.answer_to(agent.post("session/prompt", sessionId="nobody", prompt=[]))["error"]["code"] == -32602
    assert agent.answer_to(agent.post("session/set_mode", sessionId=agent.session, modeId="fly"))["error"]["code"] == -32602
    agent.send_bytes(b"no json\n[1]\n" + b"[" * 100_000 + b"\n")
    agent.send_bytes(json.dumps({"jsonrpc": "2.0", "method": "x", "params": {"long": "y" * (33 << 20)}}).encode() + b"\n")
    assert answered(agent, "still here")[0]["result"]["stopReason"] == "end_turn"
    agent.close_input()
    assert agent.ended() == 0
