"""An agent that says `N RATE SIZE`: N chunks of SIZE bytes, RATE a second, each with the moment it was sent (monotonic)."""

from __future__ import annotations

import json
import os
import sys
import time


def send(message: object) -> None:
    os.write(1, json.dumps(message).encode() + b"\n")


def play(session: str, count: int, rate: float, size: int) -> None:
    """A late chunk is followed by the next ones without a pause, so that the rate holds."""
    padding = "x" * max(0, size - 20)
    began = time.monotonic()
    for number in range(count):
        pause = began + number / rate - time.monotonic()
        if pause > 0:
            time.sleep(pause)
        content = {"type": "text", "text": f"@{time.monotonic():.6f} {padding}\n"}
        update = {"sessionUpdate": "agent_message_chunk", "content": content}
        send({"jsonrpc": "2.0", "method": "session/update", "params": {"sessionId": session, "update": update}})


def main() -> None:
    for line in sys.stdin:
        message = json.loads(line)
        if "id" not in message:
            continue
        result: dict[str, object] = {}
        if message["method"] == "initialize":
            result = {"protocolVersion": 1, "agentCapabilities": {}}
        elif message["method"] == "session/new":
            result = {"sessionId": "paced"}
        elif message["method"] == "session/prompt":
            count, rate, size = message["params"]["prompt"][-1]["text"].split()
            play("paced", int(count), float(rate), int(size))
            result = {"stopReason": "end_turn"}
        send({"jsonrpc": "2.0", "id": message["id"], "result": result})


if __name__ == "__main__":
    main()
