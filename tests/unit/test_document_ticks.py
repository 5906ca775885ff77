"""Ticked boxes: read whatever an editor made of the block, never taken from an agent's text, and undone without a trace."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opagent.document.excerpt import fence, quote, visible
from opagent.document.markers import marker
from opagent.document.ticks import fold, plain, untick
from tests.doubles.texts import TAG, nasty

LABELS = ("Allow once", "Allow `git push` in this conversation", "Deny")


def block(action: str = "git push origin main", labels: tuple[str, ...] = LABELS, name: str = "p9d4m") -> str:
    """An open block as the daemon writes it."""
    asked = quote("[!IMPORTANT]\n**Writer asks to run a command**\n\n" + fence(visible(action), "sh"))
    boxes = "".join(f"- [ ] {label}\n" for label in labels)
    return f"{marker(TAG, name, 'ask')}{asked}\n{boxes}\n{marker(TAG, '/' + name, 'open')}"


def body(*blocks: str) -> bytes:
    return ("## Writer\n\nBefore.\n\n" + "\n".join(blocks) + "\nAfter.\n").encode()


def logged(action: str = "git push origin main") -> bytes:
    return plain(block(action).encode().split(b"\n", 1)[1].rsplit(b"<!--", 1)[0])


def test_a_ticked_box_is_read_and_undone() -> None:
    written = body(block())
    plain_body, [tick] = untick(written.replace(b"- [ ] Allow once", b"- [x] Allow once"), TAG, "a8c2d")
    assert plain_body == written
    assert (tick.approval, tick.chosen, tick.words, tick.reply) == ("p9d4m", ("Allow once",), "", "a8c2d")
    assert tick.shown == logged()


@pytest.mark.parametrize("ticked", ["* [X] allow  ONCE", "+ [x]\tAllow once  ", "  -   [x] Allow once"])
def test_editors_and_people_write_boxes_in_many_ways(ticked: str) -> None:
    _, [tick] = untick(body(block()).replace(b"- [ ] Allow once", ticked.encode()), TAG)
    assert [fold(label) for label in tick.chosen] == ["allow once"]
    assert tick.shown == logged()


@pytest.mark.parametrize(
    "line", ["- [ ]Allow once", "- [y] Allow once", "    - [x] Allow once", "> - [x] Allow once", "1. [x] Allow once"]
)
def test_what_is_no_box_is_no_tick(line: str) -> None:
    edited, ticks = untick(body(block()).replace(b"- [ ] Allow once", line.encode()), TAG)
    assert ticks == ()
    assert line.encode() in edited


def test_reasons_and_answers_may_go_on_below() -> None:
    denied = body(block()).replace(b"- [ ] Deny", b"- [x] deny :  it is Friday,\n  wait for Monday")
    assert untick(denied, TAG)[1][0].words == "it is Friday,\nwait for Monday"
    assert untick(denied, TAG)[0] == body(block()).replace(b"Deny", b"deny")
    question = body(block(labels=("Decline",)).replace("- [ ] Decline\n", "Answer:\n\n- [ ] Decline\n"))
    assert untick(question, TAG) == (question, ())
    told = question.replace(b"Answer:", b"answer: blue\nor green")
    assert untick(told, TAG)[0] == question
    [tick] = untick(told, TAG)[1]
    assert (tick.chosen, tick.words) == ((), "blue\nor green")


def test_a_changed_command_or_label_shows() -> None:
    for old, new in ((b"origin main", b"origin dev"), (b"Allow `git push`", b"Allow `git`"), (b"- [ ] Deny\n", b"")):
        edited = body(block()).replace(b"[ ] Allow once", b"[x] Allow once").replace(old, new)
        assert untick(edited, TAG)[1][0].shown != logged()


def test_how_a_quote_is_written_does_not_matter() -> None:
    ticked = body(block()).replace(b"[ ] Deny", b"[x] Deny")
    for old, new in ((b"\n> ", b"\n>"), (b"\n>", b"\n  >"), (b"\n> ", b"\n>\t")):
        assert untick(ticked.replace(old, new), TAG)[1][0].shown == logged()


def test_only_open_blocks_are_read() -> None:
    for outcome in ("allow-once", "deny", "void"):
        closed = body(block()).replace(b"/p9d4m open", b"/p9d4m " + outcome.encode()).replace(b"[ ]", b"[x]")
        assert untick(closed, TAG) == (closed, ())
    torn = body(block()).replace(marker(TAG, "/p9d4m", "open").encode(), b"").replace(b"[ ]", b"[x]")
    assert untick(torn, TAG) == (torn, ())
    foreign = body(block()).replace(b"op:k7q2", b"op:zzzz").replace(b"[ ]", b"[x]")
    assert untick(foreign, TAG) == (foreign, ())


def test_several_blocks_are_read_apart() -> None:
    both = body(block(name="p1111"), block("make", name="p2222"))
    first, second = (match.start() for match in re.finditer(rb"- \[ \] Deny", both))
    ticked = both[:second] + both[second:].replace(b"[ ] Deny", b"[x] Deny")
    assert first < second
    assert [(tick.approval, tick.chosen) for tick in untick(ticked, TAG)[1]] == [("p2222", ("Deny",))]


FORMATS: tuple[Callable[[bytes], bytes], ...] = (
    lambda content: content.replace(b"\n", b"\r\n"),
    lambda content: content.replace(b"\n", b"  \n"),
    lambda content: content.replace(b"\n>", b"\n  >"),
    lambda content: content.replace(b"\n\n- [", b"\n- [").replace(b"\n- [", b"\n\n* ["),
)


@given(nasty, st.sampled_from(FORMATS), st.sets(st.sampled_from(LABELS)))
def test_no_action_ticks_a_box_and_no_formatter_hides_one(
    action: str, reformat: Callable[[bytes], bytes], chosen: set[str]
) -> None:
    written = body(block(action))
    assert untick(written, TAG) == (written, ())
    ticked = written
    for label in chosen:
        ticked = ticked.replace(f"\n- [ ] {label}\n".encode(), f"\n- [x] {label}\n".encode())
    plain_body, ticks = untick(ticked, TAG)
    assert plain_body == written
    _, formatted = untick(reformat(ticked), TAG)
    for found in (ticks, formatted):
        assert [set(tick.chosen) for tick in found] == ([chosen] if chosen else [])
        assert all(tick.shown == logged(action) for tick in found)


PIECES = (
    *(line + b"\n" for line in block().encode().split(b"\n")), b"- [x] Deny: no\n", b"Answer: yes\n", b"more\r\n", b"\xff\n",
    b"- [x] Allow once\n", b"> - [x] Allow once\n", b"\n", b"<!-- op:k7q2 /p9d4m deny -->\n", b"\r", b"- [X]",
)  # fmt: skip


@given(st.lists(st.sampled_from(PIECES), max_size=25).map(b"".join) | st.binary(max_size=200))
def test_undoing_is_final_and_touches_only_open_blocks(content: bytes) -> None:
    once, ticks = untick(content, TAG)
    assert untick(once, TAG) == (once, ())
    if not ticks and b"/p9d4m open" not in content:
        assert once == content
    assert once.count(b"\n") <= content.count(b"\n")


@given(st.lists(st.sampled_from(PIECES), max_size=25).map(b"".join) | st.binary(max_size=200))
def test_plain_text_is_its_own_plain_text(content: bytes) -> None:
    assert plain(plain(content)) == plain(content)
