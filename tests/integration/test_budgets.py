"""Budgets through the real daemon: refused, stopped, asked, raised, shared, counted after a kill."""

from __future__ import annotations

import json
from typing import Any

from tests.doubles.patience import until
from tests.integration.conftest import Talk


def bind(talk: Talk, **budget: Any) -> None:
    """A directory whose agent may use so much; a budget needs no trust."""
    (talk.directory / ".agent.yaml").write_text(f"agent: echo\nbudget: {json.dumps(budget)}\n")


def pending(talk: Talk) -> list[dict[str, Any]]:
    return [each for each in talk.approvals() if each["process"] == "opagent"]


def test_a_budget_of_turns_refuses_the_next_one_and_asks(talk: Talk) -> None:
    bind(talk, turns=2)
    conversation = talk.create()
    assert [talk.say(conversation, text)["state"] for text in ("one", "two")] == ["done", "done"]
    third = talk.say(conversation, "three")
    assert (third["state"], third["reason"]) == ("cancelled", "budget")
    question = until(lambda: pending(talk))[0]
    text = talk.file(conversation, f"/{third['id']} cancelled")
    assert "The budget is used up in this conversation: 2 of 2 turns" in text and question["id"] in text
    talk.client.request("approval/answer", {"approval": question["id"], "allow": True, "answer": "raise"})
    again = until(
        lambda: [turn for turn in talk.show(conversation)["turns"] if turn["text"] == "three" and turn["id"] != third["id"]]
    )
    assert talk.ended(conversation, again[0]["id"])["state"] == "done"
    assert "answered" in talk.file(conversation, f"/{again[0]['id']} done")
