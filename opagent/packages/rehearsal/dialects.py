"""The ways in which agents talk to models over HTTP, just enough of each: a request becomes `Asked`, a `Reply` becomes events.

Four are in use: chat completions, responses, messages, and contents with parts. Pure. (Sources: the API references of those
who made them, and what agents were seen to send.)
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Protocol

from opagent.packages.rehearsal.script import Asked, Reply, Said, Tool

Event = tuple[str, dict[str, Any]]  # name of the event ("" where events have none) and its data
MODEL = "scripted"


class Dialect(Protocol):
    """Called by the server for each request, from its own thread. `read` raises KeyError, TypeError for what is no request."""

    def read(self, body: dict[str, Any]) -> Asked: ...

    def events(self, reply: Reply, cost: tuple[int, int], pieces: list[str]) -> Iterator[Event]:
        """The answer as a stream; text comes in `pieces`."""

    def whole(self, reply: Reply, cost: tuple[int, int]) -> dict[str, Any]: ...


def _text(content: Any) -> str:
    """Of a message: a string, or parts."""
    if isinstance(content, list):
        parts = (part if isinstance(part, str) else part.get("text") or part.get("content") or "" for part in content)
        return "\n".join(part if isinstance(part, str) else _text(part) for part in parts)
    return str(content or "")


class Chat:
    """`/chat/completions`."""

    def read(self, body: dict[str, Any]) -> Asked:
        said = [Said(_text(each.get("content")), each["role"] == "tool") for each in body["messages"]]
        functions = [tool["function"] for tool in body.get("tools") or () if tool.get("type") == "function"]
        form = ((body.get("response_format") or {}).get("json_schema") or {}).get("schema")
        return Asked(said, [Tool(each["name"], each.get("parameters") or {}) for each in functions], form)

    def events(self, reply: Reply, cost: tuple[int, int], pieces: list[str]) -> Iterator[Event]:
        yield self._chunk({"role": "assistant", "content": ""})
        if reply.tool:
            yield self._chunk({"tool_calls": [{"index": 0, **_function(reply)}]})
        for piece in pieces:
            yield self._chunk({"content": piece})
        yield self._chunk({}, "tool_calls" if reply.tool else "stop")
        yield "", {**_HEAD, "object": "chat.completion.chunk", "choices": [], "usage": _chat_usage(cost)}

    def _chunk(self, delta: dict[str, Any], finish: str | None = None) -> Event:
        return "", {
            **_HEAD,
            "object": "chat.completion.chunk",
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
        }

    def whole(self, reply: Reply, cost: tuple[int, int]) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": reply.text or None}
        if reply.tool:
            message["tool_calls"] = [_function(reply)]
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if reply.tool else "stop"}
        return {**_HEAD, "object": "chat.completion", "choices": [choice], "usage": _chat_usage(cost)}


_HEAD = {"id": "chat-1", "created": 0, "model": MODEL}


def _function(reply: Reply) -> dict[str, Any]:
    assert reply.tool is not None
    return {"id": f"call_{reply.ident}", "type": "function", "function": {"name": reply.tool.name, "arguments": reply.arguments}}


def _chat_usage(cost: tuple[int, int]) -> dict[str, int]:
    return {"prompt_tokens": cost[0], "completion_tokens": cost[1], "total_tokens": sum(cost)}


class Responses:
    """`/responses`."""

    def read(self, body: dict[str, Any]) -> Asked:
        given = body["input"] if isinstance(body["input"], list) else [{"role": "user", "content": body["input"]}]
        said = []
        for each in given:
            result = str(each.get("type", "")).endswith("_call_output")
            said.append(Said(_text(each.get("output") if result else each.get("content")), result))
        form = ((body.get("text") or {}).get("format") or {}).get("schema")
        return Asked(said, list(_tools(body.get("tools") or ())), form)

    def events(self, reply: Reply, cost: tuple[int, int], pieces: list[str]) -> Iterator[Event]:
        yield self._event(
            "response.created", response={"id": f"resp_{reply.ident}", "object": "response", "status": "in_progress"}
        )
        item = _item(reply, "")
        yield self._event("response.output_item.added", output_index=0, item=item)
        where = {"item_id": item["id"], "output_index": 0, "content_index": 0}
        for piece in pieces:
            yield self._event("response.output_text.delta", **where, delta=piece)
        yield self._event("response.output_item.done", output_index=0, item=_item(reply, "".join(pieces)))
        yield self._event("response.completed", response=self.whole(reply, cost))

    def _event(self, name: str, **data: Any) -> Event:
        return name, {"type": name, **data}

    def whole(self, reply: Reply, cost: tuple[int, int]) -> dict[str, Any]:
        details = {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
        usage = {"input_tokens": cost[0], "output_tokens": cost[1], "total_tokens": sum(cost), **details}
        head = {"id": f"resp_{reply.ident}", "object": "response", "created_at": 0, "status": "completed", "model": MODEL}
        return {**head, "output": [_item(reply, reply.text)], "usage": usage}


def _tools(tools: Any) -> Iterator[Tool]:
    for each in tools:
        if each.get("type") == "function":
            yield Tool(each["name"], each.get("parameters") or {})
        elif each.get("type") == "custom":
            yield Tool(each["name"], free=True)
        elif each.get("type") == "namespace":  # the tools of one server
            yield from (Tool(tool.name, tool.schema, tool.free, each["name"]) for tool in _tools(each.get("tools") or ()))


def _item(reply: Reply, text: str) -> dict[str, Any]:
    if reply.tool is None:
        content = [{"type": "output_text", "text": text, "annotations": []}]
        return {"id": f"msg_{reply.ident}", "type": "message", "role": "assistant", "status": "completed", "content": content}
    call = {
        "id": f"fc_{reply.ident}",
        "type": "function_call",
        "call_id": f"call_{reply.ident}",
        "name": reply.tool.name,
        "status": "completed",
    }
    return {**call, "arguments": reply.arguments, **({"namespace": reply.tool.group} if reply.tool.group else {})}


class Messages:
    """`/messages`."""

    def read(self, body: dict[str, Any]) -> Asked:
        said = []
        for each in body["messages"]:
            parts = each["content"] if isinstance(each["content"], list) else [{"type": "text", "text": each["content"]}]
            said += [Said(_text([part]), part.get("type") == "tool_result") for part in parts]
        tools = [Tool(each["name"], each["input_schema"]) for each in body.get("tools") or () if "input_schema" in each]
        return Asked(said, tools)

    def events(self, reply: Reply, cost: tuple[int, int], pieces: list[str]) -> Iterator[Event]:
        start = {**self.whole(Reply(ident=reply.ident), cost), "content": [], "stop_reason": None}
        yield self._event("message_start", message=start)
        block: dict[str, Any] = {"type": "text", "text": ""}
        deltas: list[dict[str, Any]] = [{"type": "text_delta", "text": piece} for piece in pieces]
        if reply.tool:
            block = {"type": "tool_use", "id": f"toolu_{reply.ident}", "name": reply.tool.name, "input": {}}
            deltas = [{"type": "input_json_delta", "partial_json": reply.arguments}]
        yield self._event("content_block_start", index=0, content_block=block)
        for delta in deltas:
            yield self._event("content_block_delta", index=0, delta=delta)
        yield self._event("content_block_stop", index=0)
        stop = {"stop_reason": "tool_use" if reply.tool else "end_turn", "stop_sequence": None}
        yield self._event("message_delta", delta=stop, usage={"output_tokens": cost[1]})
        yield self._event("message_stop")

    def _event(self, name: str, **data: Any) -> Event:
        return name, {"type": name, **data}

    def whole(self, reply: Reply, cost: tuple[int, int]) -> dict[str, Any]:
        content: dict[str, Any] = {"type": "text", "text": reply.text}
        if reply.tool:
            content = {
                "type": "tool_use",
                "id": f"toolu_{reply.ident}",
                "name": reply.tool.name,
                "input": json.loads(reply.arguments),
            }
        usage = {
            "input_tokens": cost[0],
            "output_tokens": cost[1],
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
        }
        head = {"id": f"msg_{reply.ident}", "type": "message", "role": "assistant", "model": MODEL, "stop_sequence": None}
        return {**head, "content": [content], "stop_reason": "tool_use" if reply.tool else "end_turn", "usage": usage}


class Contents:
    """`/models/NAME:generateContent` and `:streamGenerateContent`."""

    def read(self, body: dict[str, Any]) -> Asked:
        said = []
        for each in body["contents"]:
            for part in each["parts"]:
                result = "functionResponse" in part
                said.append(Said(json.dumps(part["functionResponse"]) if result else str(part.get("text", "")), result))
        named = [one for group in body.get("tools") or () for one in group.get("functionDeclarations") or ()]
        tools = [Tool(each["name"], each.get("parametersJsonSchema") or _small(each.get("parameters") or {})) for each in named]
        form = body.get("generationConfig") or {}
        return Asked(said, tools, form.get("responseJsonSchema") or form.get("responseSchema"))

    def events(self, reply: Reply, cost: tuple[int, int], pieces: list[str]) -> Iterator[Event]:
        for piece in pieces:
            yield (
                "",
                {"candidates": [{"index": 0, "content": {"role": "model", "parts": [{"text": piece}]}}], "modelVersion": MODEL},
            )
        yield "", self.whole(Reply(" ", reply.tool, reply.arguments, ident=reply.ident), cost)

    def whole(self, reply: Reply, cost: tuple[int, int]) -> dict[str, Any]:
        part: dict[str, Any] = {"text": reply.text}
        if reply.tool:
            part = {"functionCall": {"name": reply.tool.name, "args": json.loads(reply.arguments)}}
        candidate = {"index": 0, "content": {"role": "model", "parts": [part]}, "finishReason": "STOP"}
        usage = {"promptTokenCount": cost[0], "candidatesTokenCount": cost[1], "totalTokenCount": sum(cost)}
        return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": MODEL}


def _small(schema: dict[str, Any]) -> dict[str, Any]:
    """Types are written in capitals there."""
    kinds = {name: {**one, "type": str(one.get("type", "")).lower()} for name, one in (schema.get("properties") or {}).items()}
    return {**schema, "properties": kinds}


def of(path: str) -> Dialect | None:
    """By the path of a request, without what stands behind `?`."""
    if path.endswith("/chat/completions"):
        return Chat()
    if path.endswith("/responses"):
        return Responses()
    if path.endswith("/messages"):
        return Messages()
    return Contents() if path.endswith((":generateContent", ":streamGenerateContent")) else None
