"""Which ticks are answers: all of the conditions and exactly one box that allows, else nothing is allowed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opagent.daemon.filerights import Rights, Writer
from opagent.daemon.ticked import Answer, Facts, decide
from opagent.document.approval import Does, shown
from opagent.document.ticks import Tick, untick
from opagent.model import Approval, ApprovalId, ApprovalState, ConversationId, ProcessId, TurnId
from tests.doubles.texts import TAG, reply

BODY: dict[str, Any] = {
    "id": "p9d4m",
    "kind": "execute",
    "agent": "writer",
    "subject": "make",
    "offers": ["once", "conversation", "deny"],
}
OPTIONS = [{"id": "r", "name": "Red", "kind": "answer"}, {"id": "b", "name": "Blue", "kind": "answer"}]
QUESTION = {
    "id": "p9d4m",
    "agent": "writer",
    "kind": "question",
    "subject": "Which?",
    "offers": ["answer", "decline"],
    "options": OPTIONS,
}
APPROVAL = Approval(
    ApprovalId("p9d4m"), ConversationId("k7q2-m4x8p3"), TurnId("a8c2d"), ProcessId("x1"), "0", "execute", "make", "d", (), "T", None
)  # fmt: skip
GOOD = Facts(APPROVAL, BODY, Rights(Writer.PERSON))


def tick(*chosen: str, words: str = "", body: dict[str, Any] = BODY, at: str = "a8c2d") -> Tick:
    return Tick("p9d4m", chosen, words, shown(body), at)


@pytest.mark.parametrize(
    ("made", "answer"),
    [
        (tick("Allow once"), Answer(Does.ONCE)),
        (tick(" allow  ONCE"), Answer(Does.ONCE)),
        (tick("Allow once", at=""), Answer(Does.ONCE)),
        (tick("Allow in this conversation"), Answer(Does.CONVERSATION)),
        (tick("Deny", words="not today"), Answer(Does.DENY, "not today")),
        (tick("Allow once", "Deny"), Answer(Does.DENY)),
        (tick("Nonsense", "Deny"), Answer(Does.DENY)),
        (tick("Allow once", "Allow in this conversation"), "more than one box is ticked"),
        (tick("Allow always"), "the box that is ticked is not one of its own"),
        (tick(words="because"), "no box is ticked beside `because`"),
        (tick("Allow once", at="aaaaa"), "it does not belong here"),
        (replace(tick("Allow once"), shown=b"make"), "what it shows was changed"),
    ],
)
def test_what_a_tick_says(made: Tick, answer: Answer | str) -> None:
    assert decide(made, GOOD) == answer


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"approval": None}, "it does not belong here"),
        ({"approval": replace(APPROVAL, state=ApprovalState.EXPIRED)}, "it was expired before"),
        ({"logged": None}, "the agent that asked is gone"),
        ({"copies": 2}, "it stands in the file more than once"),
        ({"git": True}, "git brought it"),
        ({"rights": Rights(Writer.AGENTS, "agents can write here")}, "agents can write here"),
        ({"logged": BODY | {"agent": "reader"}}, "what it shows was changed"),
    ],
)
@pytest.mark.parametrize("label", ["Allow once", "Deny"])
def test_nothing_counts_unless_all_holds(label: str, change: dict[str, Any], why: str) -> None:
    assert decide(tick(label), replace(GOOD, **change)) == why


@pytest.mark.parametrize(
    ("chosen", "words", "answer"),
    [
        (["Red"], "", Answer(Does.ANSWER, "r")),
        ([], "blue", Answer(Does.ANSWER, "blue")),
        (["Decline"], "why", Answer(Does.DECLINE, "why")),
        (["Red", "Decline"], "", Answer(Does.DECLINE)),
        (["Red", "Blue"], "", "more than one box is ticked"),
    ],
)
def test_what_a_tick_says_to_a_question(chosen: list[str], words: str, answer: Answer | str) -> None:
    facts = replace(GOOD, logged=QUESTION)
    assert decide(tick(*chosen, words=words, body=QUESTION), facts) == answer


LABELS = ("Allow once", "Allow in this conversation", "Deny")
states = st.sampled_from(ApprovalState)
writers = st.sampled_from(Writer)


@given(
    st.sets(st.sampled_from(LABELS)), states, writers, st.booleans(), st.booleans(), st.integers(1, 2), st.booleans(),
    st.sampled_from([b"", b"make", b"Allow once"]),
)  # fmt: skip
def test_allowed_only_if_everything_holds_and_one_box_is_ticked(
    ticked: set[str], state: ApprovalState, writer: Writer, lives: bool, git: bool, copies: int, belongs: bool, edited: bytes
) -> None:
    """Property 22.18, from the bytes of the file to the decision."""
    written = reply(("approval_asked", BODY)).body().encode()
    saved = written
    for label in ticked:
        saved = saved.replace(b"[ ] " + label.encode(), b"[x] " + label.encode())
    saved = saved.replace(edited, b"rm -rf /") if edited else saved
    _, ticks = untick(saved, TAG, "a8c2d" if belongs else "aaaaa")
    facts = Facts(replace(APPROVAL, state=state), BODY if lives else None, Rights(writer, "no"), git, copies)
    answers = [decide(found, facts) for found in ticks]
    allowed = [each for each in answers if isinstance(each, Answer) and each.does is not Does.DENY]
    good = state is ApprovalState.PENDING and writer is Writer.PERSON and lives and not git and copies == 1 and belongs
    assert bool(allowed) == (good and not edited and len(ticked) == 1 and ticked != {"Deny"})
