"""Budgets through the real daemon: refused, stopped, asked, raised, shared; what agents report, and what is not believed."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from opagent.client import Client
from opagent.errors import Denied, OpAgentError, Usage
from tests.doubles.patience import until
from tests.integration.conftest import FINAL, Talk


def bind(talk: Talk, **budget: Any) -> None:
    """A directory whose agent may use so much; a budget needs no trust."""
    (talk.directory / ".agent.yaml").write_text(f"agent: echo\nbudget: {json.dumps(budget)}\n")


def pending(talk: Talk) -> list[dict[str, Any]]:
    return [each for each in talk.approvals() if each["process"] == "opagent"]


def answer(talk: Talk, words: str) -> dict[str, Any]:
    question = until(lambda: pending(talk))[0]
    return talk.client.request("approval/answer", {"approval": question["id"], "allow": True, "answer": words})


def shown(talk: Talk, metric: str, **params: Any) -> dict[str, Any]:
    where = params or {"path": str(talk.directory), "environment": dict(os.environ)}
    return next(each for each in talk.client.request("budget/show", where)["limits"] if each["metric"] == metric)


def notes(talk: Talk, conversation: dict[str, Any]) -> list[str]:
    return [event["body"].get("text", "") for event in talk.show(conversation)["events"] if event["kind"] == "note"]


def audited(kind: str) -> list[dict[str, Any]]:
    """The rows of a kind, as the database has them."""
    import sqlite3

    from opagent import paths

    with sqlite3.connect(f"file:{paths.database()}?mode=ro", uri=True) as connection:
        return [json.loads(row[0]) for row in connection.execute("select body from journal where kind = ? order by seq", (kind,))]


def test_the_next_turn_is_refused_and_a_person_is_asked(talk: Talk) -> None:
    bind(talk, turns=2)
    conversation = talk.create()
    assert [talk.say(conversation, text)["state"] for text in ("one", "two")] == ["done", "done"]
    third = talk.say(conversation, "three")
    assert (third["state"], third["reason"]) == ("cancelled", "budget")
    question = until(lambda: pending(talk))[0]
    text = talk.file(conversation, f"/{third['id']} cancelled")
    assert "The budget is used up in this conversation: 2 of 2 turns" in text and question["id"] in text
    row = talk.client.request("process/list", {})["processes"][0]
    assert (row["state"], row["waiting_for"]) == ("waiting", [question["id"]])
    talk.client.request("approval/answer", {"approval": question["id"], "allow": True, "answer": "raise"})
    said = lambda: [turn for turn in talk.show(conversation)["turns"] if turn["text"] == "three" and turn["id"] != third["id"]]  # noqa: E731
    assert talk.ended(conversation, until(said)[0]["id"])["state"] == "done"
    assert f"/{question['id']} answer" in talk.file(conversation, "answered**")
    assert shown(talk, "turns", conversation=conversation["id"]) == shown(talk, "turns", conversation=conversation["id"]) | {
        "used": 3, "limit": 3, "raised": 1, "left": 0, "reserved": 0, "enforcement": "proxy",
    }  # fmt: skip
    assert [row["added"] for row in audited("budget.raise")] == [1] and len(audited("budget.hit")) == 1
    assert len(audited("budget.reserve")) == len(audited("budget.spend")) == 3


def test_stop_leaves_it_and_the_same_is_not_asked_twice(talk: Talk) -> None:
    bind(talk, turns=1, per="total")
    conversation, other = talk.create(), talk.create()
    talk.say(conversation, "one")
    assert {talk.say(each, "two")["reason"] for each in (conversation, other, conversation)} == {"budget"}
    assert len(pending(talk)) == 1
    answer(talk, "stop")
    assert not pending(talk)
    assert talk.say(other, "three")["reason"] == "budget" and len(pending(talk)) == 1


def test_a_command_raises_it_and_answers_the_question(talk: Talk) -> None:
    bind(talk, turns=1, per="day")
    conversation = talk.create()
    talk.say(conversation, "one")
    talk.say(conversation, "two")
    assert pending(talk)
    where = {"path": str(talk.directory), "environment": dict(os.environ)}
    raised = talk.client.request("budget/raise", {**where, "amounts": {"turns": "2k"}})["limits"][0]
    assert (raised["limit"], raised["left"]) == (2001, 2000) and not pending(talk)
    assert talk.say(conversation, "three")["state"] == "done"
    for amounts in ({"tokens": "5"}, {"turns": "-5"}, {"turns": "1h"}, {}):
        with pytest.raises(Usage):
            talk.client.request("budget/raise", {**where, "amounts": amounts})


def test_nobody_raises_what_the_machine_sets(talk: Talk, home: Any) -> None:
    policy = home.parent / "no-policy.yaml"
    policy.write_text("budget: {turns: 1, per: day}\n")
    policy.chmod(0o644)
    conversation = talk.create()
    talk.say(conversation, "one")
    assert talk.say(conversation, "two")["reason"] == "budget"
    assert [option["id"] for option in until(lambda: pending(talk))[0]["options"]] == ["stop"]
    with pytest.raises(OpAgentError):
        answer(talk, "raise")
    with pytest.raises(Denied):
        where = {"path": str(talk.directory), "agent": "echo", "environment": dict(os.environ)}
        talk.client.request("budget/raise", {**where, "amounts": {"turns": "5"}})


def test_a_budget_that_is_changed_in_the_binding_holds_for_the_next_turn(talk: Talk) -> None:
    bind(talk, turns=1)
    conversation = talk.create()
    talk.say(conversation, "one")
    bind(talk, turns=2)
    assert talk.say(conversation, "two")["state"] == "done"
    assert talk.say(conversation, "three")["reason"] == "budget"


def test_tokens_are_counted_noticed_and_end_what_comes_after(talk: Talk) -> None:
    bind(talk, tokens="1k", per="total")
    conversation = talk.create()
    talk.say(conversation, "/spend 500")
    assert not notes(talk, conversation)
    talk.say(conversation, "/spend 350")
    assert [note for note in notes(talk, conversation) if note.startswith("85 % of the budget is used")]
    talk.file(conversation, "85 % of the budget is used in this directory: 850 of 1,000 tokens")
    talk.say(conversation, "/spend 400")
    assert talk.say(conversation, "more")["reason"] == "budget"
    line = shown(talk, "tokens")
    assert (line["used"], line["reported"], line["metered"], line["enforcement"]) == (1250, 1250, None, "advisory")
    answer(talk, "raise 2k")
    until(lambda: talk.show(conversation)["turns"][-1]["state"] == "done")
    assert shown(talk, "tokens")["limit"] == 3000


@pytest.mark.parametrize(
    ("kind", "cost"),
    [("backwards", 0.5), ("negative", 0.1), ("nan", 0.1), ("huge", 0.1), ("text", 0.1), ("currency", 0.1)],
)
def test_what_cannot_be_true_is_marked_and_what_was_reserved_counts(talk: Talk, kind: str, cost: float) -> None:
    bind(talk, cost="1 USD", tokens=1000)
    conversation = talk.create()
    assert talk.say(conversation, f"/untrue {kind}")["state"] == "done"
    assert shown(talk, "cost", conversation=conversation["id"])["used"] == cost
    if kind != "nan":  # what is no JSON is no message
        assert [note for note in notes(talk, conversation) if "cannot be true" in note]
    row = talk.client.request("usage/list", {"by": "conversation"})["usage"][0]
    assert row["cost"] == cost and row["turns"] == 1 and row["doubtful"] == (kind != "nan")
    assert row["estimated"] == 1, "of tokens, costs or both nobody said anything that can be true"


def test_a_running_turn_is_stopped_at_its_cost(talk: Talk) -> None:
    bind(talk, cost="1 USD")
    conversation = talk.create()
    turn = talk.say(conversation, "/spend 1 0.9\n/spend 1 0.9\n/wait")
    assert (turn["state"], turn["reason"]) == ("cancelled", "budget")
    assert "1.8 of 1 USD" in talk.file(conversation, f"/{turn['id']} cancelled")
    answer(talk, "double")
    again = until(lambda: (last := talk.show(conversation)["turns"][-1])["text"] == "Go on." and last)
    assert talk.ended(conversation, again["id"])["state"] == "done"
    assert shown(talk, "cost", conversation=conversation["id"])["limit"] == 2.8


def test_tool_calls_and_an_agent_that_does_not_obey(talk: Talk) -> None:
    bind(talk, tool_calls=5)
    conversation = talk.create()
    turn = talk.say(conversation, "/calls 200 0.01")
    assert turn["reason"] == "budget"
    used = shown(talk, "tool_calls", conversation=conversation["id"])
    assert 5 < used["used"] < 200 and used["enforcement"] == "acp"


def test_time_is_counted_but_not_while_a_person_is_asked(talk: Talk) -> None:
    (talk.directory / ".agent.yaml").write_text("agent: echo\nbudget: {wall: 2s}\napprovals: {on_timeout: keep}\n")
    conversation = talk.create()
    turn = talk.start(conversation, "/permission\n/wait")
    question = until(talk.approvals)[0]
    elapsed = lambda: shown(talk, "wall", conversation=conversation["id"])["running"]  # noqa: E731
    stood = elapsed()
    for _ in range(3):  # requests take time as well
        talk.client.request("daemon/doctor", {})
    assert elapsed() == stood < 2
    talk.client.request("approval/answer", {"approval": question["id"], "allow": True})
    ended = talk.ended(conversation, turn["id"])
    assert (ended["state"], ended["reason"]) == ("cancelled", "budget")
    assert shown(talk, "wall", conversation=conversation["id"])["used"] >= 2


def test_eight_conversations_with_one_turn_left(talk: Talk) -> None:
    """G2: one of them runs, the others wait for what it leaves, which is nothing; one question for all of them."""
    bind(talk, turns=3, per="day")
    first = talk.create()
    talk.say(first, "one")
    talk.say(first, "two")
    many = [talk.create() for _ in range(8)]
    turns = [talk.start(each, "/slow 3 0.05")["id"] for each in many]
    ended = [talk.ended(each, turn) for each, turn in zip(many, turns, strict=True)]
    assert sorted((turn["state"], turn["reason"]) for turn in ended) == [("cancelled", "budget")] * 7 + [("done", None)]
    assert len(pending(talk)) == 1 and shown(talk, "turns")["used"] == 3


def test_eight_conversations_with_one_token_left(talk: Talk) -> None:
    bind(talk, tokens=1000, per="day")
    first = talk.create()
    talk.say(first, "/spend 999")
    many = [talk.create() for _ in range(8)]
    turns = [talk.start(each, "/slow 3 0.05\n/spend 100")["id"] for each in many]
    ended = [talk.ended(each, turn)["state"] for each, turn in zip(many, turns, strict=True)]
    assert sorted(ended) == ["cancelled"] * 7 + ["done"] and shown(talk, "tokens")["used"] == 1099


def test_who_waits_for_what_others_have_reserved_goes_on_when_they_leave_some(talk: Talk) -> None:
    bind(talk, tokens=1000, per="day")
    first = talk.create()
    talk.say(first, "/spend 950")
    many = [talk.create() for _ in range(4)]
    turns = [talk.start(each, "/slow 2 0.05\n/spend 10")["id"] for each in many]
    assert [talk.ended(each, turn)["state"] for each, turn in zip(many, turns, strict=True)] == ["done"] * 4
    assert shown(talk, "tokens")["used"] == 990


def test_a_question_outlives_the_daemon_and_is_answered_in_the_file(talk: Talk) -> None:
    bind(talk, turns=1)
    conversation = talk.create()
    talk.say(conversation, "one")
    turn = talk.say(conversation, "two")
    question = until(lambda: pending(talk))[0]
    talk.stop_daemon()
    with Client("test") as client:
        talk.client = client
        assert [each["id"] for each in pending(talk)] == [question["id"]]
        answer(talk, "double")
        again = until(lambda: (last := talk.show(conversation)["turns"][-1])["id"] != turn["id"] and last)
        assert talk.ended(conversation, again["id"])["state"] == "done"
        text = talk.file(conversation, f"/{again['id']} done")
        assert f"/{question['id']} answer" in text and text.count(question["id"]) >= 2


def test_a_budget_of_one_turn_goes_on_in_another(talk: Talk) -> None:
    bind(talk, tool_calls=3, per="turn")
    conversation = talk.create()
    assert talk.say(conversation, "/calls 3")["state"] == "done"
    turn = talk.say(conversation, "/calls 99 0.01")
    assert turn["reason"] == "budget" and "in this turn" in talk.file(conversation, f"/{turn['id']} cancelled")
    answer(talk, "continue")
    again = until(lambda: (last := talk.show(conversation)["turns"][-1])["text"] == "Go on." and last)
    assert talk.ended(conversation, again["id"])["state"] == "done"


# ---- loops ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("same", "5 times the same call"), ("times", "5 times the same call"), ("pingpong", "the same 2 calls 3 times"),
        ("error", "5 times the same error"), ("idle", "30 calls without a changed file"),
    ],
)  # fmt: skip
def test_a_loop_is_stopped_and_asked_about(talk: Talk, kind: str, why: str) -> None:
    conversation = talk.create()
    turn = talk.say(conversation, f"/loop {kind}")
    assert (turn["state"], turn["reason"]) == ("cancelled", "loop")
    question = until(lambda: pending(talk))[0]
    assert why in question["subject"] and why in talk.file(conversation, f"/{turn['id']} cancelled")
    assert kind == "error" or [note for note in notes(talk, conversation) if note.startswith("this looks like a loop")]
    answer(talk, "look into the other directory")
    again = until(lambda: (last := talk.show(conversation)["turns"][-1])["id"] != turn["id"] and last)
    assert again["text"] == "look into the other directory" and talk.ended(conversation, again["id"])["state"] == "done"


def test_two_hundred_edits_are_no_loop(talk: Talk) -> None:
    conversation = talk.create()
    turn = talk.say(conversation, "/loop edits 200")
    assert turn["state"] == "done" and not pending(talk) and not notes(talk, conversation)


def test_whoever_goes_on_by_hand_has_answered(talk: Talk) -> None:
    conversation = talk.create()
    talk.say(conversation, "/loop same")
    assert until(lambda: pending(talk))
    assert talk.say(conversation, "another way")["state"] == "done"
    assert not pending(talk)
    assert [turn["state"] in FINAL for turn in talk.show(conversation)["turns"]] == [True, True]
