"""The MCP servers of a binding: a real daemon, an agent that uses what it is given, servers in boxes of their own, good and bad."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.doubles import runtimes
from tests.doubles.patience import until
from tests.integration.conftest import Talk

DOUBLES = Path(__file__).parents[1] / "doubles"
SERVER = [sys.executable, "-I", "-S", str(DOUBLES / "mcp_server.py")]


class Tooled:
    """A directory whose agent has the server `box`."""

    def __init__(self, talk: Talk, can: dict[str, Any] | None = None, **more: Any) -> None:
        self.talk, self.folder = talk, talk.directory
        runtimes.put("user", sys.executable, "-I", "-S", str(DOUBLES / "mcp_agent.py"))
        self.has(("echo", ""), ("fail", ""))
        tools = {"box": {"command": SERVER, **more}}
        runtimes.bind(talk.client, talk.directory, "user", tools=tools, can={"mcp": {"allow": ["box/*"]}, **(can or {})})
        self.conversation = talk.create("user")

    def has(self, *tools: tuple[str, str]) -> None:
        (self.folder / "tools.json").write_text(json.dumps(tools))

    def start(self, *steps: dict[str, Any]) -> str:
        return str(self.talk.start(self.conversation, json.dumps(steps))["id"])

    def answers(self, turn: str) -> list[dict[str, Any]]:
        ended = self.talk.ended(self.conversation, turn)
        assert ended["state"] == "done", ended
        found: list[dict[str, Any]] = json.loads(self.talk.answer(self.conversation, turn))
        return found

    def do(self, *steps: dict[str, Any]) -> list[dict[str, Any]]:
        return self.answers(self.start(*steps))

    def notes(self) -> list[str]:
        return [event["body"]["text"] for event in self.talk.show(self.conversation)["events"] if event["kind"] == "note"]


def call(name: str, server: str = "box", **arguments: Any) -> dict[str, Any]:
    return {"server": server, "method": "tools/call", "params": {"name": name, "arguments": arguments}}


LIST = {"server": "box", "method": "tools/list"}


def words(answer: dict[str, Any]) -> str:
    return str(answer["result"]["content"][0]["text"])


def names(answer: dict[str, Any]) -> list[str]:
    return [each["name"] for each in answer["result"]["tools"]]


def test_an_agent_uses_a_server_of_its_binding(talk: Talk) -> None:
    tooled = Tooled(talk)
    listed, said, failed, unknown = tooled.do(LIST, call("echo", a=1), call("fail"), call("other"))
    assert names(listed) == ["echo", "fail"]
    assert json.loads(words(said)) == {"called": "echo", "a": 1}
    assert failed["result"]["isError"]
    assert unknown["error"]["code"] == -32602
