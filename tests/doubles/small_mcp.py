"""A small MCP server as a real process: `python small_mcp.py` speaks stdio, `... http` prints its port and serves streamable HTTP.

Its tools: `say` repeats, `look` says that it only reads, `wait` answers when it is cancelled or never, `fail` fails, `env` shows its
environment, `end` ends the process. The list comes in two pages. What it was told lands in the file of SMALL_MCP_LOG.
"""

from __future__ import annotations

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Body = dict[str, Any]
SCHEMA = {"type": "object", "properties": {"text": {"type": "string"}}}
PAGES: list[list[Body]] = [
    [
        {"name": "say", "description": "Repeats.", "inputSchema": SCHEMA},
        {"name": "look", "description": "Looks.", "inputSchema": SCHEMA, "annotations": {"readOnlyHint": True}},
    ],
    [{"name": name, "description": name, "inputSchema": SCHEMA} for name in ("wait", "fail", "env", "end")],
]


def log(message: Body) -> None:
    if path := os.environ.get("SMALL_MCP_LOG"):
        with open(path, "a") as file:
            file.write(json.dumps(message) + "\n")


def answer(message: Body) -> Body | None:
    """What is sent back for a message; None for nothing."""
    log(message)
    method, params = message.get("method"), message.get("params") or {}
    if "id" not in message:
        return None
    result: Body = {}
    if method == "initialize":
        result = {
            "protocolVersion": params["protocolVersion"],
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "small", "version": "1"},
        }
    elif method == "tools/list":
        result = {"tools": PAGES[1]} if params.get("cursor") else {"tools": PAGES[0], "nextCursor": "more"}
    elif method == "tools/call":
        if params["name"] == "wait":
            return None
        if params["name"] == "end":
            sys.stderr.write("it was told to end\n")
            sys.stderr.flush()
            os._exit(3)
        text = (
            json.dumps(dict(os.environ))
            if params["name"] == "env"
            else f"{params['name']}: {params['arguments'].get('text', '')}"
        )
        result = {"content": [{"type": "text", "text": text}], "isError": params["name"] == "fail"}
    else:
        return {"jsonrpc": "2.0", "id": message["id"], "error": {"code": -32601, "message": f"no method {method}"}}
    return {"jsonrpc": "2.0", "id": message["id"], "result": result}


def stdio() -> None:
    print("a line that is no message", flush=True)
    print(json.dumps({"jsonrpc": "2.0", "id": "s1", "method": "ping"}), flush=True)
    for line in sys.stdin:
        if (reply := answer(json.loads(line))) is not None:
            print(json.dumps(reply), flush=True)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        message = json.loads(self.rfile.read(int(self.headers["content-length"])))
        log({"headers": {name.lower(): value for name, value in self.headers.items()}})
        if message.get("method") != "initialize" and self.headers.get("mcp-session-id") != "session-1":
            self._send(400, b"", "text/plain")
            return
        reply = answer(message)
        if reply is None and "id" in message:  # `wait`
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.end_headers()
            self.wfile.write(b": waiting\n\n")
            self.wfile.flush()
            self.rfile.read(1)
        elif reply is None:
            self._send(202, b"", "text/plain")
        elif message.get("method") == "tools/call":  # a stream, with something else before the answer
            notice = {"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "x"}}
            data = "".join(f"event: message\ndata: {json.dumps(each)}\n\n" for each in (notice, reply))
            self._send(200, data.encode(), "text/event-stream")
        else:
            self._send(200, json.dumps(reply).encode(), "application/json")

    def do_DELETE(self) -> None:
        log({"deleted": self.headers.get("mcp-session-id")})
        self._send(200, b"", "text/plain")

    def _send(self, status: int, data: bytes, kind: str) -> None:
        self.send_response(status)
        for name, value in (("content-type", kind), ("content-length", str(len(data))), ("mcp-session-id", "session-1")):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing on stderr."""


def main() -> None:
    if sys.argv[1:] == ["http"]:
        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        print(server.server_address[1], flush=True)
        server.serve_forever()
    stdio()


if __name__ == "__main__":
    main()
