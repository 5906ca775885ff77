"""One suite for the minimal agents of every language: what an agent of version 1 of the protocol owes its client."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import acp.schema
import pytest

from opagent.packages import catalog, description
from tests.doubles import minimal
from tests.doubles.stdio_agent import StdioAgent, running


@pytest.fixture(scope="module", params=minimal.LANGUAGES)
def package(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return minimal.copied(tmp_path_factory.mktemp("runtimes"), request.param)


@pytest.fixture
def agent(package: Path, tmp_path: Path) -> Iterator[StdioAgent]:
    spec = description.read((package / "runtime.yaml").read_bytes(), package, "user")
    argv = catalog.installed(spec, os.environ["PATH"], (), str(tmp_path / "state"))
    with running(argv, tmp_path) as agent:
        agent.begin(tmp_path)
        yield agent


def answered(agent: StdioAgent, request: dict[str, Any], outcome: dict[str, str]) -> None:
    agent.send({"jsonrpc": "2.0", "id": request["id"], "result": {"outcome": outcome}})


def chosen(agent: StdioAgent, request: dict[str, Any], kind: str) -> None:
    option = next(o["optionId"] for o in request["params"]["options"] if o["kind"] == kind)
    answered(agent, request, {"outcome": "selected", "optionId": option})


def code(agent: StdioAgent, method: str, **params: Any) -> int:
    return int(agent.answer_to(agent.post(method, **params))["error"]["code"])


def test_it_says_who_it_is(agent: StdioAgent, package: Path) -> None:
    said = agent.messages[0]["result"]
    acp.schema.InitializeResponse.model_validate(said)
    acp.schema.NewSessionResponse.model_validate(agent.messages[1]["result"])
    assert said["protocolVersion"] == 1
    assert said["agentInfo"] == {"name": package.name, "version": "0.1.0"}


def test_a_prompt_is_answered_in_pieces(agent: StdioAgent) -> None:
    text, result = agent.prompt('hello wörld "quoted" \\ $(id) * 😀')
    assert text.strip() == 'echo: hello wörld "quoted" \\ $(id) * 😀'
    assert result == {"stopReason": "end_turn"}
    assert len(agent.updates()) == 8
    for message in agent.messages:
        if message.get("method") == "session/update":
            acp.schema.SessionNotification.model_validate(message["params"])
    assert agent.prompt("again")[0].strip() == "echo: again"


def test_only_the_last_text_is_what_a_person_said(agent: StdioAgent) -> None:
    link = {"type": "resource_link", "uri": "file:///a.md", "name": "a.md"}
    blocks = [{"type": "text", "text": "what was said before"}, {"type": "text", "text": "hi"}, link]
    agent.call("session/prompt", sessionId=agent.session, prompt=blocks)
    assert agent.text().strip() == "echo: hi"
    agent.call("session/prompt", sessionId=agent.session, prompt=[])


@pytest.mark.parametrize("kind", ["allow_once", "reject_once"])
def test_it_asks_before_it_writes(agent: StdioAgent, tmp_path: Path, kind: str) -> None:
    turn = agent.ask("write tea.txt two  cups\nof 'tea'")
    request = agent.requested("session/request_permission")
    acp.schema.RequestPermissionRequest.model_validate(request["params"])
    [diff] = request["params"]["toolCall"]["content"]
    assert (diff["path"], diff["newText"]) == (str(tmp_path / "tea.txt"), "two  cups\nof 'tea'")
    assert not (tmp_path / "tea.txt").exists()
    assert code(agent, "session/prompt", sessionId=agent.session, prompt=[{"type": "text", "text": "too soon"}]) == -32600
    chosen(agent, request, kind)
    assert agent.answer_to(turn)["result"] == {"stopReason": "end_turn"}
    allowed = kind == "allow_once"
    assert (tmp_path / "tea.txt").exists() is allowed
    assert not allowed or (tmp_path / "tea.txt").read_text() == "two  cups\nof 'tea'"
    assert agent.text().strip() == ("wrote tea.txt" if allowed else "did not write tea.txt")
    statuses = [update["status"] for update in agent.updates() if update["sessionUpdate"].startswith("tool_call")]
    assert statuses == ["pending", "completed" if allowed else "failed"]


def test_a_cancel_ends_a_turn_that_waits_for_a_person(agent: StdioAgent, tmp_path: Path) -> None:
    turn = agent.ask("write tea.txt cups")
    request = agent.requested("session/request_permission")
    agent.notify("session/cancel", sessionId=agent.session)
    answered(agent, request, {"outcome": "cancelled"})
    assert agent.answer_to(turn)["result"] == {"stopReason": "cancelled"}
    assert not (tmp_path / "tea.txt").exists()
    assert agent.prompt("still here")[0].strip() == "echo: still here"


def test_a_cancel_ends_a_turn_that_speaks(agent: StdioAgent) -> None:
    turn = agent.ask("word " * 1000)
    agent.until(lambda message: message.get("method") == "session/update")
    assert code(agent, "session/prompt", sessionId=agent.session, prompt=[{"type": "text", "text": "too soon"}]) == -32600
    agent.notify("session/cancel", sessionId=agent.session)
    assert agent.answer_to(turn)["result"] == {"stopReason": "cancelled"}
    said = len(agent.updates())
    assert said < 1000
    assert agent.prompt("still here")[0].strip() == "echo: still here"
    assert len(agent.updates()) == said + 3  # nothing of the turn that was over


def test_what_it_does_not_know_is_an_error_or_nothing(agent: StdioAgent) -> None:
    assert code(agent, "no/such/method") == -32601
    assert code(agent, "session/load", sessionId="x", cwd="/", mcpServers=[]) == -32601
    assert code(agent, "session/prompt", sessionId="nobody", prompt=[]) == -32002
    agent.notify("no/such/notification")
    agent.notify("session/cancel", sessionId="nobody")
    agent.notify("session/cancel", sessionId=agent.session)  # no turn runs
    agent.send({"jsonrpc": "2.0", "id": "unasked", "result": {}})
    agent.send_bytes(b"{nonsense\n")
    assert agent.until(lambda message: message.get("id", 0) is None)["error"]["code"] == -32700
    agent.send_bytes(b"[]\n")
    assert agent.prompt("still here")[0].strip() == "echo: still here"
    assert not agent.noise


@pytest.mark.parametrize("text", ["", "write tea.txt cups", "word " * 1000])
def test_the_end_of_input_ends_it(agent: StdioAgent, text: str) -> None:
    if text:
        agent.ask(text)
        agent.until(lambda message: message.get("method") == "session/update")
    agent.close_input()
    assert agent.ended() == 0
