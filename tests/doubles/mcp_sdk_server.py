"""A server made with the official Python SDK, as its authors do it; run with that SDK installed. `http PORT_FILE`: streamable HTTP."""

from __future__ import annotations

import os
import socket
import sys

from mcp.server import MCPServer

server = MCPServer("sums", instructions="Say please.")


@server.tool()
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@server.tool()
async def fail(words: str) -> str:
    """Fail with these words."""
    raise ValueError(words)


@server.tool()
def variable(name: str) -> str:
    """A variable of the server's environment."""
    return os.environ.get(name, "none")


@server.resource("notes://{name}")
def note(name: str) -> str:
    """A note."""
    return f"the note {name}"


@server.prompt()
def greet(name: str) -> str:
    """Greet somebody."""
    return f"Greet {name}."


def http(port_file: str, json_answers: bool) -> None:
    import uvicorn
    from starlette.requests import Request
    from starlette.types import ASGIApp, Receive, Scope, Send

    class Guarded:
        """Whoever comes needs the key."""

        def __init__(self, app: ASGIApp) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            want = os.environ.get("SUMS_KEY", "")
            if scope["type"] == "http" and Request(scope).headers.get("authorization") != f"Bearer {want}":
                await send({"type": "http.response.start", "status": 401, "headers": []})
                await send({"type": "http.response.body", "body": b"no key"})
                return
            await self.app(scope, receive, send)

    listener = socket.create_server(("127.0.0.1", 0))
    with open(port_file + ".new", "w") as file:
        file.write(str(listener.getsockname()[1]))
    os.rename(port_file + ".new", port_file)
    app = Guarded(server.streamable_http_app(json_response=json_answers))
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])


if __name__ == "__main__":
    if sys.argv[1:2] == ["http"]:
        http(sys.argv[2], "json" in sys.argv)
    else:
        server.run("stdio")
