"""A model that follows a script: an OpenAI-compatible chat server on loopback that says what the last user message orders.

A user message with a line `do TOOL {"argument": ...}` is answered with that tool call, its results with `done: ` and what the
tools gave back; anything else is repeated. Requests without tools (titles, summaries) get a short fixed text. `Model.asked`
keeps what came in, so that a test can see what an agent told its model.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
Message = dict[str, Any]


class Model(ThreadingHTTPServer):
    """Serves on a free port of 127.0.0.1 until `running` ends."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[Message] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def conversations(self) -> list[list[str]]:
        """The user messages of every request that offered tools, as text."""
        talks = [body["messages"] for body in self.asked if body.get("tools")]
        return [[text_of(message) for message in talk if message["role"] == "user"] for talk in talks]


@contextlib.contextmanager
def running() -> Iterator[Model]:
    model = Model()
    thread = threading.Thread(target=model.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield model
    finally:
        model.shutdown()
        model.server_close()
        thread.join()


def text_of(message: Message) -> str:
    content = message.get("content")
    if isinstance(content, list):
        return "\n".join(str(part.get("text", "")) for part in content)
    return str(content or "")


def decide(body: Message) -> Message:
    """The assistant's message to a request."""
    messages: list[Message] = body["messages"]
    if not body.get("tools"):
        return {"role": "assistant", "content": "A short title"}
    last_user = max(place for place, message in enumerate(messages) if message["role"] == "user")
    orders = [line for line in text_of(messages[last_user]).splitlines() if line.startswith("do ")]
    results = [text_of(message) for message in messages[last_user:] if message["role"] == "tool"]
    if len(results) < len(orders):
        _, name, arguments = orders[len(results)].split(" ", 2)
        call = {"id": f"call-{len(messages)}", "type": "function", "function": {"name": name, "arguments": arguments}}
        return {"role": "assistant", "content": None, "tool_calls": [call]}
    said = "done: " + "\n".join(results) if orders else "you said: " + text_of(messages[last_user])
    return {"role": "assistant", "content": said}


def events(message: Message) -> list[Message]:
    """The message as the chunks of a stream."""
    finish = "tool_calls" if message.get("tool_calls") else "stop"
    deltas: list[Message] = [{"role": "assistant", "content": ""}]
    deltas += [{"tool_calls": [{"index": place, **call}]} for place, call in enumerate(message.get("tool_calls", ()))]
    deltas += [{"content": word + " "} for word in (message["content"] or "").split(" ")]
    choices: list[list[Message]] = [[{"index": 0, "delta": delta, "finish_reason": None}] for delta in deltas]
    choices += [[{"index": 0, "delta": {}, "finish_reason": finish}], []]
    head = {"id": "chat-1", "object": "chat.completion.chunk", "created": 0, "model": "scripted"}
    return [{**head, "choices": choice, **({} if choice else {"usage": USAGE})} for choice in choices]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Model

    def do_GET(self) -> None:
        self._answer({"object": "list", "data": [{"id": "scripted", "object": "model"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))))
        if not self.path.endswith("/chat/completions"):
            self._answer({"error": {"message": f"no such path: {self.path}"}}, 404)
            return
        self.server.asked.append(body)
        message = decide(body)
        if body.get("stream"):
            stream = "".join(f"data: {json.dumps(event)}\n\n" for event in events(message)) + "data: [DONE]\n\n"
            self._send(stream.encode(), "text/event-stream")
            return
        finish = "tool_calls" if message.get("tool_calls") else "stop"
        choices = [{"index": 0, "message": message, "finish_reason": finish}]
        head = {"id": "chat-1", "object": "chat.completion", "created": 0, "model": "scripted", "usage": USAGE}
        self._answer({**head, "choices": choices})

    def _answer(self, body: Message, status: int = 200) -> None:
        self._send(json.dumps(body).encode(), "application/json", status)

    def _send(self, data: bytes, kind: str, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        with contextlib.suppress(BrokenPipeError):
            self.wfile.write(data)

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing on stderr."""
