"""The assistant with MCP servers that are real processes, over stdio and streamable HTTP: their tools, failures, cancel, plan."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.contract.test_assistant_acp import Start, answered, assistant, desk, launch, model, notices, start
from tests.doubles.patience import PATIENCE, until
from tests.doubles.scripted_model import Model, call, calls, say

__all__ = ["assistant", "desk", "launch", "model", "start"]  # fixtures
SMALL = str(Path(__file__).parents[1] / "doubles/small_mcp.py")
TOOLS = {f"small__{name}" for name in ("say", "look", "wait", "fail", "env", "end")}


@pytest.fixture
def interface() -> str:
    return "chat"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "mcp.log"


@pytest.fixture(params=["stdio", "http"])
def server(request: pytest.FixtureRequest, log: Path) -> Iterator[dict[str, Any]]:
    """As it stands in `session/new`."""
    if request.param == "stdio":
        environment = [{"name": "SMALL_MCP_LOG", "value": str(log)}]
        yield {"name": "small", "command": sys.executable, "args": [SMALL], "env": environment}
        return
    argv = [sys.executable, SMALL, "http"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env={**os.environ, "SMALL_MCP_LOG": str(log)}) as process:
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        headers = [{"name": "x-token", "value": "t-1"}]
        yield {"type": "http", "name": "small", "url": f"http://127.0.0.1:{port}/mcp", "headers": headers}
        process.kill()
        process.wait(PATIENCE)


def told(log: Path, method: str) -> list[dict[str, Any]]:
    lines = log.read_text().splitlines() if log.exists() else []
    return [each for each in map(json.loads, lines) if each.get("method") == method]


def test_its_tools_are_the_models(start: Start, model: Model, server: dict[str, Any], log: Path) -> None:
    agent = start(servers=[server])
    model.then(
        calls(("small__say", {"text": "one"}), ("small__fail", {"text": "two"}), ("small__look", {"text": "3"})), say("done")
    )
    message, questions, updates = answered(agent, "use them")
    assert message["result"]["stopReason"] == "end_turn" and questions == []
    assert set(model.asked[0].tools) >= TOOLS
    results = "\n".join(model.asked[1].texts)
    assert "tool: say: one" in results and "tool: fail: two" in results and "tool: look: 3" in results
    ends = [each["status"] for each in updates if each["sessionUpdate"] == "tool_call_update"]
    assert sorted(ends) == ["completed", "completed", "failed"]
    assert len(told(log, "notifications/initialized")) == 1


def test_http_headers_and_the_end_of_the_session(start: Start, model: Model, server: dict[str, Any], log: Path) -> None:
    agent = start(servers=[server])
    answered(agent, "hello")
    pid = agent.process.pid
    children = psutil.Process(pid).children()
    agent.close_input()
    assert agent.ended() == 0
    if server.get("type") != "http":
        assert len(children) == 1
        until(lambda: not children[0].is_running())
        return
    heads = [json.loads(line)["headers"] for line in log.read_text().splitlines() if "headers" in json.loads(line)]
    assert all(each["x-token"] == "t-1" for each in heads)
    assert heads[-1]["mcp-session-id"] == "session-1" and heads[-1]["mcp-protocol-version"] == "2025-06-18"
    assert '{"deleted": "session-1"}' in log.read_text()


def test_cancel_reaches_the_server(start: Start, model: Model, server: dict[str, Any], log: Path) -> None:
    agent = start(servers=[server])
    model.then(call("small__wait"))
    ident = agent.ask("wait")
    until(lambda: told(log, "tools/call"))
    agent.notify("session/cancel", sessionId=agent.session)
    assert agent.answer_to(ident)["result"]["stopReason"] == "cancelled"
    until(lambda: told(log, "notifications/cancelled"))
    [called] = told(log, "tools/call")
    assert told(log, "notifications/cancelled")[0]["params"]["requestId"] == called["id"]
    assert answered(agent, "again")[0]["result"]["stopReason"] == "end_turn"


def test_plan_uses_only_what_reads(start: Start, model: Model, server: dict[str, Any], log: Path) -> None:
    agent = start("plan", servers=[server])
    model.then(call("small__say", text="x"), call("small__look", text="y"), say("done"))
    answered(agent, "look")
    assert TOOLS & set(model.asked[0].tools) == {"small__look"}
    assert "in the mode `plan`" in model.asked[1].texts[-1]
    assert "look: y" in model.asked[2].texts[-1]
    assert [each["params"]["name"] for each in told(log, "tools/call")] == ["look"]


def test_servers_that_cannot_be_had_are_said_and_the_others_work(start: Start, model: Model, server: dict[str, Any]) -> None:
    gone = {"name": "gone", "command": "/no/such/server", "args": [], "env": []}
    ends = {"name": "ends", "command": sys.executable, "args": ["-c", "import sys; sys.exit('I cannot')"], "env": []}
    closed = {"type": "http", "name": "closed", "url": "http://127.0.0.1:9/mcp", "headers": []}
    agent = start(servers=[gone, ends, closed, server])
    said = "\n".join(notices(agent.updates()))
    assert "gone cannot be started" in said and "ends" in said and "closed cannot be reached" in said
    answered(agent, "hello")
    assert set(model.asked[0].tools) >= TOOLS


def test_a_server_that_dies_fails_its_calls(start: Start, model: Model, log: Path) -> None:
    small = {"name": "small", "command": sys.executable, "args": [SMALL], "env": []}
    agent = start(servers=[small])
    model.then(call("small__end"), call("small__say", text="still?"), say("done"))
    answered(agent, "go")
    assert "the MCP server small ended: it was told to end" in model.asked[1].texts[-1]
    assert "the MCP server small" in model.asked[2].texts[-1]


def test_a_server_gets_no_key(start: Start, model: Model) -> None:
    small = {"name": "small", "command": sys.executable, "args": [SMALL], "env": [{"name": "OWN", "value": "word"}]}
    agent = start(servers=[small])
    model.then(call("small__env"), say("done"))
    answered(agent, "go")
    result = model.asked[1].texts[-1]
    assert '"OWN": "word"' in result and "PATH" in result
    assert "sk-test" not in result
