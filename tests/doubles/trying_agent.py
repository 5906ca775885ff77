"""An agent that tries to read and write the paths of its prompt, a JSON list of [what, path]; it says what it could do, as JSON."""

from __future__ import annotations

import json
import sys
from typing import Any


def tried(what: str, path: str) -> bool:
    try:
        with open(path, "r" if what == "read" else "a") as file:
            return bool(file.read(1)) if what == "read" else bool(file.write("x"))
    except OSError:
        return False


def say(**more: Any) -> None:
    print(json.dumps({"jsonrpc": "2.0", **more}), flush=True)


for line in sys.stdin:
    message = json.loads(line)
    method, ident = message.get("method"), message.get("id")
    if method == "initialize":
        say(id=ident, result={"protocolVersion": 1, "agentCapabilities": {}})
    elif method == "session/new":
        say(id=ident, result={"sessionId": "s"})
    elif method == "session/prompt":
        asked = json.loads(message["params"]["prompt"][-1]["text"])
        text = {"type": "text", "text": json.dumps([tried(*each) for each in asked])}
        say(
            method="session/update",
            params={"sessionId": "s", "update": {"sessionUpdate": "agent_message_chunk", "content": text}},
        )
        say(id=ident, result={"stopReason": "end_turn"})
