"""What passes between an agent and an MCP server, in tables, and how a message is rewritten on its way; keeps no state. Pure.

An agent's capabilities are not told to the server: so it asks for nothing that would not be answered (sampling, questions). Of a
server's own, those that pass are told; its `instructions` are not, since nobody would see when they change.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opagent import jsonrpc
from opagent.jsonrpc import Failure, Request, Response

# what is decided as a tool is, by a name that no tool can have: the method that reads, its section of capabilities, the lists
READS: dict[str, tuple[str, ...]] = {
    "resources:read": ("resources/read", "resources", "resources/list", "resources/templates/list"),
    "prompts:get": ("prompts/get", "prompts", "prompts/list"),
}
REQUESTS = frozenset(
    ["ping", "server/discover", "logging/setLevel", "resources/list", "resources/templates/list", "prompts/list"]
)
NOTICES = frozenset(["notifications/message", "notifications/resources/list_changed", "notifications/prompts/list_changed"])
_OFFERED = ("tools", "resources", "prompts", "logging")
_KEPT = ("name", "arguments", "uri", "cursor", "level")  # of the parameters of a request
_META = "io.modelcontextprotocol/"
_VERSION, _ABILITIES = f"{_META}protocolVersion", f"{_META}clientCapabilities"
_FRESH = 10_000  # milliseconds that an agent may keep a list: what a person allows must not take longer to be seen


def meta(params: Mapping[str, Any]) -> Mapping[str, Any]:
    found = params.get("_meta")
    return found if isinstance(found, Mapping) else {}


def modern(params: Mapping[str, Any]) -> bool:
    """Whether the request carries its version itself (2026-07-28)."""
    return _VERSION in meta(params)


def version_of(params: Mapping[str, Any]) -> dict[str, Any]:
    """The `_meta` of a request of ours that goes before this one."""
    found = {key: value for key, value in meta(params).items() if key.startswith(_META)}
    return {**found, _ABILITIES: {}}


def for_server(request: Request) -> dict[str, Any]:
    """The parameters of an agent's request as the server gets them."""
    params = request.params
    if request.method == "initialize":
        named = {key: params[key] for key in params if key in ("protocolVersion", "clientInfo")}
        return {**named, "capabilities": {"roots": {}}}
    found = {key: params[key] for key in _KEPT if key in params}
    if said := meta(params):
        found["_meta"] = {**said, _ABILITIES: {}} if modern(params) else dict(said)
    return found


def for_agent(request: Request, result: Any, closed: frozenset[str]) -> tuple[Any, str]:
    """The result of a server as the agent gets it, and why it gets none."""
    if not isinstance(result, Mapping):
        return None, "its answer is no object"
    if result.get("resultType", "complete") != "complete":
        return None, "it wants to ask first, which does not pass here"
    if request.method not in ("initialize", "server/discover"):
        return result, ""
    offered = result.get("capabilities")
    offered = offered if isinstance(offered, Mapping) else {}
    gone = {section for name, (_, section, *_) in READS.items() if name in closed}
    kept: dict[str, Any] = {
        key: dict(offered[key]) for key in _OFFERED if isinstance(offered.get(key), Mapping) and key not in gone
    }
    kept.get("resources", {}).pop("subscribe", None)
    return {**{key: value for key, value in result.items() if key != "instructions"}, "capabilities": kept}, ""


def page(result: Any) -> tuple[list[Any] | None, str | None]:
    """The tools of one page, None for what is no page; and where the next one is."""
    items = result.get("tools") if isinstance(result, Mapping) else None
    cursor = result.get("nextCursor") if isinstance(result, Mapping) else None
    return (items if isinstance(items, list) else None), (cursor if isinstance(cursor, str) and cursor else None)


def cacheable(params: Mapping[str, Any]) -> dict[str, Any]:
    """What a list says of itself to an agent of the later era."""
    return {"resultType": "complete", "ttlMs": _FRESH, "cacheScope": "private"} if modern(params) else {}


def told(params: Mapping[str, Any], words: str) -> dict[str, Any]:
    """The result of a call that does not happen: words for the model."""
    said = {"content": [{"type": "text", "text": words}], "isError": True}
    return said | ({"resultType": "complete"} if modern(params) else {})


def failed(result: Any) -> bool:
    return isinstance(result, Mapping) and result.get("isError") is True


def answer(request: Request, root: str) -> Response | Failure:
    """What a server that asks the agent something is answered."""
    match request.method:
        case "ping":
            return Response(request.id, {})
        case "roots/list":
            return Response(request.id, {"roots": [{"uri": root, "name": "workspace"}]})
    return Failure(request.id, jsonrpc.METHOD_NOT_FOUND, f"{request.method[:100]} does not pass here")
