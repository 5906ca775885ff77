"""The MCP server without a wire: what each line is answered with, in both eras; no line breaks it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opagent.mcp import tools
from opagent.mcp.server import UNSUPPORTED_VERSION, Call, Cancelled, Result, Server, misfit

META = "io.modelcontextprotocol/protocolVersion"


def server() -> Server:
    return Server(tools.SERVER, lambda: tools.TOOLS, tools.INSTRUCTIONS)


def asked(method: str, params: dict[str, Any] | None = None, ident: Any = 1) -> Any:
    (step,) = server().receive(json.dumps({"jsonrpc": "2.0", "id": ident, "method": method, "params": params or {}}).encode())
    return json.loads(step) if isinstance(step, bytes) else step


@pytest.mark.parametrize("version", ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"])
def test_the_handshake_agrees_on_a_known_revision(version: str) -> None:
    result = asked("initialize", {"protocolVersion": version})["result"]
    assert result["protocolVersion"] == version
    assert result["capabilities"] == {"tools": {"listChanged": True}}
    assert "resultType" not in result


def test_an_unknown_revision_is_answered_with_the_newest_of_the_handshake() -> None:
    assert asked("initialize", {"protocolVersion": "2031-01-01"})["result"]["protocolVersion"] == "2025-11-25"


def test_the_stateless_form_says_what_it_speaks_and_how_long_that_holds() -> None:
    result = asked("server/discover", {"_meta": {META: "2026-07-28"}})["result"]
    assert result["supportedVersions"][0] == "2026-07-28"
    assert (result["resultType"], result["cacheScope"]) == ("complete", "private") and result["ttlMs"] > 0
    listed = asked("tools/list", {"_meta": {META: "2026-07-28"}})["result"]
    assert listed["resultType"] == "complete" and listed["ttlMs"] > 0
    assert "resultType" not in asked("tools/list")["result"]


def test_a_revision_that_nobody_knows_is_refused_with_those_that_are() -> None:
    error = asked("tools/list", {"_meta": {META: "1999-01-01"}})["error"]
    assert error["code"] == UNSUPPORTED_VERSION
    assert "2026-07-28" in error["data"]["supported"] and error["data"]["requested"] == "1999-01-01"


def test_a_tool_call_comes_out_as_one_and_is_answered_in_the_form_of_its_era() -> None:
    params = {"name": "agent_call", "arguments": {"to": "a", "prompt": "b"}, "_meta": {META: "2026-07-28", "progressToken": "p"}}
    call = asked("tools/call", params, "seven")
    assert (call.tool, call.arguments, call.progress, call.stateless) == ("agent_call", {"to": "a", "prompt": "b"}, "p", True)
    answer = json.loads(server().answer(call, Result("yes", {"outcome": "answer"})))
    assert answer["id"] == "seven" and answer["result"]["resultType"] == "complete"
    assert answer["result"]["structuredContent"] == {"outcome": "answer"}
    told = json.loads(server().progress(call, 1, "at work"))
    assert told["params"] == {"progressToken": "p", "progress": 1, "message": "at work"}


def test_what_does_not_fit_and_what_is_not_there_is_said() -> None:
    assert "to is missing" in asked("tools/call", {"name": "agent_call", "arguments": {"prompt": "x"}})["error"]["message"]
    assert "no tool" in asked("tools/call", {"name": "rm", "arguments": {}})["error"]["message"]
    assert asked("resources/list")["error"]["code"] == -32601
    (step,) = server().receive(b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":4}}')
    assert step == Cancelled(4)


@given(
    st.dictionaries(
        st.sampled_from(["to", "prompt", "timeout", "wait", "x"]),
        st.one_of(st.none(), st.booleans(), st.text(), st.integers(), st.floats()),
    )
)
def test_misfit_never_raises_and_takes_what_fits(arguments: dict[str, Any]) -> None:
    schema = next(tool.arguments for tool in tools.TOOLS if tool.name == "agent_call")
    said = misfit(schema, arguments)
    fits = isinstance(arguments.get("to"), str) and isinstance(arguments.get("prompt"), str)
    fits &= arguments.get("wait") is None or isinstance(arguments["wait"], bool)
    fits &= arguments.get("timeout") is None or (
        isinstance(arguments["timeout"], int | float) and not isinstance(arguments["timeout"], bool)
    )
    assert bool(said) is not fits


@given(st.binary(max_size=300))
def test_no_line_breaks_it(line: bytes) -> None:
    for step in server().receive(line):
        assert isinstance(step, bytes | Call | Cancelled)


@pytest.mark.parametrize("outcome", tools.OUTCOMES)
def test_each_outcome_reads_as_what_it_is(outcome: str) -> None:
    result = tools.said("agent_call", {"call": "c1234", "outcome": outcome, "agent": "helper", "text": "words"})
    assert result.failed is (outcome not in ("answer", "running"))
    assert "words" in result.text or outcome == "running"
