"""Questions to a person, put by an editor: an approval as a permission request or a form, and what its answer means. Pure.

API: `question`, `answer`, `closed`. Answers that remember are offered as the approval itself offers them; options have ids of
ours, so that no agent's label is taken for another.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opagent.acp.editor import Editor
from opagent.acp.messages import Body, as_dict, as_list, as_text
from opagent.acp.shown import contents

ASK, FORM = "session/request_permission", "elicitation/create"
_DECLINE = "decline"
_FIELD = "answer"
_ANSWERS = "answer:"  # the beginning of an option's id that is an answer
_KINDS = {"execute": "execute", "exec": "execute", "edit": "edit", "write": "edit", "delete": "delete", "move": "move",
          "read": "read", "fetch": "fetch", "network": "fetch"}  # fmt: skip


def question(session: str, body: Mapping[str, Any], editor: Editor) -> tuple[str, Body] | None:
    """Method and parameters of the request; None for a question for a text that this editor cannot ask."""
    if not _words_wanted(body):
        options = [
            {"optionId": offer, "name": _LABELS[offer].format(same=_short(body)), "kind": _OPTION_KINDS[offer]}
            for offer in map(as_text, as_list(body.get("offers")))
            if offer in _LABELS
        ]
        return ASK, {"sessionId": session, "toolCall": call(body), "options": options or _OLD}
    choices = [as_dict(option) for option in as_list(body.get("options"))]
    if editor.forms:
        field: Body = {"type": "string", "title": "Answer"}
        if choices:
            field["oneOf"] = [{"const": as_text(one.get("id")), "title": as_text(one.get("name"))} for one in choices]
        schema = {"type": "object", "properties": {_FIELD: field}, "required": [_FIELD]}
        return FORM, {"sessionId": session, "mode": "form", "message": as_text(body.get("subject")), "requestedSchema": schema}
    if not choices:
        return None
    answers = [
        {"optionId": _ANSWERS + as_text(one.get("id")), "name": as_text(one.get("name")), "kind": "allow_once"} for one in choices
    ]
    options = [*answers, {"optionId": _DECLINE, "name": "No answer", "kind": "reject_once"}]
    return ASK, {"sessionId": session, "toolCall": call(body), "options": options}


def answer(method: str, result: Mapping[str, Any]) -> Body | None:
    """Parameters of `approval/answer`, without the approval; None where nobody answered: the question stands for others."""
    if method == FORM:
        if result.get("action") == "accept":
            return {"allow": True, "answer": as_text(as_dict(result.get("content")).get(_FIELD))}
        return {"allow": False} if result.get("action") == "decline" else None
    outcome = as_dict(result.get("outcome"))
    chosen = as_text(outcome.get("optionId"))
    if outcome.get("outcome") != "selected":
        return None
    if chosen.startswith(_ANSWERS):
        return {"allow": True, "answer": chosen.removeprefix(_ANSWERS)}
    if chosen in ("deny", _DECLINE):
        return {"allow": False}
    return {"allow": True, "scope": chosen} if chosen in ("once", "conversation", "binding") else None


def call(body: Mapping[str, Any]) -> Body:
    """The tool call that the question is about; one of our own where the agent named none."""
    subject = as_text(body.get("subject"))
    shown = contents(body.get("content")) or [{"type": "content", "content": {"type": "text", "text": subject}}]
    kind = _KINDS.get(as_text(body.get("kind")), "other")
    title = (subject.strip().splitlines() or ["?"])[0][:200]
    return {"toolCallId": call_id(body), "title": title, "kind": kind, "status": "pending", "content": shown}


def call_id(body: Mapping[str, Any]) -> str:
    return as_text(body.get("call")) or f"opagent-{as_text(body.get('id'))}"


def closed(answered: Mapping[str, Any]) -> Body:
    """The end of a tool call of our own, once its question is answered; that of an agent's is the agent's to tell."""
    status = "completed" if answered.get("state") == "allowed" else "failed"
    return {"sessionUpdate": "tool_call_update", "toolCallId": call_id({"id": answered.get("id")}), "status": status}


def _words_wanted(body: Mapping[str, Any]) -> bool:
    return "answer" in map(as_text, as_list(body.get("offers"))) or body.get("kind") == "question"


def _short(body: Mapping[str, Any]) -> str:
    same = " ".join(as_text(body.get("same")).split())
    return f"{same[:60]}..." if len(same) > 60 else same


_LABELS = {
    "once": "Allow once",
    "conversation": "Allow {same} in this conversation",
    "binding": "Allow {same} here from now on",
    "deny": "Deny",
}
_OPTION_KINDS = {"once": "allow_once", "conversation": "allow_always", "binding": "allow_always", "deny": "reject_once"}
_OLD = [
    {"optionId": "once", "name": "Allow once", "kind": "allow_once"},
    {"optionId": "deny", "name": "Deny", "kind": "reject_once"},
]
