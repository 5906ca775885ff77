"""What `explain` says of a rule is what the kernel does: an agent tries, in its sandbox, and is stopped where the word is `os`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.doubles import runtimes
from tests.integration.conftest import Talk

TRIES = Path(__file__).resolve().parents[1] / "doubles" / "trying_agent.py"
CAN = {
    "read": {"deny": ["secrets/", "**/*.key", "one.txt"]},
    "write": {"allow": ["docs/"], "ask": ["docs/asked.md"], "default": "deny"},
}


class Place:
    def __init__(self, talk: Talk) -> None:
        self.talk = talk
        for name in ("secrets/a.txt", "x.key", "one.txt", "docs/a.md", "docs/asked.md", "other.md"):
            path = talk.directory / name
            path.parent.mkdir(exist_ok=True)
            path.write_text("content")
        runtimes.bind(talk.client, talk.directory, runtimes.put("tries", sys.executable, str(TRIES)), can=CAN)
        self.conversation = talk.create("")

    def tried(self, *asked: tuple[str, str]) -> list[bool]:
        """What the agent could do."""
        tries = [[what, str(self.talk.directory / name)] for what, name in asked]
        turn = self.talk.say(self.conversation, json.dumps(tries))
        assert turn["state"] == "done", turn
        found: list[bool] = json.loads(self.talk.answer(self.conversation, turn["id"]))
        return found

    def word(self, kind: str, request: str) -> dict[str, Any]:
        asked = {"path": str(self.talk.directory), "kind": kind, "request": request, "environment": dict(os.environ)}
        return self.talk.client.request("binding/decide", asked)


@pytest.fixture
def place(talk: Talk) -> Place:
    found = Place(talk)
    level = talk.client.request("binding/explain", {"path": str(talk.directory), "environment": dict(os.environ)})["sandbox"][
        "level"
    ]
    if level != "strict":
        pytest.skip(f"this machine has no sandbox of level strict: {level}")
    return found


def test_what_is_denied_by_the_kernel_cannot_be_done(place: Place) -> None:
    refused = [
        ("read", "secrets/a.txt"),
        ("read", "one.txt"),
        ("write", "other.md"),
        ("write", "new.md"),
        ("write", "docs/asked.md"),
    ]
    for kind, name in refused:
        said = place.word(kind, name)
        assert (said["effect"], said["enforcement"]) == ("deny", "os"), said
    assert place.word("write", "docs/asked.md")["by_rule"] == "ask"
    assert place.tried(*refused) == [False] * len(refused)
    allowed = [("read", "other.md"), ("write", "docs/a.md"), ("write", "docs/new.md")]
    assert [place.word(*each)["effect"] for each in allowed] == ["allow"] * 3
    assert place.tried(*allowed) == [True] * 3


def test_a_glob_is_not_promised_for_names_that_come_later(place: Place) -> None:
    said = place.word("read", "x.key")
    assert said["enforcement"] == "advisory" and "when the agent starts" in said["reason"]
    assert place.tried(("read", "x.key")) == [False]
    (place.talk.directory / "later.key").write_text("content")
    assert place.tried(("read", "later.key")) == [True], "so it must not be called `os`"


def test_what_lies_outside_is_not_there(place: Place, home: Path) -> None:
    outside = home / "outside.txt"
    outside.write_text("content")
    said = place.word("read", str(outside))
    assert (said["effect"], said["enforcement"]) == ("deny", "os")
    assert place.tried(("read", "../outside.txt"), ("write", "../outside.txt")) == [False, False]
