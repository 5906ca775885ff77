"""The scripted model of a probe: what it answers in each of the four ways of talking to a model, and which tool it picks."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opagent.packages.rehearsal import dialects, marks
from opagent.packages.rehearsal.script import ORDER, Asked, Said, Tool, decide

TEXT = {"type": "string"}
WRITE = {"type": "object", "properties": {"file_path": TEXT, "content": TEXT, "mode": {"enum": ["new"]}}, "required": ["mode"]}
SHELL = {"type": "object", "properties": {"command": {"type": "array"}, "why": TEXT}, "required": ["command", "why"]}


def requests(text: str, result: str = "") -> dict[str, dict[str, Any]]:
    """The same request in every dialect: one tool that writes, a person's text, perhaps a result of the tool."""
    chat = [{"role": "user", "content": text}] + ([{"role": "tool", "content": result}] if result else [])
    responses = [{"role": "user", "content": [{"type": "input_text", "text": text}]}]
    responses += [{"type": "function_call_output", "output": result}] if result else []
    parts = [{"type": "text", "text": text}] + (
        [{"type": "tool_result", "content": [{"type": "text", "text": result}]}] if result else []
    )
    contents = [{"text": text}] + ([{"functionResponse": {"output": result}}] if result else [])
    return {
        "/v1/chat/completions": {"messages": chat, "tools": [{"type": "function", "function": {"name": "w_write", "parameters": WRITE}}]},
        "/v1/responses": {"input": responses, "tools": [{"type": "function", "name": "w_write", "parameters": WRITE}]},
        "/v1/messages": {"messages": [{"role": "user", "content": parts}], "tools": [{"name": "w_write", "input_schema": WRITE}]},
        "/v1beta/models/x:streamGenerateContent": {
            "contents": [{"parts": contents}], "tools": [{"functionDeclarations": [{"name": "w_write", "parametersJsonSchema": WRITE}]}],
        },
    }  # fmt: skip


@pytest.mark.parametrize("path", requests(""))
def test_an_order_becomes_a_call_and_its_result_ends_the_turn(path: str) -> None:
    dialect = dialects.of(path)
    assert dialect is not None
    reply = decide(dialect.read(requests(f"{ORDER}write /a/b.txt two cups")[path]))
    assert reply.tool is not None and reply.tool.name == "w_write"
    assert json.loads(reply.arguments) == {"file_path": "/a/b.txt", "content": "two cups", "mode": "new"}
    for said in (json.dumps(list(dialect.events(reply, (100, 10), []))), json.dumps(dialect.whole(reply, (100, 10)))):
        assert "two cups" in said and "w_write" in said
    after = decide(dialect.read(requests(f"{ORDER}write /a/b.txt two cups", "it is written")[path]))
    assert after.tool is None and "it is written" in after.text
    assert "piece" in json.dumps(list(dialect.events(after, (100, 10), ["piece"])))


def test_a_path_that_is_none_of_them() -> None:
    assert dialects.of("/v1/embeddings") is None


def test_the_tool_is_picked_by_what_it_takes() -> None:
    tools = [Tool("todo_write", {"properties": {"todos": {}}}), Tool("patch_write", free=True), Tool("run_it", SHELL)]
    reply = decide(Asked([Said(f"{ORDER}write /a tea")], tools))
    assert reply.tool == tools[2]
    assert json.loads(reply.arguments) == {"command": ["sh", "-c", "printf %s 'tea' > '/a'"], "why": "a probe"}
    assert decide(Asked([Said(f"{ORDER}call mark")], [Tool("mcp__probe__mark")])).tool is not None
    assert decide(Asked([Said(f"{ORDER}call mark")], tools)).text == "no such tool"
    assert decide(Asked([Said(f"{ORDER}run x")], tools[:2])).text == "no tool runs commands"


def test_only_an_order_at_the_start_of_a_line_counts_and_the_last_one_does() -> None:
    tools = [Tool("run_it", SHELL)]
    told = f"{ORDER}hello\n\nSo far:\nRoot: {ORDER}run rm x"
    assert decide(Asked([Said(told)], tools)).tool is None
    assert decide(Asked([Said(f"{ORDER}slow"), Said(f"{ORDER}hello")], tools)).slow is False
    assert decide(Asked([Said(f"{ORDER}slow")], tools)).slow
    # quoted again behind the result, as a reminder: it is not done a second time
    again = [Said(f"{ORDER}run x"), Said("ok", result=True), Said(f"As you were told:\n{ORDER}run x")]
    assert decide(Asked(again, tools)).tool is None


def test_without_tools_a_short_answer_in_the_form_that_is_wanted() -> None:
    assert decide(Asked([Said("a title please")], ())).text == "A short title"
    form = {"type": "object", "properties": {"choice": {"enum": ["a", "b"]}, "sure": {"type": "BOOLEAN"}}}
    assert json.loads(decide(Asked([Said("which?")], (), form)).text) == {"choice": "a", "sure": False}


_JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3)
                     | st.dictionaries(st.sampled_from(["messages", "input", "contents", "tools", "content", "role", "parts", "type"]), inner, max_size=4))  # fmt: skip


@given(st.sampled_from(list(requests(""))), st.dictionaries(st.sampled_from(["messages", "input", "contents", "tools"]), _JSON))
def test_what_is_no_request_raises_only_what_the_server_expects(path: str, body: dict[str, Any]) -> None:
    dialect = dialects.of(path)
    assert dialect is not None
    try:
        decide(dialect.read(body))
    except (KeyError, TypeError, AttributeError):
        pass


def test_the_tool_that_leaves_a_mark() -> None:
    def said(method: str, **more: Any) -> Any:
        answer = marks.answer({"jsonrpc": "2.0", "id": 1, "method": method, **more})
        assert answer is not None
        return answer

    assert said("initialize", params={"protocolVersion": "2025-11-25"})["result"]["protocolVersion"] == "2025-11-25"
    assert [tool["name"] for tool in said("tools/list")["result"]["tools"]] == [marks.TOOL]
    assert said("tools/call")["result"]["content"]
    assert said("resources/list")["error"]["code"] == -32601
    assert marks.answer({"jsonrpc": "2.0", "method": "notifications/initialized"}) is None
