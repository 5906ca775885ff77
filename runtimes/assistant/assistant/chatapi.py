"""The interface "chat completions", as OpenAI, Ollama, llama.cpp, vLLM and OpenRouter have it. Pure: bodies and events."""

from collections.abc import Iterator
from typing import Any

from assistant.talk import Answer, Ask, Body, BrokenAnswer, Message, Pieces, Usage, number

_STOPS = {"stop": "end", "tool_calls": "tools", "function_call": "tools", "length": "length", "content_filter": "refusal"}


class ChatApi:
    path = "/chat/completions"

    def headers(self, key: str) -> dict[str, str]:
        return {"authorization": f"Bearer {key}"} if key else {}

    def body(self, ask: Ask) -> Body:
        body: Body = {
            "model": ask.model,
            "messages": [{"role": "system", "content": ask.system}, *map(_message, ask.messages)],
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if ask.tools:
            functions = ({"name": tool.name, "description": tool.about, "parameters": tool.schema} for tool in ask.tools)
            body["tools"] = [{"type": "function", "function": each} for each in functions]
        return body

    def assembly(self) -> "_Assembly":
        return _Assembly()


def _message(message: Message) -> Body:
    if message.role == "tool":
        return {"role": "tool", "tool_call_id": message.call, "content": message.text}
    body: Body = {"role": message.role, "content": message.text or None if message.calls else message.text}
    if message.calls:
        body["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.calls
        ]
    return body


class _Assembly:
    def __init__(self) -> None:
        self._text: list[str] = []
        self._calls: dict[Any, Pieces] = {}  # by index; some servers leave it out
        self._last: Any = None
        self._usage = Usage()
        self._stop = ""

    def feed(self, event: Body) -> Iterator[tuple[str, str]]:
        if "error" in event:
            raise BrokenAnswer(said(event["error"]))
        if isinstance(event.get("usage"), dict):
            self._usage = _usage(event["usage"])
        for choice in event.get("choices") or []:
            if not isinstance(choice, dict):
                raise BrokenAnswer("a choice is no object")
            delta = choice.get("delta") or {}
            for kind, names in (("thought", ("reasoning_content", "reasoning")), ("text", ("content", "refusal"))):
                words = next((delta[name] for name in names if isinstance(delta.get(name), str)), "")
                if words and kind == "text":
                    self._text.append(words)
                if words:
                    yield kind, words
            for call in delta.get("tool_calls") or []:
                self._call(call)
            if choice.get("finish_reason"):
                self._stop = _STOPS.get(choice["finish_reason"], "end")

    def _call(self, call: Body) -> None:
        function = call.get("function") or {}
        index = call.get("index")
        if index is None:  # then a name begins the next one
            index = len(self._calls) if function.get("name") or self._last is None else self._last
        self._last = index
        pieces = self._calls.setdefault(index, Pieces())
        pieces.id = pieces.id or str(call.get("id") or "")
        pieces.name += str(function.get("name") or "")
        pieces.arguments.append(str(function.get("arguments") or ""))

    def answer(self) -> Answer:
        if not self._stop:
            raise BrokenAnswer("the answer broke off")
        calls = tuple(pieces.call(place) for place, pieces in enumerate(self._calls.values()))
        stop = "tools" if calls and self._stop == "end" else self._stop
        return Answer("".join(self._text), calls, self._usage, stop)


def _usage(found: Body) -> Usage:
    details = found.get("prompt_tokens_details")
    cached = number(details.get("cached_tokens")) if isinstance(details, dict) else 0
    return Usage(number(found.get("prompt_tokens")), number(found.get("completion_tokens")), cached, True)


def said(error: object) -> str:
    """The sentence in an error of an endpoint, of whatever form."""
    if isinstance(error, dict):
        return said(error.get("message") or error.get("error") or error.get("type") or "it gives no reason")
    return str(error)[:500]
