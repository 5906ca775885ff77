"""An agent that uses the MCP servers it is given: the prompt is JSON, a list of steps; it says what came of each, as JSON.

A step is {"server", "method", "params"} for a request, {"server", "raw"} for a line as it stands, {"server", "end": true} to end a
connection, {"servers": true} for what it was given, {"until": path} to wait for a file. "together": true does not wait for the answer before the next step.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import Any

Message = dict[str, Any]
BEGIN = {
    "protocolVersion": "2025-11-25",
    "capabilities": {"sampling": {}, "elicitation": {}},
    "clientInfo": {"name": "double", "version": "1"},
}


class Connection:
    def __init__(self, entry: Message) -> None:
        env = {**os.environ, **{each["name"]: each["value"] for each in entry["env"]}}
        argv = [entry["command"], *entry["args"]]
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env)
        self.number = 0
        self.notices: list[str] = []
        self.answers: dict[int, Message] = {}
        self.begun = self.wait(self.ask("initialize", BEGIN))
        self.write({"method": "notifications/initialized"})

    def write(self, message: Message) -> None:
        self.raw(json.dumps({"jsonrpc": "2.0", **message}))

    def raw(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def ask(self, method: str, params: Message) -> int:
        self.number += 1
        self.write({"id": self.number, "method": method, "params": params})
        return self.number

    def wait(self, number: int) -> Message:
        assert self.process.stdout is not None
        while number not in self.answers:
            line = self.process.stdout.readline()
            if not line:
                return {"ended": True, "notices": self.notices}
            message = json.loads(line)
            if "method" in message:
                self.notices.append(message["method"])
            else:
                self.answers[message["id"]] = {key: message[key] for key in ("result", "error") if key in message}
        return self.answers.pop(number)

    def end(self) -> Message:
        self.process.communicate()
        return {"ended": True, "notices": self.notices}


class Agent:
    def __init__(self) -> None:
        self.entries: dict[str, Message] = {}
        self.connections: dict[str, Connection] = {}

    def connection(self, name: str) -> Connection:
        if name not in self.connections:
            self.connections[name] = Connection(self.entries[name])
        return self.connections[name]

    def play(self, steps: list[Message]) -> list[Message]:
        found: list[Message] = []
        later: list[tuple[int, Connection, int]] = []
        for step in steps:
            if step.get("servers"):
                found.append({"servers": sorted(self.entries)})
                continue
            if "until" in step:
                while not os.path.exists(step["until"]):
                    time.sleep(0.02)
                found.append({})
                continue
            connection = self.connection(step["server"])
            if step.get("end"):
                found.append(self.connections.pop(step["server"]).end())
            elif step.get("notices"):
                found.append({"notices": connection.notices})
            elif "raw" in step:
                connection.raw(step["raw"])
                found.append({})
            else:
                number = connection.ask(step["method"], step.get("params", {}))
                if step.get("together"):
                    later.append((len(found), connection, number))
                    found.append({})
                else:
                    found.append(connection.wait(number))
        for place, connection, number in later:
            found[place] = connection.wait(number)
        return found


def say(**more: Any) -> None:
    print(json.dumps({"jsonrpc": "2.0", **more}), flush=True)


def main() -> None:
    agent = Agent()
    for line in sys.stdin:
        message = json.loads(line)
        method, ident = message.get("method"), message.get("id")
        if method == "initialize":
            say(id=ident, result={"protocolVersion": 1, "agentCapabilities": {}})
        elif method == "session/new":
            agent.entries = {each["name"]: each for each in message["params"]["mcpServers"]}
            say(id=ident, result={"sessionId": "s"})
        elif method == "session/prompt":
            text = {"type": "text", "text": json.dumps(agent.play(json.loads(message["params"]["prompt"][-1]["text"])))}
            update = {"sessionUpdate": "agent_message_chunk", "content": text}
            say(method="session/update", params={"sessionId": "s", "update": update})
            say(id=ident, result={"stopReason": "end_turn"})


if __name__ == "__main__":
    main()
