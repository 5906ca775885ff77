"""A real daemon for the tests of this directory: started on demand, in the test's own home, ended by the isolation check."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from opagent.client import Client
from opagent.process import tree
from tests.doubles.patience import PATIENCE, until

FINAL = ("done", "failed", "interrupted", "cancelled")


class Talk:
    """A directory, a client and what a test does with them."""

    def __init__(self, client: Client, directory: Path) -> None:
        self.client, self.directory = client, directory

    def create(self, agent: str = "echo", title: str = "") -> dict[str, Any]:
        params = {"path": str(self.directory), "agent": agent, "title": title, "environment": dict(os.environ)}
        return self.client.request("conversation/create", params)

    def start(self, conversation: Mapping[str, Any], text: str, request: str | None = None) -> dict[str, Any]:
        params = {"conversation": conversation["id"], "text": text, **({"request": request} if request else {})}
        return self.client.request("turn/start", params)["turn"]

    def stop_daemon(self) -> None:
        """It has ended when this returns; the next request starts another."""
        pid = self.client.request("daemon/status", {})["pid"]
        self.client.request("daemon/stop", {})
        until(lambda: tree.start_time(pid) is None)

    def show(self, conversation: Mapping[str, Any]) -> dict[str, Any]:
        return self.client.request("conversation/show", {"conversation": conversation["id"], "limit": 5000})

    def turn(self, conversation: Mapping[str, Any], ident: str) -> dict[str, Any]:
        return next(turn for turn in self.show(conversation)["turns"] if turn["id"] == ident)

    def ended(self, conversation: Mapping[str, Any], ident: str, within: float = PATIENCE) -> dict[str, Any]:
        """The turn once it is over."""
        return until(lambda: (turn := self.turn(conversation, ident))["state"] in FINAL and turn, within)

    def say(self, conversation: Mapping[str, Any], text: str, within: float = PATIENCE) -> dict[str, Any]:
        return self.ended(conversation, self.start(conversation, text)["id"], within)

    def answer(self, conversation: Mapping[str, Any], turn: str) -> str:
        events = self.show(conversation)["events"]
        return "".join(event["body"]["text"] for event in events if event["turn"] == turn and event["kind"] == "text")

    def file(self, conversation: Mapping[str, Any], holds: str, within: float = PATIENCE) -> str:
        """The Markdown file once it holds the words: it follows the log by a moment."""
        path = Path(conversation["path"])
        return until(lambda: holds in (text := path.read_text()) and text, within)

    def approvals(self) -> list[dict[str, Any]]:
        return self.client.request("approval/list", {})["approvals"]


@pytest.fixture
def talk(home: Path) -> Iterator[Talk]:
    directory = home / "notes"
    directory.mkdir()
    with Client("test") as client:
        yield Talk(client, directory)
