"""The tools that every agent gets from OpAgent: names, words and schemas; what they do is in `daemon/calling.py`. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opagent.mcp.server import Result, Tool

SERVER = "opagent"
INSTRUCTIONS = (
    "Tools to work with the other agents of this directory, and with the person: call another agent (agent_list, agent_call, or "
    "agent_send and agent_result for several at a time), ask the person (ask_person), read and write notes that all agents here "
    "share (notes_read, notes_write), and say in a line what you are doing (turn_status)."
)
OUTCOMES = ("answer", "refused", "failed", "cancelled", "timed_out", "budget", "running")


def _object(required: tuple[str, ...] = (), **properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required)}


def _text(about: str) -> dict[str, Any]:
    return {"type": "string", "description": about}


def _texts(about: str) -> dict[str, Any]:
    return {"type": "array", "items": {"type": "string"}, "description": about}


_TO = _text("a name of agent_list, or a directory that has an agent of its own, such as ../api or, on another machine, HOST:/DIR")
_PROMPT = _text("what it shall do; it sees the files of its directory, and nothing of your conversation")
_ON = _text("the conversation of an earlier call of yours, to go on in it")
_WITHIN = {"type": "number", "description": "seconds after which it is stopped"}
_OUTCOME = _object(
    ("call", "outcome"),
    call=_text("id of the call"),
    outcome={"type": "string", "enum": list(OUTCOMES)},
    agent=_text("who was called"),
    text=_text("its answer, or why there is none"),
    conversation=_text("id of its conversation"),
    file=_text("path of its conversation's file"),
    machine=_text("the other machine on which that is, if it is on one"),
    usage={"type": "object", "description": "tokens and cost, as far as they are known"},
    waits_for=_text("the approval that a person has to answer before it goes on"),
)

TOOLS = (
    Tool(
        "agent_list",
        "List agents",
        "The agents that you may call, with what each is for and whether a person is asked first.",
        _object(),
        _object(
            ("agents",),
            agents={
                "type": "array",
                "items": _object(("to", "effect"), to=_TO, about=_text("what it is for"), effect=_text("allow, ask or deny")),
            },
        ),
        reads=True,
    ),
    Tool(
        "agent_call",
        "Call an agent",
        "Give another agent a turn and wait for its answer. It works in a conversation of its own, with at most your rights.",
        _object(
            ("to", "prompt"), to=_TO, prompt=_PROMPT, timeout=_WITHIN, conversation=_ON,
            wait={"type": "boolean", "description": "false: as agent_send"},
        ),
        _OUTCOME,
    ),
    Tool(
        "agent_send",
        "Send to an agent",
        "Give another agent a turn and go on at once; agent_result fetches its answer. It ends with your turn at the latest.",
        _object(("to", "prompt"), to=_TO, prompt=_PROMPT, timeout=_WITHIN, conversation=_ON),
        _OUTCOME,
    ),
    Tool(
        "agent_result",
        "Result of a call",
        "The answer to an agent_send; waits for it, or gives `running` after `timeout` seconds.",
        _object(("call",), call=_text("id that agent_send gave"), timeout={"type": "number", "description": "seconds to wait"}),
        _OUTCOME,
        reads=True,
    ),
    Tool(
        "ask_person",
        "Ask the person",
        "Ask the person a question and wait for the answer, which may not come.",
        _object(("question",), question=_text("what you want to know"), options=_texts("answers to choose from")),
        _object(("answered",), answered={"type": "boolean"}, answer=_text("what they said"), why=_text("why nobody answered")),
    ),
    Tool(
        "notes_read",
        "Read shared notes",
        "A note that the agents of this directory share, or without a path the list of them, with those of directories above.",
        _object(path=_text("a name of the list, such as plan.md")),
        _object(
            (),
            path=_text("the note"),
            text=_text("what it says"),
            notes={
                "type": "array",
                "items": _object(("path",), path=_text("name"), directory=_text("whose"), size={"type": "integer"}),
            },
        ),
        reads=True,
    ),
    Tool(
        "notes_write",
        "Write a shared note",
        "Write a note for all agents of this directory, in Markdown; it replaces what stands there.",
        _object(("path", "text"), path=_text("its name, such as plan.md or decisions/api.md"), text=_text("the whole note")),
        _object(("path", "size"), path=_text("the note"), size={"type": "integer"}),
    ),
    Tool(
        "turn_status",
        "Say what you do",
        "One line for people that watch what you are doing.",
        _object(("text",), text=_text("at most 200 characters")),
        _object(("shown",), shown=_text("the line")),
    ),
)  # fmt: skip


def said(name: str, result: Mapping[str, Any]) -> Result:
    """The result of a tool as a model reads it, and as a program does."""
    failed = name in _CALLS and result["outcome"] not in ("answer", "running")
    return Result(_words(name, result), result, failed)


_CALLS = ("agent_call", "agent_send", "agent_result")


def _words(name: str, result: Mapping[str, Any]) -> str:
    if name in _CALLS:
        return _outcome(result)
    match name:
        case "agent_list":
            rows = [f"- {each['to']} ({each['effect']}): {each['about']}" for each in result["agents"]]
            return "\n".join(rows) or "There is no other agent here."
        case "ask_person":
            return str(result["answer"]) if result["answered"] else f"No answer: {result['why']}"
        case "notes_read" if "notes" in result:
            rows = [f"- {each['path']} ({each['size']} bytes, of {each['directory']})" for each in result["notes"]]
            return "\n".join(rows) or "There are no notes yet."
        case "notes_read":
            return str(result["text"])
        case "notes_write":
            return f"{result['path']}: {result['size']} bytes."
    return str(result.get("shown", "")) or "Done."


def _outcome(result: Mapping[str, Any]) -> str:
    who = result.get("agent") or "the agent"
    match result["outcome"]:
        case "answer":
            return str(result["text"])
        case "running":
            waits = f" It waits for a person to answer {result['waits_for']}." if result.get("waits_for") else ""
            return f"{who} is at work on call {result['call']}.{waits} Fetch its answer with agent_result."
    return f"{who}: {str(result['outcome']).replace('_', ' ')}: {result.get('text', '')}"
