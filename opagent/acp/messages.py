"""What we say to an agent and how we read what it says (Agent Client Protocol, version 1). Pure; messages stay dicts.

Reading is tolerant: an unknown field, kind or value never raises, it passes through. Nothing in `_meta` overrides a
parameter. Section numbers of the protocol are those of agentclientprotocol.com, "protocol/v1".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from opagent.model import Kind
from opagent.version import VERSION

PROTOCOL_VERSION = 1
AUTH_REQUIRED = -32000
REQUEST_CANCELLED = -32800  # code of the answer to a request that is no longer wanted
Body = dict[str, Any]
Setting = tuple[str, Body]  # a method session/set_..., and its parameters without the session


@dataclass(frozen=True, slots=True)
class AgentFacts:
    """What an agent said of itself in its answer to `initialize`."""

    protocol: int = PROTOCOL_VERSION
    name: str = ""
    version: str = ""
    load: bool = False
    resume: bool = False
    embedded_context: bool = False
    image: bool = False
    steering: bool = False
    auth_methods: tuple[Mapping[str, Any], ...] = ()


def initialize(services: Sequence[str]) -> Body:
    """Parameters of `initialize`. `services` are the client services that the runtime asked for: fs, terminal."""
    files = "fs" in services
    return {
        "protocolVersion": PROTOCOL_VERSION,
        "clientCapabilities": {
            "fs": {"readTextFile": files, "writeTextFile": files},
            "terminal": "terminal" in services,
            "auth": {"terminal": True},
            "elicitation": {"form": {}},
            "session": {"configOptions": {"boolean": {}}, "notices": {}, "compaction": {}},
        },
        "clientInfo": {"name": "opagent", "title": "OpAgent", "version": VERSION},
    }


def facts(result: Any) -> AgentFacts:
    """Reads the answer to `initialize`."""
    result = as_dict(result)
    able, info = as_dict(result.get("agentCapabilities")), as_dict(result.get("agentInfo"))
    sessions, prompts = as_dict(able.get("sessionCapabilities")), as_dict(able.get("promptCapabilities"))
    version = result.get("protocolVersion")
    return AgentFacts(
        protocol=version if type(version) is int else 0,
        name=as_text(info.get("name")),
        version=as_text(info.get("version")),
        load=able.get("loadSession") is True,
        resume=_offered(sessions.get("resume")),
        embedded_context=prompts.get("embeddedContext") is True,
        image=prompts.get("image") is True,
        steering=as_dict(as_dict(result.get("_meta")).get("steering")).get("supported") is True,
        auth_methods=tuple(_dicts(result.get("authMethods"))),
    )


def ways_to_sign_in(found: AgentFacts) -> str:
    """The names of the agent's ways to sign in, in one line; empty where it names none."""
    return ", ".join(filter(None, (as_text(method.get("name")) or as_text(method.get("id")) for method in found.auth_methods)))


def _offered(capability: Any) -> bool:
    """An object, even an empty one, means yes (`{}` is the usual form); some say true or false."""
    return isinstance(capability, dict) or capability is True


def session_new(cwd: str, own: Mapping[str, Any], servers: Sequence[Body] = ()) -> Body:
    """Parameters of `session/new`; `own` is our data for runtimes that read it (`_meta.opagent`), `servers` those of MCP."""
    return {"cwd": cwd, "mcpServers": list(servers), "_meta": {"opagent": dict(own)}}


def session_again(session: str, cwd: str, own: Mapping[str, Any], servers: Sequence[Body] = ()) -> Body:
    """Parameters of `session/load` and `session/resume`."""
    return {"sessionId": session, **session_new(cwd, own, servers)}


def prompt(session: str, blocks: Sequence[Body]) -> Body:
    return {"sessionId": session, "prompt": list(blocks)}


def text_block(text: str) -> Body:
    return {"type": "text", "text": text}


def cancelled_outcome() -> Body:
    return {"outcome": {"outcome": "cancelled"}}


def selected_outcome(option: str) -> Body:
    return {"outcome": {"outcome": "selected", "optionId": option}}


def choices(facts_of_session: Mapping[str, Any], category: str, wanted: str) -> Setting | None:
    """The request that sets the session's `category` (model, mode) to `wanted`: (method, parameters without sessionId) or None.

    A configuration option of that category if there is one, else the older `session/set_mode` or `session/set_model`,
    the latter only if `models` came in the reply (it left the schema; most agents still send it). `wanted` may be the name
    that people see; a value that the agent does not list is sent as it is, so that the agent says what is wrong with it.
    """
    options = [as_dict(option) for option in as_list(facts_of_session.get("configOptions"))]
    selects = [option for option in options if option.get("type", "select") == "select" and as_text(option.get("id"))]
    for key in ("category", "id"):
        for option in selects:
            if option.get(key) == category:
                value = _value(_flat(option.get("options")), "value", wanted)
                return "session/set_config_option", {"configId": option["id"], "value": value}
    modes, models = as_dict(facts_of_session.get("modes")), as_dict(facts_of_session.get("models"))
    if category == "mode" and modes:
        return "session/set_mode", {"modeId": _value(as_list(modes.get("availableModes")), "id", wanted)}
    if category == "model" and models:
        return "session/set_model", {"modelId": _value(as_list(models.get("availableModels")), "modelId", wanted)}
    return None


def after_setting(facts_of_session: Mapping[str, Any], setting: Setting, result: Mapping[str, Any]) -> Body:
    """What the session says of itself once the agent has taken a setting."""
    said, (method, params) = dict(facts_of_session), setting
    if isinstance(result.get("configOptions"), list):
        said["configOptions"] = result["configOptions"]
    for named, key, current in (("mode", "modes", "currentModeId"), ("model", "models", "currentModelId")):
        if method == f"session/set_{named}" and as_dict(said.get(key)):
            said[key] = {**as_dict(said[key]), current: params.get(f"{named}Id")}
    return said


def _flat(options: Any) -> list[Any]:
    """The values of a select, which may stand in named groups."""
    found = []
    for option in as_list(options):
        found += as_list(option["options"]) if isinstance(option, dict) and "options" in option else [option]
    return found


def _value(options: list[Any], key: str, wanted: str) -> str:
    known = [as_dict(option) for option in options]
    if any(option.get(key) == wanted for option in known):
        return wanted
    named = (option.get(key) for option in known if as_text(option.get("name")).casefold() == wanted.casefold())
    return next((value for value in named if isinstance(value, str)), wanted)


def read_update(update: Mapping[str, Any]) -> tuple[Kind, Body] | None:
    """One `session/update` as the event it means; None for what leaves no trace (the replay of a person's own words).

    A kind that version 1 does not have (of version 2, of a draft, of the agent's own) is a note that keeps all of it.
    """
    match update.get("sessionUpdate"):
        case "agent_message_chunk":
            return Kind.TEXT, {"text": content_text(update.get("content"))}
        case "agent_thought_chunk":
            return Kind.THOUGHT, {"text": content_text(update.get("content"))}
        case "user_message_chunk":
            return None
        case "tool_call" | "tool_call_update":
            return Kind.TOOL_CALL, tool_call(update)
        case "plan":
            return Kind.PLAN, {"entries": _dicts(update.get("entries"))}
        case "usage_update":
            return Kind.USAGE, _context(update)
        case "available_commands_update":
            return Kind.AGENT_STATE, {"commands": _dicts(update.get("availableCommands"))}
        case "current_mode_update" | "config_option_update" | "session_info_update":
            return Kind.AGENT_STATE, _session_facts(update)
        case "notice":
            words = [as_text(update.get("title")), as_text(update.get("description"))]
            return Kind.NOTE, {"text": ": ".join(filter(None, words)), "severity": as_text(update.get("severity")) or "info"}
        case "compaction_update":
            return Kind.NOTE, {"text": _COMPACTION.get(as_text(update.get("status")), ""), "update": dict(update)}
        case _:
            return Kind.NOTE, {"update": dict(update)}


_COMPACTION = {
    "completed": "the agent made its memory of this conversation shorter",
    "failed": "the agent could not make its memory of this conversation shorter",
}
# ours beside theirs would be mistaken for the state of the process
_SESSION_FACTS = ("currentModeId", "configOptions", "title", "updatedAt")


def _session_facts(update: Mapping[str, Any]) -> Body:
    return {key: update[key] for key in _SESSION_FACTS if key in update}


def _context(update: Mapping[str, Any]) -> Body:
    """Fill of the context window in tokens, and the cumulative cost; only numbers that can be true."""
    body: Body = {"context": {key: update[key] for key in ("used", "size") if _counts(update.get(key))}}
    cost = as_dict(update.get("cost"))
    amount = cost.get("amount")
    if isinstance(amount, int | float) and not isinstance(amount, bool) and 0 <= amount < 10**9:
        body["cost"] = {"amount": amount, "currency": as_text(cost.get("currency"))[:8]}
    return body


def tool_call(update: Mapping[str, Any]) -> Body:
    """The fields of a tool call that this message sets; null, and what has the wrong type, mean unchanged."""
    body: Body = {"id": as_text(update.get("toolCallId"))}
    body |= {key: update[key] for key in ("title", "name", "kind", "status") if isinstance(update.get(key), str)}
    body |= {key: _dicts(update[key]) for key in ("content", "locations") if isinstance(update.get(key), list)}
    return body | {key: update[key] for key in ("rawInput", "rawOutput") if update.get(key) is not None}


def content_text(content: Any) -> str:
    """A content block as text; a link or an embedded file as Markdown, anything else named by its type."""
    block = as_dict(content)
    match block.get("type"):
        case "text":
            return as_text(block.get("text"))
        case "resource_link":
            return f"[{as_text(block.get('title')) or as_text(block.get('name'))}]({as_text(block.get('uri'))})"
        case "resource":
            return as_text(as_dict(block.get("resource")).get("text"))
        case str() as other:
            return f"[{other}]"
        case _:
            return ""


def turn_usage(result: Mapping[str, Any]) -> Body:
    """Tokens from the answer to a prompt, as `input` and `output`; {} where none were reported (unknown is not 0)."""
    return {name: value for name, value in said_usage(result).items() if _counts(value)}


def said_usage(result: Mapping[str, Any]) -> Body:
    """The same numbers as they came: also those that cannot be true."""
    said = as_dict(result.get("usage")) or as_dict(as_dict(result.get("_meta")).get("usage"))
    names = {"inputTokens": "input", "outputTokens": "output", "input_tokens": "input", "output_tokens": "output"}
    return {ours: said[theirs] for theirs, ours in names.items() if said.get(theirs) is not None}


def _counts(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**15


def _dicts(value: Any) -> list[Body]:
    return [one for one in as_list(value) if isinstance(one, dict)]


def as_dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def as_text(value: Any) -> str:
    return value if isinstance(value, str) else ""
