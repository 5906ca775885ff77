"""What is said to an agent and how tolerantly it is read: every kind of version 1, shapes of version 2, arbitrary JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opagent.acp import messages
from opagent.document.render import Look, Reply
from opagent.model import ConversationId, Event, Kind, TurnId
from tests.unit.test_acp_connection import JSON

TEXT = {"type": "text", "text": "hi"}
SELECT = {"id": "m", "name": "Model", "category": "model", "type": "select", "currentValue": "a"}
OPTIONS = [{"value": "a/1", "name": "Small"}, {"value": "a/2", "name": "Large"}]


# ---- initialize --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("services", "files", "terminal"), [((), False, False), (("fs",), True, False), (("fs", "terminal"), True, True)]
)
def test_services_are_offered_only_to_a_runtime_that_asks(services: tuple[str, ...], files: bool, terminal: bool) -> None:
    said = messages.initialize(services)
    assert said["protocolVersion"] == 1
    able = said["clientCapabilities"]
    assert able["fs"] == {"readTextFile": files, "writeTextFile": files}
    assert able["terminal"] is terminal
    assert able["elicitation"] == {"form": {}}


def test_what_an_agent_says_of_itself() -> None:
    facts = messages.facts(
        {
            "protocolVersion": 1,
            "agentInfo": {"name": "a", "version": "2"},
            "agentCapabilities": {
                "loadSession": True,
                "promptCapabilities": {"embeddedContext": True, "image": True},
                "sessionCapabilities": {"resume": {}, "close": {}},
            },
            "authMethods": [{"id": "x", "name": "X"}, "odd"],
            "_meta": {"steering": {"supported": True}, "protocolVersion": 9},
        }
    )
    assert (facts.protocol, facts.name, facts.version) == (1, "a", "2")
    assert facts.load and facts.resume and facts.embedded_context and facts.steering
    assert facts.auth_methods == ({"id": "x", "name": "X"},)
    assert messages.ways_to_sign_in(facts) == "X"


@pytest.mark.parametrize(
    ("said", "offered"), [({}, True), (True, True), ({"x": 1}, True), (None, False), (False, False), ("no", False)]
)
def test_a_capability_is_an_object_or_true(said: Any, offered: bool) -> None:
    facts = messages.facts({"protocolVersion": 1, "agentCapabilities": {"sessionCapabilities": {"resume": said}}})
    assert facts.resume is offered


@pytest.mark.parametrize(("said", "protocol"), [(1, 1), (2, 2), (7, 7), (True, 0), ("1", 0), (1.0, 0), (None, 0)])
def test_the_version_is_an_integer(said: Any, protocol: int) -> None:
    assert messages.facts({"protocolVersion": said}).protocol == protocol


def test_the_initialize_answer_of_version_2_is_read_without_harm() -> None:
    facts = messages.facts({"protocolVersion": 2, "info": {"name": "a"}, "capabilities": {"session": {}}})
    assert (facts.protocol, facts.load, facts.resume) == (2, False, False)


@given(JSON)
def test_facts_of_anything(result: Any) -> None:
    assert isinstance(messages.ways_to_sign_in(messages.facts({"authMethods": [result, {"name": result}, {"id": result}]})), str)
    messages.facts(result)
    messages.facts(
        {"protocolVersion": result, "agentCapabilities": result, "agentInfo": result, "authMethods": result, "_meta": result}
    )
    messages.facts({"agentCapabilities": {"sessionCapabilities": result, "promptCapabilities": result, "loadSession": result}})


# ---- settings ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wanted", ["a/2", "Large", "large"])
@pytest.mark.parametrize("options", [OPTIONS, [{"group": "g", "name": "G", "options": OPTIONS}]])
def test_a_setting_is_chosen_by_value_or_by_name(wanted: str, options: list[Any]) -> None:
    facts = {
        "configOptions": [{"id": "x", "category": "mode", "type": "select"}, {**SELECT, "options": options}],
        "models": {"a": 1},
    }
    assert messages.choices(facts, "model", wanted) == ("session/set_config_option", {"configId": "m", "value": "a/2"})


def test_a_value_that_is_not_listed_is_the_agents_to_refuse() -> None:
    facts = {"configOptions": [{**SELECT, "options": OPTIONS}]}
    assert messages.choices(facts, "model", "b") == ("session/set_config_option", {"configId": "m", "value": "b"})


@pytest.mark.parametrize(
    ("facts", "category", "expected"),
    [
        ({"modes": {"availableModes": [{"id": "p", "name": "Plan"}]}}, "mode", ("session/set_mode", {"modeId": "p"})),
        ({"models": {"availableModels": [{"modelId": "l", "name": "plan"}]}}, "model", ("session/set_model", {"modelId": "l"})),
        (
            {"configOptions": [{"id": "mode", "name": "M"}]},
            "mode",
            ("session/set_config_option", {"configId": "mode", "value": "Plan"}),
        ),
        ({"configOptions": [{"id": "mode", "type": "boolean"}]}, "mode", None),
        ({"configOptions": [{"category": "mode"}], "modes": None}, "mode", None),
        ({}, "model", None),
        ({"modes": {"x": 1}}, "model", None),
    ],
)
def test_older_ways_to_set_a_mode_or_a_model(facts: dict[str, Any], category: str, expected: Any) -> None:
    assert messages.choices(facts, category, "Plan") == expected


@given(JSON, st.sampled_from(["mode", "model"]))
def test_settings_of_anything(said: Any, category: str) -> None:
    odd = {"configOptions": said, "modes": said, "models": said}
    assert messages.choices(odd, category, "x") is None or isinstance(said, dict)
    messages.choices({"configOptions": [said, {"id": said, "category": category, "options": said}]}, category, "x")
    messages.choices(
        {"configOptions": [{"id": "i", "category": category, "options": [said, {"value": said, "name": said}]}]}, category, "x"
    )
    messages.choices({"modes": {"availableModes": said}, "models": {"availableModels": [said]}}, category, "x")


# ---- updates -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("update", "kind", "body"),
    [
        ({"sessionUpdate": "agent_message_chunk", "content": TEXT}, Kind.TEXT, {"text": "hi"}),
        ({"sessionUpdate": "agent_thought_chunk", "content": TEXT}, Kind.THOUGHT, {"text": "hi"}),
        ({"sessionUpdate": "plan", "entries": [{"content": "a"}, 7]}, Kind.PLAN, {"entries": [{"content": "a"}]}),
        ({"sessionUpdate": "usage_update", "used": 5, "size": 10, "cost": {"amount": 0.5, "currency": "USD"}}, Kind.USAGE,
         {"context": {"used": 5, "size": 10}, "cost": {"amount": 0.5, "currency": "USD"}}),
        ({"sessionUpdate": "available_commands_update", "availableCommands": [{"name": "x"}, "y"]}, Kind.AGENT_STATE,
         {"commands": [{"name": "x"}]}),
        ({"sessionUpdate": "current_mode_update", "currentModeId": "m"}, Kind.AGENT_STATE, {"currentModeId": "m"}),
        ({"sessionUpdate": "config_option_update", "configOptions": []}, Kind.AGENT_STATE, {"configOptions": []}),
        ({"sessionUpdate": "session_info_update", "title": "T", "state": "stopped"}, Kind.AGENT_STATE, {"title": "T"}),
        ({"sessionUpdate": "notice", "severity": "warning", "title": "T", "description": "d"}, Kind.NOTE,
         {"text": "T: d", "severity": "warning"}),
        ({"sessionUpdate": "tool_call", "toolCallId": "t", "title": "T", "kind": "read", "status": "pending"}, Kind.TOOL_CALL,
         {"id": "t", "title": "T", "kind": "read", "status": "pending"}),
    ],
)  # fmt: skip
def test_the_kinds_of_version_1(update: dict[str, Any], kind: Kind, body: dict[str, Any]) -> None:
    assert messages.read_update({**update, "_meta": {"x": 1}, "unknown": 5}) == (kind, body)


def test_the_persons_own_words_leave_no_trace() -> None:
    assert messages.read_update({"sessionUpdate": "user_message_chunk", "content": TEXT}) is None


V2_AND_DRAFTS = [
    {"sessionUpdate": "state_update", "state": "idle", "stopReason": "end_turn"},
    {"sessionUpdate": "state_update", "state": "requires_action"},
    {"sessionUpdate": "agent_message", "messageId": "m", "content": [TEXT]},
    {"sessionUpdate": "tool_call_content_chunk", "toolCallId": "t", "content": {"type": "content", "content": TEXT}},
    {"sessionUpdate": "terminal_output_chunk", "terminalId": "t", "data": "aGk="},
    {"sessionUpdate": "plan_update", "plan": {"type": "items", "entries": []}},
    {"sessionUpdate": "plan_removed", "id": "p"},
    {"sessionUpdate": "subagent_update", "childSessionId": "c"},
    {"sessionUpdate": "compaction_summary_chunk", "compactionId": "c", "content": TEXT},
    {"sessionUpdate": "telepathy", "strength": 11},
    {"sessionUpdate": ["odd"]},
    {},
]


@pytest.mark.parametrize("update", V2_AND_DRAFTS)
def test_other_kinds_are_kept_and_not_shown(update: dict[str, Any]) -> None:
    assert messages.read_update(update) == (Kind.NOTE, {"update": update})


def test_a_compaction_is_told_once_it_is_over() -> None:
    texts = [
        messages.read_update({"sessionUpdate": "compaction_update", "compactionId": "c", "status": status})
        for status in ("in_progress", "completed", "failed", 5)
    ]
    assert [bool(found and found[1]["text"]) for found in texts] == [False, True, True, False]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (TEXT, "hi"),
        ({"type": "resource_link", "uri": "file:///a", "name": "a", "title": "A"}, "[A](file:///a)"),
        ({"type": "resource_link", "uri": 5, "name": "a"}, "[a]()"),
        ({"type": "resource", "resource": {"uri": "x", "text": "t"}}, "t"),
        ({"type": "resource", "resource": {"uri": "x", "blob": "AA=="}}, ""),
        ({"type": "image", "data": "AA==", "mimeType": "image/png"}, "[image]"),
        ({"type": "hologram"}, "[hologram]"),
        ({"type": ["image"]}, ""), ({"type": "text", "text": 5}, ""), ({}, ""), (None, ""), ("text", ""), ([TEXT], ""),
    ],
)  # fmt: skip
def test_content_as_text(content: Any, text: str) -> None:
    assert messages.content_text(content) == text


def test_null_and_wrong_types_of_a_tool_call_mean_unchanged() -> None:
    update = {
        "toolCallId": "t",
        "title": None,
        "status": 5,
        "kind": ["read"],
        "content": "x",
        "locations": {"path": "/"},
        "rawInput": 7,
    }
    assert messages.tool_call(update) == {"id": "t", "rawInput": 7}
    assert messages.tool_call({"toolCallId": 5, "content": [1, {"type": "diff"}]}) == {"id": "", "content": [{"type": "diff"}]}


@pytest.mark.parametrize("amount", [-1, 10**9, 1e300, "1", True, None, [1]])
def test_a_cost_that_cannot_be_true_is_left_out(amount: Any) -> None:
    found = messages.read_update({"sessionUpdate": "usage_update", "used": -1, "size": 10**18, "cost": {"amount": amount}})
    assert found == (Kind.USAGE, {"context": {}})


@pytest.mark.parametrize(
    ("result", "usage"),
    [
        ({"usage": {"inputTokens": 3, "outputTokens": 4, "totalTokens": 7}}, {"input": 3, "output": 4}),
        ({"_meta": {"usage": {"input_tokens": 3}}}, {"input": 3}),
        ({"usage": {"inputTokens": 1}, "_meta": {"usage": {"inputTokens": 9}}}, {"input": 1}),
        ({"usage": {"inputTokens": True, "outputTokens": -1}}, {}),
        ({"usage": {"inputTokens": 10**18, "outputTokens": 1.5}}, {}),
        ({"usage": []}, {}), ({}, {}),
    ],
)  # fmt: skip
def test_usage_of_a_turn(result: dict[str, Any], usage: dict[str, int]) -> None:
    assert messages.turn_usage(result) == usage


KINDS = [
    "agent_message_chunk", "agent_thought_chunk", "user_message_chunk", "tool_call", "tool_call_update", "plan", "usage_update",
    "available_commands_update", "current_mode_update", "config_option_update", "session_info_update", "notice",
    "compaction_update", "compaction_summary_chunk", "state_update", "plan_update",
]  # fmt: skip
FIELDS = [
    "content", "toolCallId", "title", "name", "kind", "status", "locations", "rawInput", "rawOutput", "entries", "used", "size",
    "cost", "availableCommands", "currentModeId", "configOptions", "updatedAt", "severity", "description", "_meta",
]  # fmt: skip


@given(st.sampled_from(KINDS) | JSON, st.dictionaries(st.sampled_from(FIELDS), JSON | st.lists(st.dictionaries(
    st.sampled_from(["type", "text", "content", "path", "oldText", "newText", "status", "line"]), JSON), max_size=2)))  # fmt: skip
def test_an_update_with_anything_in_it_is_read_logged_and_shown(kind: Any, fields: dict[str, Any]) -> None:
    read = messages.read_update({"sessionUpdate": kind, **fields})
    if read is None:
        return
    found, body = read
    assert json.loads(json.dumps(body)) == body  # the log can hold it
    reply = Reply("tag", "agent", Look())
    reply.apply(Event(ConversationId("c"), 1, 1, TurnId("t"), found, "2026-11-20T10:00:00Z", body))
    assert isinstance(reply.body(), str)
    assert reply.blobs is not None


@given(JSON)
def test_usage_and_content_of_anything(said: Any) -> None:
    messages.turn_usage({"usage": said, "_meta": said})
    messages.turn_usage({"usage": {"inputTokens": said}, "_meta": {"usage": said}})
    assert isinstance(messages.content_text(said), str)
    for kind in ("text", "resource", "resource_link", "image"):
        assert isinstance(messages.content_text({"type": kind, "text": said, "resource": said, "uri": said, "name": said}), str)
