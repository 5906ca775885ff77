"""Approval blocks: the exact action, one box per option, one line once answered; whatever the agent calls its options."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opagent.document.approval import Choice, Does, choices, shown
from opagent.document.excerpt import visible
from opagent.document.parse import asks, scan
from opagent.document.ticks import fold, untick
from tests.doubles.texts import AT, TAG, document, nasty, opening, reply

ASKED = {
    "id": "p9d4m", "kind": "execute", "subject": "git push origin main", "where": "book/", "in_file": True,
    "offers": ["once", "conversation", "deny"],
}  # fmt: skip
QUESTION = {"id": "p9d4m", "kind": "question", "subject": "Which one?", "offers": ["answer", "decline"], "in_file": True}


def options(*names: str) -> list[dict[str, str]]:
    return [{"id": f"o{number}", "name": name, "kind": "answer"} for number, name in enumerate(names)]


def test_an_open_block() -> None:
    body = reply(("approval_asked", ASKED)).body()
    digest = hashlib.sha256(shown(ASKED, "Writer")).hexdigest()[:8]
    assert body == (
        f"<!-- op:k7q2 p9d4m ask {AT} sum={digest} -->\n"
        "> [!IMPORTANT]\n"
        "> **Writer asks to run a command** in `book/` · answer here, or with `opagent allow p9d4m` or `opagent deny p9d4m`\n"
        ">\n> ```sh\n> git push origin main\n> ```\n\n"
        "- [ ] Allow once\n- [ ] Allow in this conversation\n- [ ] Deny\n\n"
        "<!-- op:k7q2 /p9d4m open -->\n"
    )
    content = document().begin(opening()).put("a0000", body, ("waiting",)).content()
    (ask,) = asks(scan(content)[2], TAG)
    assert (ask.id, ask.outcome) == ("p9d4m", "open")


def test_a_block_whose_boxes_do_not_count_says_so() -> None:
    body = reply(("approval_asked", ASKED | {"in_file": False})).body()
    assert "answer with `opagent allow p9d4m` or `opagent deny p9d4m`; a box ticked in this file does not count" in body
    assert "- [ ] Allow once\n" in body


def test_a_block_of_an_older_log_has_no_boxes() -> None:
    made = reply(("approval_asked", {"id": "p9d4m", "kind": "execute", "subject": "make"}))
    assert made.waits
    assert "- [" not in made.body() and "does not count" not in made.body()


def test_what_cannot_be_seen_is_shown() -> None:
    body = reply(("approval_asked", ASKED | {"subject": "git push\u202e\u200b ```\n-->\nmain\x07"})).body()
    assert "> ````sh\n> git pushU+202EU+200B ```\n> -->\n> mainU+0007\n> ````\n" in body


def test_a_write_shows_its_whole_diff() -> None:
    lines = "".join(f"{number}\n" for number in range(100))
    change = {"type": "diff", "path": "y.md", "oldText": "", "newText": lines}
    body = reply(
        ("approval_asked", ASKED | {"kind": "edit", "subject": "cut", "action": "write y.md", "content": [change]})
    ).body()
    assert body.count("\n> +") == 100
    assert "> write y.md\n" in body and "cut" not in body


def test_questions_have_their_own_boxes_or_a_line() -> None:
    boxes = reply(("approval_asked", QUESTION | {"options": options("Red", "Blue")})).body()
    assert "**Writer asks you** · answer here, or with `opagent allow p9d4m --answer TEXT` or `opagent deny p9d4m`" in boxes
    assert "\n\n- [ ] Red\n- [ ] Blue\n- [ ] Decline\n\n<!--" in boxes
    free = reply(("approval_asked", QUESTION)).body()
    assert "> ```\n\nAnswer:\n\n- [ ] Decline\n\n<!--" in free


@pytest.mark.parametrize(
    ("asked", "answer", "outcome", "line"),
    [
        ({}, {"state": "allowed", "via": "file"}, "allow-once", "**Alice allowed once** (09:14, in this file): `git push origin main`"),
        ({}, {"state": "allowed", "scope": "conversation", "via": "cli"}, "allow-conversation",
         "**Alice allowed in this conversation** (09:14, via cli): `git push origin main`"),
        ({}, {"state": "denied", "via": "file", "reason": "no\n> <b>x"}, "deny",
         "**Alice denied** (09:14, in this file): `git push origin main` · no > \\<b>x"),
        ({}, {"state": "expired", "answered_by": "opagent", "via": "daemon", "reason": "too late"}, "expired",
         "**Expired** (09:14): `git push origin main` · too late"),
        ({}, {"state": "void", "answered_by": "opagent"}, "void", "**Void** (09:14): `git push origin main`"),
        ({"subject": "a\u202eb\nc"}, {"state": "denied"}, "deny", "**Alice denied** (09:14): `aU+202Eb ...`"),
        (QUESTION, {"state": "allowed", "answer": "Blue\nor red", "via": "file"}, "answer",
         "**Alice answered** (09:14, in this file): `Which one?` · Blue or red"),
        (QUESTION, {"state": "denied", "via": "chat"}, "decline", "**Alice declined to answer** (09:14, via chat): `Which one?`"),
    ],
)  # fmt: skip
def test_an_answered_block_is_one_line(asked: dict[str, Any], answer: dict[str, Any], outcome: str, line: str) -> None:
    body = {"id": "p9d4m", "answered_by": "alice", **answer}
    made = reply(("approval_asked", ASKED | asked), ("approval_answered", body))
    assert not made.waits
    words = "".join(f"{key}={body[name]} " for key, name in (("by", "answered_by"), ("via", "via")) if name in body)
    assert made.body().split("\n", 1)[1] == f"> [!NOTE]\n> {line}\n<!-- op:k7q2 /p9d4m {outcome} {words}{AT} -->\n"


def test_no_two_labels_are_alike() -> None:
    names = ("red", "RED ", "Deny: now", "decline", "allow once", "", "x\u202ey", "deny")
    found = choices(QUESTION | {"options": options(*names)})
    assert [choice.label for choice in found] == [
        "red", "RED (2)", "`Deny: now`", "decline (4)", "allow once (5)", "o5", "xU+202Ey", "deny (8)", "Decline",
    ]  # fmt: skip
    assert found[1] == Choice("RED (2)", Does.ANSWER, "o1")


@given(nasty, st.lists(nasty, max_size=5), nasty, st.data())
def test_every_box_can_be_ticked_and_nothing_else_ticks_it(
    subject: str, names: list[str], where: str, data: st.DataObject
) -> None:
    """Whatever an agent says or calls its options: its block has no tick, and each tick is the choice that it shows."""
    body = QUESTION | {"subject": subject, "options": options(*names), "where": where}
    written = reply(("approval_asked", body)).body().encode("utf-8", "replace")
    assert untick(written, TAG) == (written, ())
    offered = choices(body)
    assert len({fold(choice.label) for choice in offered}) == len(offered)
    choice = data.draw(st.sampled_from(offered))
    box = f"\n- [ ] {choice.label}\n".encode("utf-8", "replace")
    ticked = written.replace(box, box.replace(b"[ ]", b"[x]"), 1)
    plain_body, [tick] = untick(ticked, TAG)
    assert plain_body == written
    assert [found for found in offered if fold(found.label) == fold(tick.chosen[0])] == [choice]
    assert tick.shown == shown(body, "Writer")


@given(nasty, nasty)
def test_another_action_is_another_text(subject: str, other: str) -> None:
    first, second = (
        [line.rstrip(" \t") for line in visible(text).removesuffix("\n").split("\n")] if text else [] for text in (subject, other)
    )
    same = shown(ASKED | {"subject": subject}, "Writer") == shown(ASKED | {"subject": other}, "Writer")
    assert same == (first == second)


@given(nasty, st.lists(nasty, max_size=3), st.booleans())
def test_the_log_gives_the_same_block_again(subject: str, names: list[str], in_file: bool) -> None:
    body = QUESTION | {"subject": subject, "options": tuple(options(*names)), "in_file": in_file, "agent": "writer"}
    logged = json.loads(json.dumps(body))
    assert reply(("approval_asked", logged)).body() == reply(("approval_asked", body)).body()
    assert shown(logged) == shown(body)
