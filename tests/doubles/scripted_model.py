"""A model that follows a script, on loopback, in both interfaces: chat completions and messages; streams, and fails as told.

    with running() as model:
        model.then(call("read", path="a.md"), say("done"))     # the next two answers; then it repeats what it was told
    model.asked[0].body                                         # what came in

Streams are cut into pieces of a few bytes, through characters, arguments and events.
"""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.doubles.patience import PATIENCE

INPUT, OUTPUT, CACHED = 11, 7, 3
Body = dict[str, Any]


@dataclass(frozen=True)
class Step:
    """One answer. `broken`: "cut" before its end, "garbage" in its middle, "closed" without a byte, "other" for no stream at all."""

    text: str = ""
    calls: tuple[tuple[str, str], ...] = ()
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    broken: str = ""
    stop: str = ""
    hold: threading.Event | None = None  # after the first piece until it is set
    thought: str = ""
    used: int = INPUT
    error: str = "it is scripted so"


def say(text: str = "", **more: Any) -> Step:
    return Step(text, **more)


def call(name: str, raw: str | None = None, **arguments: Any) -> Step:
    return Step(calls=((name, raw if raw is not None else json.dumps(arguments)),))


def calls(*each: tuple[str, Body], text: str = "") -> Step:
    return Step(text, tuple((name, json.dumps(arguments)) for name, arguments in each))


def fail(status: int, error: str = "it is scripted so", **headers: str) -> Step:
    return Step(status=status, headers={name.replace("_", "-"): value for name, value in headers.items()}, error=error)


@dataclass(frozen=True)
class Asked:
    path: str
    headers: dict[str, str]
    body: Body

    @property
    def texts(self) -> list[str]:
        """Of all messages in order, with their roles."""
        return [f"{message['role']}: {_text(message)}" for message in self.body["messages"]]

    @property
    def tools(self) -> list[str]:
        return [each["function"]["name"] if "function" in each else each["name"] for each in self.body.get("tools", ())]

    @property
    def system(self) -> str:
        if "system" in self.body:
            return "".join(part["text"] for part in self.body["system"])
        return str(self.body["messages"][0]["content"])


def _text(message: Body) -> str:
    content = message.get("content")
    parts = content if isinstance(content, list) else [{"text": content}]
    said = [str(part.get("text") or part.get("content") or "") for part in parts]
    named = [each["function"]["name"] for each in message.get("tool_calls", ())]
    named += [part["name"] for part in parts if part.get("type") == "tool_use"]
    return "\n".join([*said, *(f"[{name}]" for name in named)])


class Model(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[Asked] = []
        self._steps: list[Step] = []
        self._lock = threading.Lock()
        self.ended = threading.Event()  # releases what is held

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def environment(self, interface: str) -> dict[str, str]:
        """What leads the assistant here."""
        if interface == "chat":
            return {"OPENAI_BASE_URL": f"{self.url}/v1", "OPENAI_API_KEY": "sk-test-0123456789", "OPENAI_MODEL": "scripted"}
        return {"ANTHROPIC_BASE_URL": self.url, "ANTHROPIC_API_KEY": "sk-ant-0123456789", "ANTHROPIC_MODEL": "scripted"}

    def then(self, *steps: Step) -> None:
        with self._lock:
            self._steps += steps

    def step(self, asked: Asked) -> Step:
        with self._lock:
            self.asked.append(asked)
            if self._steps:
                return self._steps.pop(0)
        return say(f"you said: {_text(asked.body['messages'][-1])}")

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that leaves in the middle is what some tests want."""


@contextlib.contextmanager
def running(tls: ssl.SSLContext | None = None) -> Iterator[Model]:
    model = Model()
    if tls is not None:
        model.socket = tls.wrap_socket(model.socket, server_side=True)
    thread = threading.Thread(target=model.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield model
    finally:
        model.ended.set()
        model.shutdown()
        model.server_close()
        thread.join()


def _pieces(text: str, size: int) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)]


def chat_events(step: Step) -> list[Body | str]:
    deltas: list[Body] = [{"role": "assistant", "content": ""}]
    deltas += [{"reasoning_content": piece} for piece in _pieces(step.thought, 4)]
    deltas += [{"content": piece} for piece in _pieces(step.text, 3)]
    for index, (name, _) in enumerate(step.calls):
        function = {"name": name, "arguments": ""}
        deltas.append({"tool_calls": [{"index": index, "id": f"call_{index}", "type": "function", "function": function}]})
    longest = max((len(arguments) for _, arguments in step.calls), default=0)
    for at in range(0, longest, 5):  # the arguments of several calls come mixed
        parts = [(index, arguments[at : at + 5]) for index, (_, arguments) in enumerate(step.calls)]
        deltas += [{"tool_calls": [{"index": index, "function": {"arguments": part}}]} for index, part in parts if part]
    head = {"id": "chat-1", "object": "chat.completion.chunk", "created": 0, "model": "scripted"}
    events: list[Body | str] = [{**head, "choices": [{"index": 0, "delta": each, "finish_reason": None}]} for each in deltas]
    finish = step.stop or ("tool_calls" if step.calls else "stop")
    events.append({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    details = {"prompt_tokens_details": {"cached_tokens": CACHED}}
    events.append({**head, "choices": [], "usage": {"prompt_tokens": step.used, "completion_tokens": OUTPUT, **details}})
    return [*events, "[DONE]"]


def message_events(step: Step) -> list[Body | str]:
    usage = {"input_tokens": step.used - CACHED, "cache_read_input_tokens": CACHED, "output_tokens": 1}
    head = {"id": "msg-1", "type": "message", "role": "assistant", "model": "scripted", "content": [], "stop_reason": None}
    events: list[Body | str] = [{"type": "message_start", "message": {**head, "stop_sequence": None, "usage": usage}}]
    events.append({"type": "ping"})
    blocks: list[tuple[Body, list[Body]]] = []
    if step.thought:
        thoughts: list[Body] = [{"type": "thinking_delta", "thinking": piece} for piece in _pieces(step.thought, 4)]
        blocks.append(({"type": "thinking", "thinking": ""}, thoughts))
    if step.text:
        blocks.append(({"type": "text", "text": ""}, [{"type": "text_delta", "text": piece} for piece in _pieces(step.text, 3)]))
    for index, (name, arguments) in enumerate(step.calls):
        parts: list[Body] = [{"type": "input_json_delta", "partial_json": piece} for piece in ["", *_pieces(arguments, 5)]]
        blocks.append(({"type": "tool_use", "id": f"toolu_{index}", "name": name, "input": {}}, parts))
    for index, (block, deltas) in enumerate(blocks):
        events.append({"type": "content_block_start", "index": index, "content_block": block})
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": index})
    names = {"length": "max_tokens", "content_filter": "refusal"}
    stop = names.get(step.stop, step.stop) or ("tool_use" if step.calls else "end_turn")
    events.append(
        {"type": "message_delta", "delta": {"stop_reason": stop, "stop_sequence": None}, "usage": {"output_tokens": OUTPUT}}
    )
    return [*events, {"type": "message_stop"}]


def encoded(events: list[Body | str]) -> list[bytes]:
    def one(event: Body | str) -> str:
        if isinstance(event, str):
            return f"data: {event}\n\n"
        name = f"event: {event['type']}\n" if "type" in event else ""
        return f"{name}data: {json.dumps(event, ensure_ascii=False)}\n\n"

    return [one(event).encode() for event in events]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Model

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        asked = Asked(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
        if self.path not in ("/v1/chat/completions", "/v1/messages"):
            self._whole(404, {"error": {"message": f"no such path: {self.path}"}}, {})
            return
        step = self.server.step(asked)
        if step.broken == "closed":
            self._reset()
        elif step.status != 200:
            self._whole(step.status, {"error": {"message": step.error}}, step.headers)
        elif step.broken == "other":
            self._whole(200, {"hello": "I am a page"}, {})
        else:
            self._stream(step, encoded(chat_events(step) if self.path.endswith("completions") else message_events(step)))

    def _stream(self, step: Step, events: list[bytes]) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream; charset=utf-8")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        if step.broken:
            events = events[: len(events) // 2]
        if step.broken == "garbage":
            events.append(b"data: {not json\n\n")
        if step.hold is not None:
            first = next(at for at, event in enumerate(events) if b"text_delta" in event or (at and b'"content"' in event)) + 1
            self._send(b"".join(events[:first]))
            while not (step.hold.wait(0.02) or self.server.ended.is_set()):
                if self._left():
                    return
            events = events[first:]
        data = b"".join(events)
        for at in range(0, len(data), 97):
            self._send(data[at : at + 97])
        if step.broken == "cut":
            self._reset()
            return
        self._send(b"")

    def _left(self) -> bool:
        """Whether the client has closed the connection."""
        self.connection.settimeout(0.001)
        try:
            return self.connection.recv(1, socket.MSG_PEEK) == b""
        except (TimeoutError, ssl.SSLError):
            return False
        except OSError:
            return True
        finally:
            self.connection.settimeout(PATIENCE)

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.close()

    def _send(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def _whole(self, status: int, body: Body, headers: dict[str, str]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {**headers, "content-type": "application/json", "content-length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing on stderr."""
