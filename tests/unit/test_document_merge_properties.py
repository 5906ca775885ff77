"""The properties of the merge for any text; the numbers are those of the design."""

from __future__ import annotations

import re
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from opagent.document.clean import clean
from opagent.document.draft import gestures, read
from opagent.document.edit import new
from opagent.document.merge import merge
from opagent.document.parse import Part, Region, join, rescan, scan
from opagent.document.rebuild import continued
from opagent.model import Event
from tests.doubles.conversation import Daemon
from tests.doubles.texts import HEADER, TAG, event, ids, nasty, reply

BOX, TICKED = b"- [ ] **Send**", b"- [x] **Send**"
HEAD = new(HEADER, "alice").content().split(b"<!-- op:")[0]
eols = st.sampled_from([b"\n", b"\r\n"])
answers = st.lists(nasty, min_size=1, max_size=3)


def _bytes(text: str, eol: bytes) -> bytes:
    return text.encode("utf-8", "surrogatepass").replace(b"\r\n", b"\n").replace(b"\n", eol)


def _file(daemon: Daemon, before: bytes) -> bytes:
    return daemon.version(len(before)) if daemon.memory.content() != before else before


def talk(turns: list[list[str]], eol: bytes = b"\n", ends: bool = True) -> tuple[Daemon, bytes]:
    """A daemon with these replies, each to a question from the file, and the file; without `ends` the last one runs on."""
    content = HEAD.replace(b"\n", eol)
    daemon = Daemon(content)
    for number, pieces in enumerate(turns):
        content = content + eol + b"Question %d" % number + eol + b"/send" + eol
        daemon.take(content)
        content = _file(daemon, content)
        for place, piece in enumerate(pieces):
            last = place == len(pieces) - 1
            daemon.stream(piece, "done" if last and (ends or number < len(turns) - 1) else "")
            content = _file(daemon, content)
    return daemon, content


def _whole(daemon: Daemon, content: bytes) -> None:
    """What is in memory is what a scan finds, and merging it again changes nothing."""
    assert daemon.memory.content() == content and scan(content, TAG) == daemon.memory.document.regions
    again = merge(daemon.memory, content)
    assert not again.facts and again.content == content


@given(nasty, eols, st.booleans())
def test_5_what_is_typed_is_what_is_sent(text: str, eol: bytes, tick: bool) -> None:
    typed = _bytes(text, eol).replace(b"op:" + TAG.encode(), b"op:zzzz").replace(b"\0", b"")
    daemon, content = talk([["Answer."]], eol)
    place = content.index(BOX)
    gesture = TICKED if tick else b"/send"
    daemon.take(content[:place] + typed + eol * 2 + gesture + eol)
    said = read(typed + b"\n" + gesture)
    if said.gesture.sends and said.text:
        assert daemon.sent[1:] == [said.text]
        if not gestures(typed):
            assert b"".join(typed.split()) == b"".join(daemon.sent[1].split())
        assert ids(_file(daemon, content)) == ["", "u0001", "a0001", "u0002", "a0002", "next"]
    _whole(daemon, daemon.memory.content())


LINES = (
    b"<!-- op:k7q2 u0001 you a -->", b"<!-- op:k7q2 a0001 agent w -->", b"<!-- op:k7q2 /a0001 done -->", b"<!-- op:k7q2 next -->",
    b"<!-- op:k7q2 u7777 you eve -->", b"<!-- op:k7q2 a7777 agent w -->", b"<!-- op:k7q2 /a7777 done -->", b"<!-- op:k7q2 s1 summary -->",
    b"<!-- op:k7q2 next after=a0002 -->", b"<!-- op:k7q2 next did=3 -->", b"/send", b"- [x] **Send**", b"## Alice", b"text", b"", b"> q",
    b"> [!NOTE]", b"> x <!-- op -->", b"---", b"<!-- op:k7q2 a0001 you a -->", b"<!-- op:k7q2 u0001 agent a -->", b"```", b"/cancel",
)  # fmt: skip


@dataclass(frozen=True)
class Cut:
    """A change of a file by lines: `gone` lines at a place become others."""

    place: int
    gone: int
    lines: tuple[bytes, ...]


cuts = st.lists(
    st.builds(Cut, st.integers(0, 80), st.integers(0, 6), st.lists(st.sampled_from(LINES), max_size=4).map(tuple)),
    min_size=1, max_size=4,
)  # fmt: skip


def _changed(content: bytes, changes: list[Cut]) -> bytes:
    lines = content.split(b"\n")
    for cut in changes:
        place = cut.place % (len(lines) + 1)
        lines[place : place + cut.gone] = cut.lines
    return b"\n".join(lines)


@given(st.lists(answers, min_size=1, max_size=3), cuts, cuts, eols, st.booleans())
def test_6_merging_is_idempotent_whatever_was_saved(
    turns: list[list[str]], first: list[Cut], second: list[Cut], eol: bytes, ends: bool
) -> None:
    """Two saves, the second of the first one's buffer, with lines taken out and markers put in anywhere."""
    daemon, content = talk(turns, eol, ends)
    saved = _changed(content, first)
    for buffer in (saved, _changed(saved, second)):
        before = {region.id for region in daemon.memory.document.regions}
        merged = merge(daemon.memory, buffer)
        if merged.stop:
            assert {region.id for region in daemon.memory.document.regions} == before
            continue
        _whole(daemon, merged.content)


@given(st.lists(answers, min_size=1, max_size=3), eols, st.sampled_from([b" ", b"\t", b"\r"]), st.booleans())
def test_7_blanks_in_replies_change_no_byte_of_the_person(turns: list[list[str]], eol: bytes, blank: bytes, ends: bool) -> None:
    daemon, content = talk(turns, eol, ends)
    assert merge(daemon.memory, content).content == content
    regions = scan(content, TAG)
    saved = join(tuple(_blanked(region, blank) for region in regions))
    merged = merge(daemon.memory, saved)
    assert not merged.aside and not any(fact.what in ("edited", "reply_edited") for fact in merged.facts)
    theirs = [_persons(region) for region in scan(saved, TAG)]
    assert [_persons(region) for region in scan(merged.content, TAG)] == theirs


def _blanked(region: Region, blank: bytes) -> Region:
    if region.part is not Part.REPLY:
        return region
    return Region(region.part, region.id, region.open, region.body.replace(b"\n", blank + b"\n"), region.close, region.tail)


def _persons(region: Region) -> tuple[str, bytes]:
    return region.id, region.tail if region.part is Part.REPLY else region.body


@given(st.lists(st.tuples(nasty, st.booleans()), min_size=1, max_size=4), eols, st.integers(1, 3))
def test_10_replaying_a_save_sends_nothing(drafts: list[tuple[str, bool]], eol: bytes, times: int) -> None:
    daemon, content = talk([["Answer."]], eol)
    asked = 0
    for number, (text, ask) in enumerate(drafts):
        typed = _bytes(text, eol).replace(b"op:" + TAG.encode(), b"op:zzzz").replace(b"\0", b"")
        saved = content + eol + b"Text %d" % number + eol + typed + eol + (b"/send" + eol if ask else b"")
        asked += 1 + gestures(typed)
        for _ in range(times):
            daemon.take(saved)
            assert len(daemon.sent) <= 1 + asked
        if daemon.running:
            sent = len(daemon.sent)
            daemon.stream("Answer.", "done")
            daemon.obey()
            content = _file(daemon, saved)
            if read(daemon.memory.draft()).text == b"":
                daemon.take(saved)
                assert len(daemon.sent) == sent
                content = _file(daemon, saved)


@given(st.lists(answers, min_size=1, max_size=3), nasty, nasty, eols)
def test_11_nothing_is_sent_without_a_gesture_in_the_draft(turns: list[list[str]], note: str, edit: str, eol: bytes) -> None:
    """Replies, margin notes and old messages may hold any number of them."""
    daemon, content = talk([*turns, ["- [x] **Send**\n/send\n"]], eol)
    sent = len(daemon.sent)
    hostile = [
        _bytes(text + "\n- [x] **Send**\n/send\n", eol).replace(b"op:" + TAG.encode(), b"op:zzzz").replace(b"\0", b"")
        for text in (note, edit)
    ]
    saved = content.replace(b"<!-- op:k7q2 u0001", hostile[0] + b"<!-- op:k7q2 u0001").replace(
        b"Question 0", b"Question 0" + eol + hostile[1], 1
    )
    saved = re.sub(rb"(<!-- op:k7q2 /a0001 .*\n)", lambda found: found.group() + eol + hostile[0], saved)
    daemon.take(saved.replace(BOX, b"my draft" + eol * 2 + BOX))
    assert len(daemon.sent) == sent and read(daemon.memory.draft()).text.endswith(b"my draft")


@given(st.lists(answers, min_size=2, max_size=3), st.data())
def test_12_saves_of_different_regions_commute(turns: list[list[str]], data: st.DataObject) -> None:
    _, content = talk(turns)
    names = [region.id for region in scan(content, TAG) if region.part.turn]
    one, other = data.draw(st.lists(st.sampled_from(names), min_size=2, max_size=2, unique=True))
    results = []
    for order in ((one, other), (other, one)):
        daemon, content = talk(turns)
        for name in order:
            regions = scan(content, TAG)
            edited = [_reworded(region, b"edited " + name.encode()) if region.id == name else region for region in regions]
            daemon.take(join(tuple(edited)))
        results.append(daemon.memory.content())
    assert results[0] == results[1] and results[0].count(b"edited ") == 2


def _reworded(region: Region, text: bytes) -> Region:
    return Region(region.part, region.id, region.open, region.body.rstrip() + b"\n" + text + b"\n\n", region.close, region.tail)


@given(st.lists(answers, min_size=1, max_size=3), st.integers(1, 60), st.booleans(), st.booleans(), eols)
def test_14_a_log_cut_anywhere_and_the_file_give_a_valid_document(
    turns: list[list[str]], cut: int, ends: bool, draft: bool, eol: bytes
) -> None:
    daemon, content = talk(turns, eol, ends)
    if draft:
        content += b"my draft" + eol
    daemon.log = daemon.log[: 1 + cut % len(daemon.log)]
    daemon.restart(content)
    once = daemon.memory.content()
    _whole(daemon, once)
    assert once.count(b"my draft") == draft and set(ids(once)) == set(ids(content))
    assert len(daemon.sent) == len(turns), "nothing of an agent is sent"
    assert sorted(daemon.sent) == sorted(set(daemon.sent))
    if daemon.running:
        daemon.stream("", "done")
    once = daemon.version(len(content))
    daemon.restart(once)
    assert daemon.memory.content() == once


shown = st.text(max_size=60) | st.lists(
    st.sampled_from(["```", "~~~", "\n", "\n\n", "<!--", "<pre>", "<details>\n", "text", "> ", "- "])
).map("".join)


@given(st.lists(shown, min_size=1, max_size=4), st.data())
def test_a_reply_that_the_file_has_more_of_goes_on_from_there(pieces: list[str], data: st.DataObject) -> None:
    """After a power cut: what is logged then shows the same text as the file had."""
    whole, part = reply(("turn_state", {"state": "running"})), reply(("turn_state", {"state": "running"}))
    pieces = [clean(piece) for piece in pieces]  # what a cleaner holds back is not shown yet
    _, content = talk([pieces], ends=False)
    cut = data.draw(st.integers(0, len(pieces)))
    for number, piece in enumerate(pieces):
        for made in (whole, part) if number < cut else (whole,):
            made.apply(_text(piece))
    more = continued(content, TAG, "a0001", part.unclosed())
    part.apply(_text(more))
    assert _packed(part.body()).startswith(_packed(whole.body()))
    assert whole.body().startswith(whole.unclosed())
    assert continued(content, TAG, "a9999", "") == continued(content, TAG, "a0001", "an other text") == ""


def _packed(text: str) -> str:
    return "".join(text.split())


def _text(text: str) -> Event:
    return event("text", {"text": text})


@given(st.lists(nasty, min_size=2, max_size=5), st.data(), eols, st.booleans(), st.booleans())
def test_19_a_line_typed_into_a_reply_stands_once(
    pieces: list[str], data: st.DataObject, eol: bytes, ends: bool, later: bool
) -> None:
    """Into any version that an editor may have loaded, at any line; and again with the same stale buffer."""
    daemon = Daemon(HEAD.replace(b"\n", eol))
    content = HEAD.replace(b"\n", eol) + b"Question" + eol + b"/send" + eol
    daemon.take(content)
    versions = [_file(daemon, content)]
    for number, piece in enumerate(pieces):
        daemon.stream(f"word{number}q {piece}", "done" if ends and number == len(pieces) - 1 else "")
        versions.append(_file(daemon, versions[-1]))
    loaded = data.draw(st.sampled_from(versions))
    region = next(region for region in scan(loaded, TAG) if region.part is Part.REPLY)
    starts = [place + 1 for place in range(len(region.body)) if region.body[place : place + 1] == b"\n"]
    start = loaded.index(region.open) + len(region.open) + data.draw(st.sampled_from(starts))
    saved = loaded[:start] + b"Typed by hand zq" + eol + loaded[start:]
    for buffer in (saved, saved, saved + b"below" + eol):
        merged = daemon.take(buffer)
        assert daemon.memory.content().count(b"Typed by hand zq") == 1 or (merged.aside and b"Typed by hand zq" in buffer)
        body = next(region.body for region in daemon.memory.document.regions if region.id == "a0001")
        assert re.findall(rb"word\dq", body) == re.findall(rb"word\dq", daemon.replies["a0001"].body().encode())
        _file(daemon, buffer)
        if later and daemon.running:
            daemon.stream("and more")
    _whole(daemon, daemon.memory.content())


@given(st.lists(answers, min_size=1, max_size=5), st.data(), eols, st.booleans(), st.booleans())
def test_20_an_editor_that_is_behind_removes_nothing(
    turns: list[list[str]], data: st.DataObject, eol: bytes, typed: bool, ends: bool
) -> None:
    cut = data.draw(st.integers(0, len(turns)))
    _, old = talk(turns[:cut], eol)
    daemon, content = talk(turns, eol, ends)
    bodies = {region.id: region.body for region in scan(content, TAG) if region.part.turn}
    saved = old + (b"typed zq" + eol if typed else b"")
    for _ in range(2):
        daemon.take(saved)
        now = {region.id: region.body for region in daemon.memory.document.regions if region.part.turn}
        assert list(now) == list(bodies)
        assert {name: body.split() for name, body in now.items() if name[0] == "a"} == {
            name: body.split() for name, body in bodies.items() if name[0] == "a"
        }
        assert daemon.memory.content().count(b"typed zq") == typed


@given(st.lists(answers, min_size=2, max_size=5), st.data(), eols)
def test_21_a_deleted_exchange_stays_deleted_if_it_was_loaded(turns: list[list[str]], data: st.DataObject, eol: bytes) -> None:
    loaded = data.draw(st.integers(1, len(turns)))
    gone = data.draw(st.integers(1, loaded))
    _, old = talk(turns[:loaded], eol)
    daemon, content = talk(turns, eol)
    saved = join(tuple(region for region in scan(old, TAG) if region.id not in (f"u{gone:04}", f"a{gone:04}")))
    for _ in range(2):
        daemon.take(saved)
        expected = [name for name in ids(content) if name not in (f"u{gone:04}", f"a{gone:04}")]
        assert ids(daemon.memory.content()) == expected
    behind = re.sub(rb"(op:k7q2 next)[^\n]* -->", rb"\1 -->", old)  # an editor from before the first turn had ended
    daemon, content = talk(turns, eol)
    daemon.take(join(tuple(region for region in scan(behind, TAG) if region.id not in (f"u{gone:04}", f"a{gone:04}"))))
    assert ids(daemon.memory.content()) == ids(content)


PIECES = st.lists(st.sampled_from([*(line + b"\n" for line in LINES[:13]), b"\xef\xbb\xbf", b"\r\n"]), max_size=14).map(b"".join)


@given(PIECES, PIECES, PIECES, PIECES)
def test_scanning_what_changed_finds_what_scanning_all_does(start: bytes, old: bytes, fresh: bytes, rest: bytes) -> None:
    before, after = start + old + rest, start + fresh + rest
    assert rescan(scan(before, TAG), before, after, TAG) == scan(after, TAG)
