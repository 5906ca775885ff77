"""We as the agent: whatever an agent or a person said, what editors are told is what the schema and the SDK's models take."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opagent.acp import editor as agent
from opagent.acp import put
from opagent.acp.editor import Editor, read_editor
from opagent.acp.messages import read_update
from opagent.acp.shown import History, Shown
from opagent.errors import BY_CODE
from opagent.model import ConversationId, Event, Kind, TurnId
from tests.doubles.acpeditor import editor
from tests.doubles.acpschema import checked, fits
from tests.integration.conftest import Talk

EDITORS = st.builds(Editor, notices=st.booleans(), compaction=st.just(False), booleans=st.booleans(), forms=st.booleans())
WORDS = st.sampled_from(
    [
        "",
        "a",
        "text",
        "completed",
        "pending",
        "high",
        "edit",
        "x\ny",
        "image",
        "diff",
        "content",
        "terminal",
        "resource",
        "select",
    ]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=8,
)
UPDATES = st.fixed_dictionaries(
    {
        "sessionUpdate": st.sampled_from(
            ["agent_message_chunk", "agent_thought_chunk", "user_message_chunk", "tool_call", "tool_call_update", "plan",
             "available_commands_update", "current_mode_update", "session_info_update", "usage_update", "notice", "compaction_update", "x"]
        )
    },
    optional={
        "content": JSON | st.lists(st.fixed_dictionaries({"type": WORDS}, optional={"path": JSON, "newText": JSON, "content": JSON})),
        "toolCallId": WORDS,
        "title": JSON, "name": JSON, "kind": JSON, "status": JSON, "rawInput": JSON, "rawOutput": JSON,
        "locations": JSON | st.lists(st.fixed_dictionaries({"path": JSON, "line": JSON})),
        "entries": JSON | st.lists(st.fixed_dictionaries({"content": JSON, "priority": JSON, "status": JSON})),
        "availableCommands": JSON | st.lists(st.fixed_dictionaries({"name": JSON, "description": JSON, "input": JSON})),
        "currentModeId": JSON, "used": JSON, "size": JSON, "cost": JSON | st.fixed_dictionaries({"amount": JSON, "currency": JSON}),
        "severity": JSON, "description": JSON, "update": JSON,
    },
)  # fmt: skip


def event(seq: int, kind: Kind, body: Any, turn: str | None = "a1") -> Event:
    return Event(ConversationId("k7q2-m4x8p3"), seq, seq, TurnId(turn) if turn else None, kind, "2026-11-29T20:00:00Z", body)


def told(updates: list[dict[str, Any]]) -> None:
    for update in updates:
        json.dumps(update)
        fits("SessionNotification", {"sessionId": "s", "update": update})


@given(editor_=EDITORS, updates=st.lists(UPDATES, max_size=6))
def test_no_update_of_an_agent_breaks_an_editor(editor_: Editor, updates: list[dict[str, Any]]) -> None:
    shown, history = Shown(editor_), History(Shown(editor_))
    read = [each for each in map(read_update, updates) if each is not None]
    for seq, (kind, body) in enumerate(read):
        told(shown.of(event(seq, kind, body)))
        history.take(event(seq, kind, body))
    told(list(history.updates()))


STATES = st.sampled_from(["queued", "running", "waiting", "done", "failed", "interrupted", "cancelled"])
WHATS = st.sampled_from(["edited", "reply_edited", "deleted", "restored", "reverted", "imported", "version", "stopped", "draft"])
FACTS = st.one_of(
    st.tuples(st.just(Kind.TURN_STATE), st.fixed_dictionaries({"state": STATES, "text": WORDS, "sentence": WORDS, "hint": WORDS})),
    st.tuples(st.just(Kind.DOCUMENT), st.fixed_dictionaries({"what": WHATS, "region": st.sampled_from(["u1", "a1", "u2", ""]), "body": WORDS})),
    st.tuples(st.just(Kind.TEXT), st.fixed_dictionaries({"text": WORDS})),
    st.tuples(st.just(Kind.NOTE), st.fixed_dictionaries({"text": WORDS, "severity": WORDS})),
)  # fmt: skip


@given(editor_=EDITORS, facts=st.lists(st.tuples(FACTS, st.sampled_from(["a1", "a2"])), max_size=12))
def test_no_history_breaks_an_editor(editor_: Editor, facts: list[tuple[tuple[Kind, dict[str, Any]], str]]) -> None:
    history = History(Shown(editor_))
    for seq, ((kind, body), turn) in enumerate(facts):
        history.take(event(seq, kind, body, turn))
    updates = list(history.updates())
    told(updates)
    last = [
        body["what"]
        for (kind, body), _ in facts
        if kind is Kind.DOCUMENT and body["region"].endswith("1") and body["what"] in ("deleted", "restored")
    ]
    if last and last[-1] == "deleted" and not [1 for (kind, body), _ in facts if body.get("what") == "reverted"]:
        assert not [each for each in updates if (each.get("_meta") or {}).get("opagent", {}).get("turn") == "a1"]


OFFERS = st.lists(st.sampled_from(["once", "conversation", "binding", "deny", "answer", "decline", "new"]), unique=True)
OPTIONS = st.lists(
    st.fixed_dictionaries({"id": st.sampled_from(["1", "2", "once"]), "name": WORDS}), max_size=3, unique_by=lambda o: o["id"]
)
ASKED = st.fixed_dictionaries(
    {"id": st.just("p5t2w"), "kind": st.sampled_from(["execute", "question", "pause", "odd"]), "subject": WORDS, "offers": OFFERS, "options": OPTIONS},
    optional={"call": WORDS, "content": JSON, "same": WORDS},
)  # fmt: skip


@given(editor_=EDITORS, body=ASKED)
def test_every_question_can_be_asked_and_each_of_its_options_means_one_thing(editor_: Editor, body: dict[str, Any]) -> None:
    asked = put.question("s", body, editor_)
    if asked is None:
        assert not editor_.forms and not body["options"]
        return
    method, params = asked
    if method == put.FORM:
        fits("CreateElicitationRequest", params)
        assert put.answer(method, {"action": "accept", "content": {"answer": "x"}}) == {"allow": True, "answer": "x"}
        assert put.answer(method, {"action": "cancel"}) is None
        return
    fits("RequestPermissionRequest", params)
    ids = [option["optionId"] for option in params["options"]]
    assert ids and len(set(ids)) == len(ids)
    for option in params["options"]:
        said = put.answer(method, {"outcome": {"outcome": "selected", "optionId": option["optionId"]}})
        assert said is not None and said["allow"] is option["kind"].startswith("allow")
    for nobody in ({"outcome": {"outcome": "cancelled"}}, {}, {"outcome": {"outcome": "selected", "optionId": "agent's own"}}):
        assert put.answer(method, nobody) is None


@given(JSON)
def test_whatever_an_editor_says_of_itself(said: Any) -> None:
    able = {"clientCapabilities": said, "clientInfo": said}
    fits("InitializeResponse", agent.initialized(read_editor(able), {"prompt": said}))


@pytest.mark.parametrize("code", sorted(BY_CODE))
def test_every_error_has_its_form(code: str) -> None:
    error = BY_CODE[code]("it failed", "for this reason", "opagent doctor")
    number, message, data = agent.failure(error, [agent.trust_method("/x")])
    fits("Error", {"code": number, "message": message, "data": data})
    assert "opagent doctor" in message and (number == -32000) == (code in ("not_trusted", "sign_in_needed"))


def test_a_whole_conversation(talk: Talk) -> None:
    (talk.directory / ".agent.yaml").write_text("version: 1\nagent: echo\n")
    with editor(cwd=talk.directory) as one:
        session = one.open()
        for text in ("hello", "/thought a\n/plan\n/tool\n/tool fail\n/usage\n/title T\n/mode slow\nwords", "/unknown", "/refuse"):
            assert "result" in one.answer_to(one.ask(text))
        one.answer_to(one.ask("/error"))
        number = one.ask("/permission")
        one.choose(one.asked(), "once")
        one.answer_to(number)
        number = one.ask("/question yes")
        one.reply(one.asked("elicitation/create"), {"action": "accept", "content": {"answer": "true"}})
        one.answer_to(number)
        one.call("session/set_mode", sessionId=session, modeId="echo")
        one.call("session/set_config_option", sessionId=session, configId="model", value="upper")
        one.load(session)
        one.call("session/resume", sessionId=session, cwd=str(talk.directory), mcpServers=[])
        one.call("session/list")
        one.call("session/close", sessionId=session)
        one.call("session/delete", sessionId=session)
        met = checked(one.wire, of=("theirs",))
    assert met == {
        f"theirs {name}"
        for name in (
            "InitializeResponse", "NewSessionResponse", "SessionNotification", "PromptResponse", "Error", "RequestPermissionRequest",
            "CreateElicitationRequest", "SetSessionModeResponse", "SetSessionConfigOptionResponse", "LoadSessionResponse",
            "ResumeSessionResponse", "ListSessionsResponse", "CloseSessionResponse", "DeleteSessionResponse",
        )
    }  # fmt: skip
