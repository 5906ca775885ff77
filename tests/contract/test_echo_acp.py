"""The echo agent as a well-behaved ACP agent, driven over stdio; every line it writes is checked by the SDK's models."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import acp.schema
import pytest

from opagent.packages import catalog
from tests.doubles.stdio_agent import StdioAgent, running

ECHO = Path(__file__).resolve().parents[2] / "runtimes/echo"
Start = Callable[..., StdioAgent]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts echo agents with arguments in `tmp_path`; they end with the test."""
    agents = []

    def begin(*arguments: str) -> StdioAgent:
        context = running([sys.executable, "-I", "-S", str(ECHO), *arguments], tmp_path)
        agents.append(context)
        return context.__enter__()

    yield begin
    for context in agents:
        context.__exit__(None, None, None)


@pytest.fixture
def echo(start: Start, tmp_path: Path) -> StdioAgent:
    agent = start()
    agent.begin(tmp_path)
    return agent


def choose(agent: StdioAgent, request: dict[str, Any], kind: str) -> None:
    """Answer a permission request by kind."""
    option = next(o["optionId"] for o in request["params"]["options"] if o["kind"] == kind)
    outcome = {"outcome": "selected", "optionId": option}
    agent.send({"jsonrpc": "2.0", "id": request["id"], "result": {"outcome": outcome}})


def test_a_prompt_comes_back_word_by_word(echo: StdioAgent) -> None:
    text, result = echo.prompt("hello  wörld\nsecond line ")
    assert text == "echo: hello  wörld\nsecond line "
    assert result == {"stopReason": "end_turn"}
    assert len(echo.updates()) == 6
    assert echo.prompt("")[0] == "echo: "
    assert echo.prompt("/nosuchmode x")[0] == "echo: /nosuchmode x"
    assert echo.prompt("lone \ud800 surrogate")[0] == "echo: lone \ud800 surrogate"


def test_only_the_last_text_block_is_what_a_person_said(echo: StdioAgent) -> None:
    link = {"type": "resource_link", "uri": "file:///a.md", "name": "a.md"}
    blocks = [{"type": "text", "text": "/crash"}, {"type": "text", "text": "hi"}, link]
    echo.call("session/prompt", sessionId=echo.session, prompt=blocks)
    assert echo.text() == "echo: hi"


def test_directives_run_in_order_and_the_rest_is_echoed(echo: StdioAgent) -> None:
    text, result = echo.prompt("/thought well then\n/usage 7 3\n/slow 2 0\n/refuse\nbye")
    assert text == "1 2 echo: bye"
    assert result == {"stopReason": "refusal", "usage": {"inputTokens": 7, "outputTokens": 3, "totalTokens": 10}}
    kinds = [update["sessionUpdate"] for update in echo.updates()]
    assert kinds[:3] == ["agent_thought_chunk", "agent_thought_chunk", "usage_update"]


@pytest.mark.parametrize(("directive", "stop"), [("/maxtokens", "max_tokens"), ("/refuse", "refusal"), ("/plan", "end_turn")])
def test_stop_reasons(echo: StdioAgent, directive: str, stop: str) -> None:
    assert echo.prompt(directive)[1]["stopReason"] == stop


def test_plan_and_tool_call_change_step_by_step(echo: StdioAgent, tmp_path: Path) -> None:
    echo.prompt("/plan\n/tool\n/tool fail")
    plans = [[e["status"] for e in u["entries"]] for u in echo.updates() if u["sessionUpdate"] == "plan"]
    assert plans[0] == ["in_progress", "pending", "pending"]
    assert plans[-1] == ["completed"] * 3
    tools = [u for u in echo.updates() if u["sessionUpdate"].startswith("tool_call")]
    assert [u["status"] for u in tools] == ["pending", "in_progress", "completed", "pending", "in_progress", "failed"]
    assert [part["type"] for part in tools[2]["content"]] == ["content", "content", "diff"]
    assert tools[1]["locations"] == [{"path": str(tmp_path / "notes.md"), "line": 3}]


def test_cancel_ends_a_slow_turn_at_once(echo: StdioAgent) -> None:
    turn = echo.ask("/slow 1000 0.05")
    echo.until(lambda m: m.get("method") == "session/update")
    echo.notify("session/cancel", sessionId=echo.session)
    assert echo.answer_to(turn, 2)["result"] == {"stopReason": "cancelled"}
    assert echo.prompt("again")[0] == "echo: again"


def test_two_turns_at_once_in_one_session_are_refused_in_two_sessions_not(echo: StdioAgent, tmp_path: Path) -> None:
    first = echo.ask("/wait")
    echo.until(lambda m: m.get("method") == "session/update")
    assert echo.answer_to(echo.ask("hello"))["error"]["code"] == -32600
    one, echo.session = echo.session, echo.call("session/new", cwd=str(tmp_path), mcpServers=[])["sessionId"]
    assert echo.prompt("side by side")[0] == "echo: side by side"
    echo.notify("session/cancel", sessionId=one)
    assert echo.answer_to(first)["result"]["stopReason"] == "cancelled"


@pytest.mark.parametrize("kind", ["allow_once", "allow_always", "reject_once", "reject_always"])
def test_permission_is_told_and_kept_to(echo: StdioAgent, tmp_path: Path, kind: str) -> None:
    turn = echo.ask("/permission write tea.txt two cups")
    request = echo.requested("session/request_permission")
    assert not (tmp_path / "tea.txt").exists()
    choose(echo, request, kind)
    echo.answer_to(turn)
    assert echo.text() == f"permission: {kind} "
    assert (tmp_path / "tea.txt").exists() is kind.startswith("allow")
    assert echo.updates()[-2]["status"] == ("completed" if kind.startswith("allow") else "failed")


def test_a_cancelled_permission_ends_the_turn(echo: StdioAgent) -> None:
    turn = echo.ask("/permission")
    request = echo.requested("session/request_permission")
    echo.send({"jsonrpc": "2.0", "id": request["id"], "result": {"outcome": {"outcome": "cancelled"}}})
    assert echo.answer_to(turn)["result"]["stopReason"] == "cancelled"


def test_several_permissions_wait_at_the_same_time(echo: StdioAgent) -> None:
    turn = echo.ask("/permissions 3")
    echo.until(lambda m: m.get("params", {}).get("toolCall", {}).get("toolCallId") == "ask-2")
    requests = [m for m in echo.messages if m.get("method") == "session/request_permission"]
    for request, kind in zip(reversed(requests), ("reject_once", "allow_once", "allow_always"), strict=True):
        choose(echo, request, kind)
    echo.answer_to(turn)
    assert echo.text() == "permissions: allow_always allow_once reject_once "


def test_mode_and_options_change_what_is_said(echo: StdioAgent) -> None:
    echo.call("session/set_config_option", sessionId=echo.session, configId="model", value="upper")
    options = echo.call("session/set_config_option", sessionId=echo.session, configId="shout", type="boolean", value=True)
    assert [option["currentValue"] for option in options["configOptions"]] == ["upper", True]
    assert echo.prompt("hi")[0] == "ECHO: HI!"
    echo.call("session/set_mode", sessionId=echo.session, modeId="ask")
    turn = echo.ask("hi")
    choose(echo, echo.requested("session/request_permission"), "reject_once")
    echo.answer_to(turn)
    assert echo.text().endswith("You did not want an answer.")


def test_errors_have_the_codes_of_the_protocol(echo: StdioAgent) -> None:
    def code(method: str, **params: Any) -> int:
        return int(echo.answer_to(echo.post(method, **params))["error"]["code"])

    assert code("no/such/method") == -32601
    assert code("_x/y") == -32601
    assert code("session/prompt", sessionId="nobody", prompt=[]) == -32002
    assert code("session/load", sessionId="echo-12", cwd="/", mcpServers=[]) == -32002
    assert code("session/set_mode", sessionId=echo.session, modeId="x") == -32602
    assert code("session/set_config_option", sessionId=echo.session, configId="model", value="x") == -32602
    assert echo.answer_to(echo.ask("/error -32000 please sign in"))["error"] == {"code": -32000, "message": "please sign in"}
    assert echo.answer_to(echo.ask("/slow many"))["error"]["code"] == -32602
    assert echo.answer_to(echo.ask("/write no/such/directory x"))["error"]["code"] == -32602
    echo.send({"jsonrpc": "2.0", "id": 900, "method": "session/prompt", "params": ["x"]})
    assert echo.answer_to(900)["error"]["code"] == -32602
    assert echo.call("authenticate", methodId="none") == {}
    echo.send_bytes(b"{nonsense\n[]\n\n")
    echo.until(lambda m: m.get("id", 0) is None and m["error"]["code"] == -32700)
    echo.until(lambda m: m.get("id", 0) is None and m["error"]["code"] == -32600)


def test_sessions_outlive_the_process_when_they_have_a_directory(start: Start, tmp_path: Path) -> None:
    first = start(f"--state={tmp_path / 'state'}")
    session = first.begin(tmp_path)
    first.prompt("remember me")
    first.close_input()
    assert first.ended() == 0
    second = start(f"--state={tmp_path / 'state'}")
    second.initialize()
    listed = second.call("session/list")["sessions"]
    assert listed == [{"sessionId": session, "cwd": str(tmp_path)}]
    second.call("session/load", sessionId=session, cwd=str(tmp_path), mcpServers=[])
    said = [(u["sessionUpdate"], u["content"]["text"]) for u in second.updates()]
    assert said == [("user_message_chunk", "remember me"), ("agent_message_chunk", "echo: remember me")]
    second.call("session/resume", sessionId=session, cwd=str(tmp_path), mcpServers=[])
    second.session = session
    assert "new=0 load=1 resume=1 prompt=1\n" in second.prompt("/context")[0]
    second.call("session/delete", sessionId=session)
    assert second.call("session/list")["sessions"] == []


def test_context_shows_every_block_and_server(echo: StdioAgent, tmp_path: Path) -> None:
    server = {"name": "notes", "command": "/bin/true", "args": [], "env": []}
    echo.session = echo.call("session/new", cwd=str(tmp_path), mcpServers=[server])["sessionId"]
    blocks = [{"type": "text", "text": "the conversation so far"}, {"type": "text", "text": "/context"}]
    echo.call("session/prompt", sessionId=echo.session, prompt=blocks)
    for expected in ("new=2 load=0", "mcp: notes", "block 1: the conversation so far\n", "block 2: /context\n"):
        assert expected in echo.text()


def test_env_shows_names_and_never_values(tmp_path: Path) -> None:
    argv = [sys.executable, "-I", "-S", str(ECHO)]
    with running(argv, tmp_path, {"SOME_KEY": "canary-value", "OPAGENT_TEST_ID": tmp_path.name}) as agent:
        agent.begin(tmp_path)
        text, _ = agent.prompt("/env")
    assert "SOME_KEY" in text
    assert f"cwd: {tmp_path}" in text
    assert "canary-value" not in text


def test_files_and_terminals_go_through_the_client(echo: StdioAgent, tmp_path: Path) -> None:
    turn = echo.ask("/fs a.txt new text\n/terminal make tea")
    for method, result in (
        ("fs/write_text_file", {}),
        ("fs/read_text_file", {"content": "new text"}),
        ("terminal/create", {"terminalId": "t1"}),
        ("terminal/wait_for_exit", {"exitCode": 0}),
        ("terminal/output", {"output": "tea", "truncated": False}),
        ("terminal/release", {}),
    ):
        request = echo.requested(method)
        assert request["params"]["sessionId"] == echo.session
        echo.send({"jsonrpc": "2.0", "id": request["id"], "result": result})
    echo.answer_to(turn)
    assert "read: new text" in echo.text()
    assert "'output': 'tea'" in echo.text()


def test_services_that_the_client_does_not_have_are_told(echo: StdioAgent) -> None:
    turn = echo.ask("/fs a.txt\n/terminal true")
    for method in ("fs/read_text_file", "terminal/create"):
        error = {"code": -32601, "message": "Method not found"}
        echo.send({"jsonrpc": "2.0", "id": echo.requested(method)["id"], "error": error})
    assert echo.answer_to(turn)["result"]["stopReason"] == "end_turn"
    assert echo.text().count("error -32601 Method not found") == 2


def test_updates_come_early_late_and_between_turns(start: Start, tmp_path: Path) -> None:
    agent = start("--early")
    agent.begin(tmp_path)
    created = next(i for i, m in enumerate(agent.messages) if "sessionId" in m.get("result", {}))
    assert agent.text(0, created) == "early bird "
    turn = agent.answer_to(agent.ask("/early"))
    agent.until(lambda m: "between turns" in str(m))
    assert agent.text(agent.messages.index(turn)) == "after the answer between turns "


def test_end_of_input_and_term_end_the_process(start: Start, tmp_path: Path) -> None:
    one, two = start(), start()
    one.begin(tmp_path)
    one.ask("/wait")
    one.close_input()
    assert one.ended(2) == 0
    two.begin(tmp_path)
    two.process.terminate()
    assert two.ended(2) == -15


def test_it_runs_as_the_catalogue_says(tmp_path: Path) -> None:
    argv = catalog.installed(catalog.find("echo"), "", (), str(tmp_path / "state"))
    with running(argv, tmp_path) as agent:
        session = agent.begin(tmp_path)
        assert agent.prompt("hello")[0] == "echo: hello"
    with running(argv, tmp_path) as agent:
        agent.initialize()
        agent.call("session/resume", sessionId=session, cwd=str(tmp_path), mcpServers=[])


def test_an_unknown_argument_is_named(start: Start) -> None:
    agent = start("--nonsense")
    assert agent.ended() == 2
    assert b"'--nonsense'" in agent.errors


def test_every_well_behaved_line_fits_the_sdk_models(echo: StdioAgent) -> None:
    echo.prompt("/thought a\n/plan\n/tool\n/usage\n/title T\n/mode slow\n/context\nwords")
    turn = echo.ask("/permission")
    request = echo.requested("session/request_permission")
    acp.schema.RequestPermissionRequest.model_validate(request["params"])
    choose(echo, request, "allow_once")
    echo.answer_to(turn)
    results = [m["result"] for m in echo.messages if "result" in m]
    models: tuple[Any, ...] = (acp.schema.InitializeResponse, acp.schema.NewSessionResponse, acp.schema.PromptResponse)
    for model, result in zip(models, results, strict=False):
        model.model_validate(result)
    notes = [m["params"] for m in echo.messages if m.get("method") == "session/update"]
    assert len(notes) > 15
    for note in notes:
        acp.schema.SessionNotification.model_validate(note)
