"""We as the agent of an editor: what it said it can, and what we answer it (Agent Client Protocol, version 1). Pure.

API: `Editor`, `read_editor`, `initialized`, `trust_method`, `sign_in_method`, `settings`, `listed`, `stopped`, `failure`. What
happens in a conversation is told by `acp/shown.py`, questions are put by `acp/put.py`, and prompts are read by `acp/spoken.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from opagent.acp.messages import AUTH_REQUIRED, PROTOCOL_VERSION, Body, as_dict, as_list, as_text
from opagent.errors import NotFound, NotTrusted, OpAgentError, SignInNeeded, Usage
from opagent.jsonrpc import INTERNAL_ERROR, INVALID_PARAMS
from opagent.version import VERSION

RESOURCE_NOT_FOUND = -32002
PING, INFO, ATTACH, EVENT = "_opagent/ping", "_opagent/workspace/info", "_opagent/session/attach", "_opagent/event"
OWN = (PING, INFO, ATTACH, EVENT)
TRUST, SIGN_IN = "opagent-trust", "opagent-sign-in"  # the ids of ways to "sign in": that trusts a directory, that is the agent's
_STOPS = {"refusal": "refusal", "max_tokens": "max_tokens", "max_turn_requests": "max_turn_requests"}


@dataclass(frozen=True, slots=True)
class Editor:
    """What a client said of itself."""

    name: str = ""
    notices: bool = False
    compaction: bool = False
    booleans: bool = False  # config options of that type
    forms: bool = False  # questions by `elicitation/create`
    terminals: bool = False  # ways to sign in that run a command in one


def read_editor(params: Mapping[str, Any]) -> Editor:
    """Reads `initialize`; what is missing or odd counts as not there."""
    able = as_dict(params.get("clientCapabilities"))
    session = as_dict(able.get("session"))
    return Editor(
        name=as_text(as_dict(params.get("clientInfo")).get("name"))[:64],
        notices=isinstance(session.get("notices"), dict),
        compaction=isinstance(session.get("compaction"), dict),
        booleans=isinstance(as_dict(session.get("configOptions")).get("boolean"), dict),
        forms=isinstance(as_dict(able.get("elicitation")).get("form"), dict),
        terminals=as_dict(able.get("auth")).get("terminal") is True,
    )


def initialized(editor: Editor, facts: Mapping[str, Any]) -> Body:
    """The answer to `initialize`. `facts`: what the directory's agent said of itself when it was last started, or nothing.

    What an agent cannot take itself is turned into what it can (an image into a link to its file), so an unknown agent takes all.
    """
    able = as_dict(facts.get("prompt"))
    prompts = {"image": able.get("image") is not False, "audio": False, "embeddedContext": True}
    return {
        "protocolVersion": PROTOCOL_VERSION,
        "agentCapabilities": {
            "loadSession": True,
            "promptCapabilities": prompts,
            "mcpCapabilities": {"http": False, "sse": False},
            "sessionCapabilities": {"list": {}, "resume": {}, "close": {}, "delete": {}},
        },
        "agentInfo": {"name": "opagent", "title": "OpAgent", "version": VERSION},
        "authMethods": [trust_method(), sign_in_method()] if editor.terminals else [],
        "_meta": {"opagent": {"version": VERSION, "methods": list(OWN)}},
    }


def trust_method(directory: str = "") -> Body:
    """The way to "sign in" that trusts a directory: the editor runs our own command again with these words behind it."""
    told = f"Shows what {directory or 'the directory'} would let its agent do, and asks."
    words = ["--trust", *([directory] if directory else [])]
    return {"type": "terminal", "id": TRUST, "name": "Trust this directory", "description": told, "args": words}


def sign_in_method(directory: str = "") -> Body:
    """The agent's own way: the same with the command that its description names."""
    told = f"Runs the command by which the agent of {directory or 'the directory'} wants you to sign in."
    words = ["--sign-in", *([directory] if directory else [])]
    return {"type": "terminal", "id": SIGN_IN, "name": "Sign in to the agent", "description": told, "args": words}


def settings(facts: Mapping[str, Any], editor: Editor) -> Body:
    """Modes and config options of the agent's session, as the answers to session/new, load and resume carry them."""
    said: Body = {}
    if as_dict(facts.get("modes")).get("availableModes"):
        said["modes"] = facts["modes"]
    if options := options_for(facts.get("configOptions"), editor):
        said["configOptions"] = options
    if as_dict(facts.get("models")).get("availableModels"):  # in no schema any more, and many editors still read it
        said["models"] = facts["models"]
    return said


def options_for(options: Any, editor: Editor) -> list[Body]:
    """The config options that this editor can show."""
    known = [as_dict(option) for option in as_list(options)]
    return [option for option in known if option.get("type", "select") == "select" or editor.booleans]


def listed(conversation: Mapping[str, Any], cwd: str) -> Body:
    """One row of `session/list`. `cwd`: the directory that the editor asked about, empty for all."""
    path = as_text(conversation.get("path"))
    title = as_text(conversation.get("title")) or path.rpartition("/")[2].removesuffix(".md")
    own = {key: conversation[key] for key in ("path", "agent", "state", "turns", "workspace") if key in conversation}
    row = {"sessionId": conversation["id"], "cwd": cwd or conversation["workspace"], "title": title, "_meta": {"opagent": own}}
    updated = as_text(conversation.get("updated") or conversation.get("created"))
    return row | ({"updatedAt": updated} if updated else {})


def stopped(body: Mapping[str, Any], turn: str, cancelled: bool) -> Body | tuple[str, str]:
    """The result of a prompt whose turn ended (`body` of its last event), or (code, sentence) of the error that says why it
    failed. `cancelled`: the editor asked for that, and hears nothing else."""
    state, reason = as_text(body.get("state")), as_text(body.get("reason"))
    used = {name: value for name, value in as_dict(body.get("usage")).items() if name in ("input", "output")}
    own = {"turn": turn, "state": state, **({"reason": reason} if reason else {}), **({"usage": used} if used else {})}
    done = {"_meta": {"opagent": own}}
    if cancelled or state == "cancelled":
        return {"stopReason": "cancelled", **done}
    if state == "done" or reason in _STOPS:
        return {"stopReason": _STOPS.get(reason, "end_turn"), **done}
    return reason or state, ending(body)


def ending(body: Mapping[str, Any]) -> str:
    """What a person is told of a turn that did not end well."""
    sentence, state, hint = (as_text(body.get(key)) for key in ("sentence", "state", "hint"))
    if not sentence or state == "interrupted":
        sentence = f"the turn was {state}" + (f": {sentence}" if sentence else "")
    return f"{sentence.rstrip('.')}. Try: {hint}" if hint else sentence


def failure(error: OpAgentError, methods: Sequence[Body] = ()) -> tuple[int, str, Body]:
    """Code, message and data of the JSON-RPC error. Editors show the message only, so the command that helps stands in it."""
    code = INTERNAL_ERROR
    match error:
        case NotTrusted() | SignInNeeded():
            code = AUTH_REQUIRED
        case Usage():
            code = INVALID_PARAMS
        case NotFound():
            code = RESOURCE_NOT_FOUND
    message = f"{str(error).rstrip('.')}. Try: {error.hint}" if error.hint else str(error)
    return code, message, error.as_json() | ({"authMethods": list(methods)} if methods else {})
