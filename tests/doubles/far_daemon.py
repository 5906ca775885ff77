"""A daemon of another machine that wishes us ill: it answers what a test tells it to, and keeps every line that it hears.

It listens in the process of the test; the fake daemon here (`fake_daemon.py`) says that the link to it stands.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from opagent import control

CONVERSATION = {
    "id": "k7q2-m4x8p3", "workspace": "/srv/docs", "path": "/srv/docs/conversations/a.md", "agent": "echo", "title": "",
    "created": "2026-11-20T09:00:00.000Z", "state": "open", "turns": 0, "updated": "2026-11-20T09:00:00.000Z", "exists": True,
}  # fmt: skip
JOINED = {"workspace": {"workspace": "/srv/docs", "notices": []}, "conversation": CONVERSATION, "after": 0}
STARTED = {"turn": {"id": "a0001"}, "place": 0}
Message = dict[str, Any]
Answer = Callable[[Message], Message | None]  # params -> result; None: it never comes


def event(number: int, kind: str, body: Any, **other: Any) -> Message:
    params = {
        "conversation": CONVERSATION["id"],
        "seq": number,
        "journal": number,
        "turn": "a0001",
        "kind": kind,
        "at": "now",
        "body": body,
    }
    return {"jsonrpc": "2.0", "method": "event", "params": params | other}


DONE = event(99, "turn_state", {"state": "done"})


class Far:
    """`answers`: by method, in the place of an empty result. `after`: messages, or raw bytes, that follow the answer to a method."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.heard: list[Message] = []
        self.answers: dict[str, Answer] = {"workspace/join": lambda params: JOINED | STARTED}
        self.after: dict[str, list[Message | bytes]] = {}
        self.greeting: Message = control.Greeting("0", (control.OLDEST, control.NEWEST), "far", 1, "b").as_json()

    def refuses(self, method: str, error: Any) -> None:
        self.answers[method] = lambda params: {"!error": error}

    @property
    def wire(self) -> str:
        """Everything that it was told."""
        return "\n".join(json.dumps(message) for message in self.heard)

    def serve(self, stream: socket.socket) -> None:
        with stream, contextlib.suppress(OSError, ValueError):
            send(stream, self.greeting)
            for line in stream.makefile("rb"):
                message = json.loads(line)
                self.heard.append(message)
                method, params = message["method"], message["params"]
                if method == "hello":
                    result: Message | None = {"protocol": params["protocol"], "daemon": 1, "boot": "b", "host": "far"}
                else:
                    result = self.answers.get(method, lambda params: {})(params)
                if result is not None:
                    said = {"error": result["!error"]} if "!error" in result else {"result": result}
                    send(stream, {"jsonrpc": "2.0", "id": message["id"], **said})
                for more in self.after.get(method, ()):
                    send(stream, more)


def send(stream: socket.socket, message: Message | bytes) -> None:
    stream.sendall(message if isinstance(message, bytes) else json.dumps(message).encode() + b"\n")


@contextlib.contextmanager
def far(path: Path) -> Iterator[Far]:
    found = Far(path)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        os.chmod(path, 0o600)
        listening.listen(16)
        listening.settimeout(0.05)
        over = threading.Event()

        def accept() -> None:
            while not over.is_set():
                with contextlib.suppress(TimeoutError):
                    stream, _ = listening.accept()
                    stream.setblocking(True)
                    threading.Thread(target=found.serve, args=(stream,), daemon=True).start()

        taking = threading.Thread(target=accept)
        taking.start()
        try:
            yield found
        finally:
            over.set()
            taking.join()
