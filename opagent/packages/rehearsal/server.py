"""The scripted model as an HTTP server on loopback, and an MCP server beside it; keeps a journal of what it was asked.

Each request is a line of JSON in the journal: what kind it was, every word it carried, how many tools were offered.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opagent.packages.rehearsal import dialects, marks
from opagent.packages.rehearsal.script import SLOW, decide

_PACE = 0.05  # seconds between two words of a slow answer


class Model(ThreadingHTTPServer):
    """Serves on 127.0.0.1 until the process ends."""

    daemon_threads = True

    def __init__(self, port: int, journal: str) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self._journal, self._lock = journal, threading.Lock()

    def handle_error(self, request: object, client_address: object) -> None:
        """An agent that breaks a connection off is no news: stderr is the agent's."""

    def note(self, **entry: Any) -> None:
        with self._lock, open(self._journal, "a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def begin(self) -> None:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.5}, daemon=True).start()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Model

    def do_GET(self) -> None:
        if self.path.startswith("/mcp"):
            self._answer({}, 405)
            return
        models = [{"id": dialects.MODEL, "object": "model", "type": "model", "name": f"models/{dialects.MODEL}"}]
        self._answer({"object": "list", "data": models, "models": models, "has_more": False})

    def do_HEAD(self) -> None:
        self._answer({})

    def do_POST(self) -> None:
        body = json.loads(self._read() or b"{}")
        path = self.path.partition("?")[0]
        if path == "/mcp":
            self._tool(body)
        elif path.endswith(("/count_tokens", ":countTokens")):
            self._answer({"input_tokens": 1, "totalTokens": 1})
        elif (dialect := dialects.of(path)) is not None:
            self._model(dialect, body, bool(body.get("stream")) or ":stream" in path)
        else:
            self.server.note(kind="unknown", path=path)
            self._answer({"error": {"message": f"no such path: {path}"}}, 404)

    def _read(self) -> bytes:
        if self.headers.get("transfer-encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("content-length", 0)))
        data = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return data

    def _tool(self, body: dict[str, Any]) -> None:
        said = marks.answer(body)
        self.server.note(kind="mcp", how="http", method=body.get("method"))
        if said is None:
            self._answer({}, 202)
        else:
            self._answer(said)

    def _model(self, dialect: dialects.Dialect, body: dict[str, Any], stream: bool) -> None:
        try:
            asked = dialect.read(body)
        except (KeyError, TypeError, AttributeError) as error:
            self.server.note(kind="unknown", path=self.path, why=repr(error))
            self._answer({"error": {"message": f"not understood: {error!r}"}}, 400)
            return
        reply = decide(asked)
        words = "\n".join(said.text for said in asked.messages)
        names = [tool.name for tool in asked.tools]
        self.server.note(kind="model", tools=names, words=words, slow=reply.slow, called=reply.tool.name if reply.tool else "")
        if not stream:
            time.sleep(SLOW * _PACE if reply.slow else 0)
            self._answer(dialect.whole(reply, asked.cost))
            return
        pieces = [] if reply.tool else [f"{word} " for word in (["slow"] * SLOW if reply.slow else reply.text.split(" "))]
        self._stream(dialect.events(reply, asked.cost, pieces), _PACE if reply.slow else 0.0)

    def _stream(self, events: Iterator[dialects.Event], pace: float) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        self.close_connection = True
        try:
            for name, data in events:
                head = f"event: {name}\n" if name else ""
                self.wfile.write(f"{head}data: {json.dumps(data)}\n\n".encode())
                self.wfile.flush()
                time.sleep(pace)
            if self.path.partition("?")[0].endswith("/chat/completions"):
                self.wfile.write(b"data: [DONE]\n\n")
        except OSError:  # the agent no longer wants it
            self.server.note(kind="dropped")

    def _answer(self, body: dict[str, Any], status: int = 200) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        try:
            if self.command != "HEAD":
                self.wfile.write(data)
        except OSError:
            return

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing on stderr: that is the agent's."""
