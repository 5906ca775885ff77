"""An agent that sends exactly what the prompt holds: one message a line, as JSON; then it says all answers it got, as JSON.

`params.sessionId` is filled in where it is missing. A line that begins with `!` is sent as it stands, without the `!`. The turn
ends when every request has its answer, or when it is cancelled.
"""

from __future__ import annotations

import json
import sys
from typing import Any

SESSION = "puppet-1"
Message = dict[str, Any]


class Puppet:
    def __init__(self) -> None:
        self.prompt: Any = None
        self.waiting: list[Any] = []
        self.answers: list[Message] = []

    def send(self, message: Message) -> None:
        self.write(json.dumps({"jsonrpc": "2.0", **message}))

    def write(self, line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    def take(self, message: Message) -> None:
        method = message.get("method")
        if method == "initialize":
            self.send({"id": message["id"], "result": {"protocolVersion": 1, "agentCapabilities": {}}})
        elif method == "session/new":
            self.send({"id": message["id"], "result": {"sessionId": SESSION}})
        elif method == "session/prompt":
            self.prompt, self.waiting, self.answers = message["id"], [], []
            self.play(message["params"]["prompt"][-1]["text"])
            self.look()
        elif method == "session/cancel":
            self.end("cancelled")
        elif method is None:
            self.answers.append({key: message.get(key) for key in ("id", "result", "error") if key in message})
            if message.get("id") in self.waiting:
                self.waiting.remove(message["id"])
            self.look()

    def play(self, text: str) -> None:
        for line in text.splitlines():
            if line.startswith("!"):
                self.write(line[1:])
                continue
            message = json.loads(line)
            if "id" in message and "method" in message:
                self.waiting.append(message["id"])
            params = message.setdefault("params", {})
            params.setdefault("sessionId", SESSION)
            self.send(message)

    def look(self) -> None:
        if self.prompt is not None and not self.waiting:
            self.end("end_turn")

    def end(self, reason: str) -> None:
        if self.prompt is None:
            return
        text = {"type": "text", "text": json.dumps(self.answers)}
        update = {"sessionUpdate": "agent_message_chunk", "content": text}
        self.send({"method": "session/update", "params": {"sessionId": SESSION, "update": update}})
        self.send({"id": self.prompt, "result": {"stopReason": reason}})
        self.prompt = None


if __name__ == "__main__":
    puppet = Puppet()
    for incoming in sys.stdin:
        puppet.take(json.loads(incoming))
