"""What moves the puppet: a conversation whose agent sends exactly what a test says, and the answers that it got."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tests.doubles import runtimes
from tests.doubles.patience import until
from tests.integration.conftest import Talk

PUPPET = (sys.executable, str(Path(__file__).with_name("puppet.py")))
FREE = {"read": {"default": "allow"}, "write": {"default": "allow"}, "exec": {"default": "ask"}}


class Strings:
    """Holds the strings of the puppet: what it sends, what it got as answers."""

    def __init__(self, talk: Talk, **binding: Any) -> None:
        self.talk = talk
        name = runtimes.put("puppet", *PUPPET, client=["fs", "terminal"])
        runtimes.bind(talk.client, talk.directory, name, **binding)
        self.conversation = talk.create(name)

    def start(self, *messages: dict[str, Any] | str) -> dict[str, Any]:
        lines = (message if isinstance(message, str) else json.dumps(message) for message in messages)
        return self.talk.start(self.conversation, "\n".join(lines))

    def answers(self, turn: dict[str, Any]) -> list[dict[str, Any]]:
        assert self.talk.ended(self.conversation, turn["id"])["state"] in ("done", "cancelled")
        found: list[dict[str, Any]] = json.loads(self.talk.answer(self.conversation, turn["id"]))
        return found

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """One request and its answer."""
        [answer] = self.answers(self.start({"id": "q", "method": method, "params": params}))
        return answer

    def allowed(self, method: str, **params: Any) -> dict[str, Any]:
        """The same, when a person says yes."""
        turn = self.start({"id": "q", "method": method, "params": params})
        self.decide(True)
        [answer] = self.answers(turn)
        return answer

    def decide(self, allow: bool) -> dict[str, Any]:
        approval = until(self.talk.approvals)[0]
        self.talk.client.request("approval/answer", {"approval": approval["id"], "allow": allow})
        return dict(approval)

    def notes(self) -> str:
        events = self.talk.show(self.conversation)["events"]
        return "\n".join(str(event["body"].get("text")) for event in events if event["kind"] == "note")
