"""Modes that ask the client for something: permissions, answers, files, terminals, and methods nobody knows."""

from __future__ import annotations

from collections.abc import Generator

from modes import Mode, Steps, Turn, text_block
from wire import Ask, Cancelled, Message

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Ids that say the opposite of the kind, and an empty one: a host that chooses by id is found out.
OPTIONS: list[Message] = [
    {"optionId": "reject", "name": "Yes, this once", "kind": "allow_once"},
    {"optionId": "0", "name": "Yes, from now on", "kind": "allow_always"},
    {"optionId": "allow", "name": "Not this time", "kind": "reject_once"},
    {"optionId": "", "name": "Never", "kind": "reject_always"},
]


def request(turn: Turn, call: Message, options: list[Message]) -> Ask:
    return Ask("session/request_permission", {"sessionId": turn.session.id, "toolCall": call, "options": options})


def chosen(reply: Any, options: list[Message]) -> str:
    """The kind of the option that a reply selects, `error CODE`, or `unknown` for an id that was not offered."""
    if "error" in reply:
        return f"error {reply['error'].get('code')}"
    outcome = (reply.get("result") or {}).get("outcome") or {}
    if outcome.get("outcome") == "cancelled":
        raise Cancelled
    kinds = [str(option["kind"]) for option in options if option["optionId"] == outcome.get("optionId")]
    return kinds[0] if kinds else "unknown"


def permitted(turn: Turn, identity: str, title: str) -> Generator[object, object, bool]:
    """Ask whether something may happen."""
    call: Message = {"toolCallId": identity, "title": title, "kind": "other", "status": "pending"}
    turn.update({"sessionUpdate": "tool_call", **call})
    kind = chosen((yield request(turn, call, OPTIONS)), OPTIONS)
    allowed = kind.startswith("allow")
    status = "completed" if allowed else "failed"
    turn.update({"sessionUpdate": "tool_call_update", "toolCallId": identity, "status": status})
    return allowed


def permission(turn: Turn, words: list[str]) -> Steps:
    """`[WRITE PATH TEXT]`: asks for permission, tells the kind that was chosen, writes the file when it was allowed."""
    path, text = (turn.path(words[1]), " ".join(words[2:])) if words[:1] == ["write"] else ("", "")
    call: Message = {"toolCallId": "ask-1", "title": "Make tea", "kind": "execute", "status": "pending"}
    if path:
        call |= {"title": f"Write {words[1]}", "kind": "edit", "locations": [{"path": path}]}
        call |= {"content": [{"type": "diff", "path": path, "oldText": None, "newText": text}]}
    turn.update({"sessionUpdate": "tool_call", **call})
    kind = chosen((yield request(turn, call, OPTIONS)), OPTIONS)
    allowed = kind.startswith("allow")
    if path and allowed:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    status = "completed" if allowed else "failed"
    turn.update({"sessionUpdate": "tool_call_update", "toolCallId": "ask-1", "status": status})
    turn.say(f"permission: {kind} ")


def permissions(turn: Turn, words: list[str]) -> Steps:
    """`N`: N permission requests at the same time."""
    count = int(words[0]) if words else 3
    calls: list[Message] = [{"toolCallId": f"ask-{n}", "title": f"Task {n}", "kind": "execute"} for n in range(count)]
    for call in calls:
        turn.update({"sessionUpdate": "tool_call", "status": "pending", **call})
    replies: Any = yield [request(turn, call, OPTIONS) for call in calls]
    turn.say("permissions: " + " ".join(chosen(reply, OPTIONS) for reply in replies) + " ")


def question(turn: Turn, words: list[str]) -> Steps:
    """`[yes | text | form | url | OPTION...]`: asks a person, and tells what they said."""
    kind = words[0] if words else "text"
    fields: dict[str, Message] = {"answer": {"type": "string", "enum": words}}
    if kind in ("yes", "text"):
        fields["answer"] = {"type": "boolean" if kind == "yes" else "string"}
    elif kind == "form":
        fields = {"first": {"type": "string"}, "second": {"type": "integer"}}
    params: Message = {"sessionId": turn.session.id, "message": "Which tea?", "mode": "form"}
    params["requestedSchema"] = {"type": "object", "properties": fields, "required": list(fields)}
    if kind == "url":
        params = {**params, "mode": "url", "url": "https://tea.example/", "elicitationId": "tea-1"}
    reply: Any = yield Ask("elicitation/create", params)
    if "error" in reply:
        turn.say("question: " + told(reply) + " ")
        return
    said = reply["result"]
    if said.get("action") == "cancel":
        raise Cancelled
    content = " ".join(f"{name}={value!r}" for name, value in (said.get("content") or {}).items())
    turn.say(f"question: {said.get('action')} {content} ")


def bad_options(turn: Turn, words: list[str]) -> Steps:
    """`none | many | same | misnamed | kinds`: a permission request with no, 500, equal, misleading or unknown options."""
    sets: dict[str, list[Message]] = {
        "none": [],
        "many": [{"optionId": f"o{n}", "name": f"Option {n}", "kind": "allow_once"} for n in range(500)],
        "same": [{**option, "optionId": "x"} for option in OPTIONS],
        "misnamed": [
            {"optionId": "a", "name": "Cancel", "kind": "allow_always"},
            {"optionId": "b", "name": "Allow", "kind": "reject_once"},
        ],
        "kinds": [{"optionId": "a", "name": "Perhaps", "kind": "allow_on_sundays"}],
    }
    options = sets[words[0] if words else "none"]
    call: Message = {"toolCallId": "ask-1", "title": "Make tea", "kind": "execute"}
    turn.say(f"badoptions: {chosen((yield request(turn, call, options)), options)} ")


def files(turn: Turn, words: list[str]) -> Steps:
    """`PATH [TEXT]`: reads a file through the client; with TEXT it writes the file first."""
    where: Message = {"sessionId": turn.session.id, "path": turn.path(words[0])}
    if len(words) > 1:
        turn.say("write: " + told((yield Ask("fs/write_text_file", {**where, "content": " ".join(words[1:])}))) + "\n")
    turn.say("read: " + told((yield Ask("fs/read_text_file", where))) + "\n")


def terminal(turn: Turn, words: list[str]) -> Steps:
    """`COMMAND ARGUMENT...`: runs a command in a terminal of the client and tells its output."""
    session: Message = {"sessionId": turn.session.id}
    reply: Any = yield Ask("terminal/create", {**session, "command": words[0], "args": words[1:], "outputByteLimit": 10_000})
    if "error" in reply:
        turn.say("terminal: " + told(reply) + "\n")
        return
    session["terminalId"] = reply["result"]["terminalId"]
    content = [{"type": "terminal", "terminalId": session["terminalId"]}]
    call: Message = {"toolCallId": "terminal-1", "title": " ".join(words), "kind": "execute", "status": "in_progress"}
    turn.update({"sessionUpdate": "tool_call", **call, "content": content})
    turn.say("exit: " + told((yield Ask("terminal/wait_for_exit", session))) + "\n")
    turn.say("output: " + told((yield Ask("terminal/output", session))) + "\n")
    turn.say("release: " + told((yield Ask("terminal/release", session))) + "\n")
    turn.update({"sessionUpdate": "tool_call_update", "toolCallId": "terminal-1", "status": "completed"})


def told(reply: Any) -> str:
    """A response of the client as text: its content, its result or its error."""
    if "error" in reply:
        return f"error {reply['error'].get('code')} {reply['error'].get('message')}"
    result = reply.get("result")
    return str(result.get("content", result)) if isinstance(result, dict) else str(result)


def unknown(turn: Turn, words: list[str]) -> Steps:
    """`[stop]`: update kinds, enum values, fields, requests and notifications that no schema has."""
    turn.update({"sessionUpdate": "telepathy", "strength": 11, "content": text_block("thinking of you")})
    turn.update({"sessionUpdate": "agent_message_chunk", "content": {"type": "hologram", "data": "AAAA"}})
    call: Message = {"sessionUpdate": "tool_call", "toolCallId": "u-1", "title": "Unknown", "colour": "green"}
    turn.update({**call, "kind": "teleport", "status": "pondering", "content": [{"type": "smell", "of": "tea"}]})
    odd: Message = {"sessionUpdate": "agent_message_chunk", "content": {**text_block("known "), "weight": 3}, "x": [1]}
    turn.update({**odd, "_meta": {"echo": {"a": 1}}})
    turn.said += "known "
    for method in ("_x/note", "echo/note"):
        turn.agent.lines.send({"jsonrpc": "2.0", "method": method, "params": {"sessionId": turn.session.id}})
    replies: Any = yield [Ask("_x/y", {"z": 1}), Ask("echo/unknown", {})]
    turn.say("unknown: " + "; ".join(told(reply) for reply in replies) + " ")
    if words[:1] == ["stop"]:
        turn.stop = "enlightenment"


MODES: dict[str, Mode] = {
    "permission": permission,
    "permissions": permissions,
    "question": question,
    "badoptions": bad_options,
    "fs": files,
    "terminal": terminal,
    "unknown": unknown,
}
