"""What a draft says, and what the daemon writes around it: gestures, box, note."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opagent.document.draft import (
    Gesture,
    area_body,
    boxed,
    gestures,
    has_box,
    less,
    noted,
    read,
    unmerged,
    with_gesture,
    without_gesture,
    without_notes,
)
from opagent.document.parse import scan
from tests.doubles.texts import TAG, document, nasty

BOX, TICKED = b"- [ ] **Send**\n", b"- [x] **Send**\n"


@pytest.mark.parametrize(
    ("draft", "gesture", "text"),
    [
        (b"", Gesture.NONE, b""),
        (b"\n\n  \nhello\n\n", Gesture.NONE, b"hello"),
        (b"hello\n/send\n", Gesture.SEND, b"hello"),
        (b"hello\r\n/send\r\n\r\n", Gesture.SEND, b"hello"),
        (b"hello  \n \n/send\n", Gesture.SEND, b"hello  "),
        (TICKED + b" hello \t\r\n\r\n", Gesture.SEND, b" hello \t"),
        (b"hello\n\n/send\n\n/send  ", Gesture.SEND, b"hello"),
        (b"hello\n/steer\n", Gesture.STEER, b"hello"),
        (b"hello\n/steer\n/send\n", Gesture.STEER, b"hello"),
        (b"/send\nhello\n", Gesture.NONE, b"/send\nhello"),
        (b"hello\n /send\n", Gesture.NONE, b"hello\n /send"),
        (b"hello\n> /send\n", Gesture.NONE, b"hello\n> /send"),
        (b"hello\n/sender\n", Gesture.NONE, b"hello\n/sender"),
        (b"hello\n/send now\n", Gesture.NONE, b"hello\n/send now"),
        (b"hello\n/sen", Gesture.NONE, b"hello\n/sen"),
        (b"hello\n\n" + TICKED, Gesture.SEND, b"hello"),
        (b"hello\n\n" + BOX, Gesture.NONE, b"hello"),
        (b"hello\n\n* [X] Send <!-- mine -->\nbelow\n", Gesture.SEND, b"hello\n\n\nbelow"),
        (b"hello\n+ [x] __Send__ \r\n", Gesture.SEND, b"hello"),
        (b"hello\n- [x] **Send** it\n", Gesture.NONE, b"hello\n- [x] **Send** it"),
        (TICKED + b"a list\n" + BOX, Gesture.NONE, b"- [x] **Send**\na list"),
        (TICKED, Gesture.SEND, b""),
        (b"```\ncode\n\n/send\n", Gesture.SEND, b"```\ncode"),
        (b"caf\xe9\n/send\n", Gesture.SEND, b"caf\xe9"),
        (b"rest\n/cancel\n", Gesture.CANCEL, b"rest"),
        (b"rest\n/retry \n\n" + BOX, Gesture.RETRY, b"rest"),
        (b"/retry it\n", Gesture.NONE, b"/retry it"),
        (b"/compact", Gesture.COMPACT, b""),
        (b"/cancel\n\n" + TICKED, Gesture.CANCEL, b""),
        (b"/unknown p1\n/send", Gesture.SEND, b"/unknown p1"),
        (b"/frobnicate", Gesture.NONE, b"/frobnicate"),
    ],
)
def test_gestures(draft: bytes, gesture: Gesture, text: bytes) -> None:
    said = read(draft)
    assert (said.gesture, said.text) == (gesture, text)


@pytest.mark.parametrize(
    ("line", "gesture", "argument"),
    [
        (b"/allow", Gesture.ALLOW, ""),
        (b"/allow p5t2w", Gesture.ALLOW, "p5t2w"),
        (b"/allow  p5t2w conversation\r", Gesture.ALLOW, "p5t2w conversation"),
        (b"/allow once", Gesture.ALLOW, "once"),
        (b"/allow it to do what it likes", Gesture.NONE, ""),
        (b"/deny", Gesture.DENY, ""),
        (b"/deny p5t2w not on a Friday", Gesture.DENY, "p5t2w not on a Friday"),
        (b"/fork a8c2d", Gesture.FORK, "a8c2d"),
        (b"/fork", Gesture.FORK, ""),
        (b"/fork a8c2d a9c2d", Gesture.NONE, ""),
    ],
)
def test_commands_that_act_at_once(line: bytes, gesture: Gesture, argument: str) -> None:
    said = read(b"my text\n" + line + b"\n\n" + BOX)
    assert (said.gesture, said.argument) == (gesture, argument)
    if gesture is not Gesture.NONE:
        assert said.text == b"my text" and gesture.commands and not gesture.sends
        assert without_gesture(b"my text\n" + line + b"\n\n" + BOX) == b"my text\n\n" + BOX


@given(nasty)
def test_autosave_at_each_key_sends_once_at_the_last(text: str) -> None:
    """A whole line, and only as the last one: half of it is text."""
    typed = (text + "\n/send").encode("utf-8", "surrogatepass")
    before = read(typed[: -len("/send")]).gesture
    for end in range(len(typed) - len("/send") + 1, len(typed)):
        said = read(typed[:end])
        assert said.gesture in (Gesture.NONE, before)
    assert read(typed).gesture in (Gesture.SEND, Gesture.STEER)
    assert not read(read(typed).text).gesture.sends or has_box(read(typed).text)


@given(nasty, st.sampled_from([b"\n", b"\r\n"]), st.sampled_from(["", "waits for the turn that runs; 1 before it"]))
def test_an_area_holds_the_draft_and_its_note_once(text: str, eol: bytes, note: str) -> None:
    draft = text.encode("utf-8", "surrogatepass").replace(b"\n", eol)
    body = area_body("## Alice", draft, note, eol)
    assert body.startswith(b"## Alice" + eol)
    assert has_box(body)
    assert draft.strip(b"\r\n") in body or b"<!-- op -->" in draft or not draft.strip()
    assert body.count(b"<!-- op -->") <= 1 + draft.count(b"<!-- op -->")
    again = noted(body, note, eol)
    assert again == body
    assert b"waits for" not in noted(body, "", eol) or "waits for" in text


def test_the_note_is_the_daemons_and_what_is_typed_into_it_is_not() -> None:
    body = area_body("## Alice", b"my text", "sent when this turn ends", b"\n")
    assert body.decode() == ("## Alice\n\n> [!NOTE]\n> sent when this turn ends <!-- op -->\n\nmy text\n\n- [ ] **Send**\n")
    assert noted(body, "", b"\n") == area_body("## Alice", b"my text", "", b"\n")
    assert read(body[len("## Alice\n") :]).text == b"my text"
    typed = body.replace(b"> sent when", b"> mine, too\n> sent when")
    assert b"mine" not in without_notes(typed)
    assert b"> mine, too\n" in without_notes(typed, "sent when this turn ends")
    wrapped = body.replace(b"when this", b"when\n> this")
    assert without_notes(wrapped, "sent when this turn ends") == without_notes(body)
    quoted = b"> my own quote\n> goes on\n"
    assert without_notes(quoted) == quoted


def test_a_note_of_many_lines_is_no_note() -> None:
    long = b"> [!NOTE]\n" * 50_000
    assert without_notes(long + b"> x <!-- op -->\n").count(b"\n") > 49_000


def test_what_is_obeyed_goes() -> None:
    assert without_gesture(b"text\n" + TICKED) == b"text"
    assert without_gesture(b"text\n") == b"text\n"
    assert with_gesture(b"text", read(b"x\n/steer"), b"\n") == b"text\n\n/steer\n"
    assert read(with_gesture(b"text", read(TICKED), b"\r\n")).gesture is Gesture.SEND
    assert with_gesture(b" ", read(TICKED), b"\n") == b" "
    assert gestures(b"/send\na\n/send\n- [x] Send\n" + BOX) == 3
    assert less(b"a\nb\r\na\n", [b"a", b"b", b"c"]) == b"a\n"
    assert boxed(b"text", b"\r\n") == b"text\r\n\r\n- [ ] **Send**\r\n"


def test_conflict_marks_of_git() -> None:
    clean = document(2).content()
    assert not unmerged(clean, TAG)
    in_reply = clean.replace(b"Answer 0.", b"Answer\n<<<<<<< HEAD\n")
    in_message = clean.replace(b"Question 0?", b"Question\n<<<<<<< HEAD\n=======\n>>>>>>> b\n")
    between = clean.replace(b"<!-- op:k7q2 u0001", b"<<<<<<< HEAD\n<!-- op:k7q2 u0001")
    assert not unmerged(in_reply, TAG) and not unmerged(in_message, TAG)
    assert unmerged(between, TAG) and unmerged(clean + b"<<<<<<< ours\n", TAG)
    assert unmerged(clean.replace(b"opagent: 1", b"<<<<<<< HEAD\nopagent: 1"), TAG)
    known = {region.body for region in scan(clean, TAG)}
    assert unmerged(in_message, TAG, known) and not unmerged(in_reply, TAG, known)
    assert not unmerged(in_message, TAG, {region.body for region in scan(in_message, TAG)})
