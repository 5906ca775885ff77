"""The interface "messages" of Anthropic. Pure: bodies and events."""

import json
from collections.abc import Iterator

from assistant.chatapi import said
from assistant.talk import Answer, Ask, Body, BrokenAnswer, Message, Pieces, Usage, number

VERSION = "2023-06-01"
_STOPS = {"end_turn": "end", "stop_sequence": "end", "tool_use": "tools", "max_tokens": "length", "refusal": "refusal"}
_CACHED = {"cache_control": {"type": "ephemeral"}}  # what comes before this point is the same in the next request


class MessagesApi:
    path = "/v1/messages"

    def headers(self, key: str) -> dict[str, str]:
        return {"anthropic-version": VERSION, **({"x-api-key": key} if key else {})}

    def body(self, ask: Ask) -> Body:
        messages: list[Body] = []
        for message in ask.messages:
            role, parts = _parts(message)
            if messages and messages[-1]["role"] == role:  # roles take turns: answers of tools are one message
                messages[-1]["content"] += parts
            elif parts:
                messages.append({"role": role, "content": parts})
        if messages:
            messages[-1]["content"][-1] = {**messages[-1]["content"][-1], **_CACHED}
        body: Body = {"model": ask.model, "max_tokens": ask.most_output, "messages": messages, "stream": True}
        body["system"] = [{"type": "text", "text": ask.system, **_CACHED}]
        if ask.tools:
            body["tools"] = [{"name": tool.name, "description": tool.about, "input_schema": tool.schema} for tool in ask.tools]
        return body

    def assembly(self) -> "_Assembly":
        return _Assembly()


def _parts(message: Message) -> tuple[str, list[Body]]:
    if message.role == "tool":
        result = {"type": "tool_result", "tool_use_id": message.call, "content": message.text or "(nothing)"}
        return "user", [{**result, "is_error": True} if message.failed else result]
    parts: list[Body] = [{"type": "text", "text": message.text}] if message.text.strip() else []
    for call in message.calls:
        parts.append({"type": "tool_use", "id": call.id, "name": call.name, "input": _object(call.arguments)})
    return message.role, parts


def _object(arguments: str) -> Body:
    """Arguments that were broken were answered with an error; what is sent again must be an object."""
    try:
        found = json.loads(arguments)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


class _Assembly:
    def __init__(self) -> None:
        self._text: list[str] = []
        self._calls: dict[int, Pieces] = {}
        self._counts: dict[str, int] = {}
        self._stop = ""
        self._ended = False

    def feed(self, event: Body) -> Iterator[tuple[str, str]]:
        match event.get("type"):
            case "error":
                raise BrokenAnswer(said(event.get("error")))
            case "message_start":
                self._count((event.get("message") or {}).get("usage"))
            case "message_delta":
                self._count(event.get("usage"))
                stop = (event.get("delta") or {}).get("stop_reason")
                self._stop = _STOPS.get(stop, "end") if stop else self._stop
            case "message_stop":
                self._ended = True
            case "content_block_start":
                block = event.get("content_block") or {}
                if block.get("type") == "tool_use":
                    self._calls[_index(event)] = Pieces(str(block.get("id") or ""), str(block.get("name") or ""))
                elif block.get("text"):
                    yield self._said(str(block["text"]))
            case "content_block_delta":
                delta = event.get("delta") or {}
                if delta.get("type") == "text_delta":
                    yield self._said(str(delta.get("text") or ""))
                elif delta.get("type") == "thinking_delta":
                    yield "thought", str(delta.get("thinking") or "")
                elif delta.get("type") == "input_json_delta":
                    if _index(event) not in self._calls:
                        raise BrokenAnswer("arguments of a tool that was not named")
                    self._calls[_index(event)].arguments.append(str(delta.get("partial_json") or ""))

    def _said(self, words: str) -> tuple[str, str]:
        self._text.append(words)
        return "text", words

    def _count(self, usage: object) -> None:
        """Running totals: the last one counts, and one that is missing changes nothing."""
        if isinstance(usage, dict):
            self._counts |= {name: number(value) for name, value in usage.items() if isinstance(value, int)}

    def answer(self) -> Answer:
        if not (self._ended and self._stop):
            raise BrokenAnswer("the answer broke off")
        count = self._counts.get
        cached = count("cache_read_input_tokens", 0)
        read = count("input_tokens", 0) + cached + count("cache_creation_input_tokens", 0)
        usage = Usage(read, count("output_tokens", 0), cached, bool(self._counts))
        calls = tuple(pieces.call(place) for place, pieces in enumerate(self._calls.values()))
        return Answer("".join(self._text), calls, usage, self._stop)


def _index(event: Body) -> int:
    return number(event.get("index"))
