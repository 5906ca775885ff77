"""One client of an MCP server: lines in, lines out, and the tool calls in between; knows no tool, reads no socket. Pure.

    server = Server("opagent", tools, instructions)
    for each in server.receive(line):           # bytes to send, a Call to perform, or a Cancelled to stop
        ...
    send(server.answer(call, Result("text", {"structured": 1})))

Both eras are spoken on one connection, told apart request by request: the handshake (`initialize`, revisions to 2025-11-25) and
the stateless form (`server/discover`, 2026-07-28), where each request names its revision in `_meta`.
(Source: https://modelcontextprotocol.io/specification)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from opagent import jsonrpc
from opagent.version import VERSION

HANDSHAKES = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
STATELESS = ("2026-07-28",)
UNSUPPORTED_VERSION = -32022
_META = "io.modelcontextprotocol/"
_FRESH = 5_000  # milliseconds that a list may be taken for true


@dataclass(frozen=True, slots=True)
class Tool:
    """`arguments` and `result` are JSON schemas of objects."""

    name: str
    title: str
    about: str
    arguments: Mapping[str, Any]
    result: Mapping[str, Any] | None = None
    reads: bool = False  # it changes nothing

    def as_json(self) -> dict[str, Any]:
        shown = {"name": self.name, "title": self.title, "description": self.about, "inputSchema": dict(self.arguments)}
        if self.result is not None:
            shown["outputSchema"] = dict(self.result)
        return {**shown, "annotations": {"title": self.title, "readOnlyHint": self.reads}}


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call. `progress`: what a notification about it is sent under; None: the client wants none."""

    id: jsonrpc.Id
    tool: str
    arguments: Mapping[str, Any]
    stateless: bool
    progress: str | int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)  # other keys of `_meta`: traceparent and its like


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The client does not want the answer to this request any more."""

    id: jsonrpc.Id


@dataclass(frozen=True, slots=True)
class Result:
    """`structured` fits the tool's `result` schema, or is None where it failed."""

    text: str
    structured: Mapping[str, Any] | None = None
    failed: bool = False


Step = bytes | Call | Cancelled


class Server:
    """`tools` is asked whenever the client wants the list: it may change."""

    def __init__(self, name: str, tools: Callable[[], Sequence[Tool]], instructions: str = "") -> None:
        self._name, self._tools, self._instructions = name, tools, instructions

    def receive(self, line: bytes) -> Iterator[Step]:
        """What one line of the client asks for. Noise is answered where the protocol says so, else dropped."""
        message = jsonrpc.decode(line)
        match message:
            case jsonrpc.Noise(answer=jsonrpc.Failure() as answer):
                yield jsonrpc.encode(answer)
            case jsonrpc.Notification("notifications/cancelled", {"requestId": str() | int() | float() as ident}):
                yield Cancelled(ident)
            case jsonrpc.Request():
                yield self._request(message)

    def answer(self, call: Call, result: Result) -> bytes:
        body: dict[str, Any] = {"content": [{"type": "text", "text": result.text}], "isError": result.failed}
        if result.structured is not None:
            body["structuredContent"] = dict(result.structured)
        return self._result(call.id, body, call.stateless)

    def refuse(self, call: Call, code: int, words: str) -> bytes:
        """For what is no outcome of a tool: an unknown one, arguments that do not fit."""
        return jsonrpc.encode(jsonrpc.Failure(call.id, code, words))

    def progress(self, call: Call, done: float, text: str) -> bytes:
        """That a call is still at work, so that a client does not give it up; empty where the client wants to hear nothing."""
        if call.progress is None:
            return b""
        params = {"progressToken": call.progress, "progress": done, "message": text}
        return jsonrpc.encode(jsonrpc.Notification("notifications/progress", params))

    def tools_changed(self) -> bytes:
        return jsonrpc.encode(jsonrpc.Notification("notifications/tools/list_changed", {}))

    def _request(self, message: jsonrpc.Request) -> Step:
        meta = _dict(message.params.get("_meta"))
        version = meta.get(f"{_META}protocolVersion")
        stateless = version is not None or message.method == "server/discover"
        if stateless and message.method != "initialize" and version not in (None, *STATELESS, *HANDSHAKES):
            data = {"supported": [*STATELESS, *HANDSHAKES], "requested": version}
            return jsonrpc.encode(jsonrpc.Failure(message.id, UNSUPPORTED_VERSION, "Unsupported protocol version", data))
        match message.method:
            case "initialize":
                return self._result(message.id, self._welcome(message.params), False)
            case "server/discover":
                return self._result(message.id, self._discovered(), True)
            case "ping":
                return self._result(message.id, {}, stateless)
            case "tools/list":
                listed: dict[str, Any] = {"tools": [tool.as_json() for tool in self._tools()]}
                return self._result(message.id, listed | (_CACHED if stateless else {}), stateless)
            case "tools/call":
                return self._call(message, meta, stateless)
        return jsonrpc.encode(jsonrpc.Failure(message.id, jsonrpc.METHOD_NOT_FOUND, f"no method {message.method!r}"))

    def _call(self, message: jsonrpc.Request, meta: Mapping[str, Any], stateless: bool) -> Step:
        name, arguments = message.params.get("name"), message.params.get("arguments")
        known = next((tool for tool in self._tools() if tool.name == name), None)
        problem = f"no tool {name!r}" if known is None else misfit(known.arguments, arguments or {})
        if problem:
            return jsonrpc.encode(jsonrpc.Failure(message.id, jsonrpc.INVALID_PARAMS, problem))
        token = meta.get("progressToken")
        progress = token if isinstance(token, str | int) and not isinstance(token, bool) else None
        extra = {key: value for key, value in meta.items() if key != "progressToken" and not key.startswith(_META)}
        return Call(message.id, str(name), _dict(arguments), stateless, progress, extra)

    def _welcome(self, params: Mapping[str, Any]) -> dict[str, Any]:
        wanted = params.get("protocolVersion")
        version = wanted if wanted in HANDSHAKES else HANDSHAKES[-1]
        return {"protocolVersion": version, **self._told(), "serverInfo": self._info()}

    def _discovered(self) -> dict[str, Any]:
        versions = {"supportedVersions": [*STATELESS, *HANDSHAKES]}
        return {**versions, **self._told(), "_meta": {f"{_META}serverInfo": self._info()}, **_CACHED}

    def _told(self) -> dict[str, Any]:
        said: dict[str, Any] = {"capabilities": {"tools": {"listChanged": True}}}
        return said | ({"instructions": self._instructions} if self._instructions else {})

    def _info(self) -> dict[str, str]:
        return {"name": self._name, "version": VERSION}

    def _result(self, ident: jsonrpc.Id, body: Mapping[str, Any], stateless: bool) -> bytes:
        return jsonrpc.encode(jsonrpc.Response(ident, {**({"resultType": "complete"} if stateless else {}), **body}))


_CACHED = {"ttlMs": _FRESH, "cacheScope": "private"}
_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,), "integer": (int,), "number": (int, float), "boolean": (bool,), "array": (list,), "object": (dict,),
}  # fmt: skip


def misfit(schema: Mapping[str, Any], arguments: Any) -> str:
    """Why arguments do not fit a flat schema of an object; empty where they do. What it does not name is let through."""
    if not isinstance(arguments, dict):
        return "arguments must be an object"
    for name in schema.get("required", ()):
        if arguments.get(name) is None:
            return f"{name} is missing"
    for name, wanted in schema.get("properties", {}).items():
        value = arguments.get(name)
        if value is None:
            continue
        if not _is(value, wanted["type"]):
            return f"{name} must be of type {wanted['type']}"
        if wanted["type"] == "array" and not all(_is(each, wanted.get("items", {}).get("type", "string")) for each in value):
            return f"{name} must be a list of texts"
    return ""


def _is(value: Any, kind: str) -> bool:
    """A bool is no number, whatever Python says."""
    return isinstance(value, _TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
