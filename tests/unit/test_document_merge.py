"""A person's save, case by case; the numbers are those of the design's list of edge cases."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from opagent.document import parts
from opagent.document.draft import Gesture, read
from opagent.document.edit import Opening, new
from opagent.document.memory import Memory
from opagent.document.merge import Merged, merge
from opagent.document.parse import join, scan
from opagent.document.records import Fact
from tests.doubles.texts import AT, HEADER, TAG, ids

FILES = Path(__file__).resolve().parent.parent / "corpus" / "files"
BOX = b"- [ ] **Send**"
TICKED = b"- [x] **Send**"
HEAD = new(HEADER, "alice").content().split(b"<!-- op:")[0]
EXCHANGE = (FILES / "31-bom.md").read_bytes().removeprefix(b"\xef\xbb\xbf")  # one finished exchange and a draft


class Talk:
    """A conversation with its memory; `file` is what was written last."""

    def __init__(self, content: bytes = HEAD) -> None:
        self.memory = Memory.of(content, TAG, "alice")
        self.file = content
        self.write()

    def write(self) -> bytes:
        self.file = self.memory.version(len(self.file)) if self.memory.content() != self.file else self.file
        self.log = self.memory.written(self.file)
        return self.file

    def save(self, content: bytes, **how: int) -> Merged:
        merged = merge(self.memory, content, **how)  # type: ignore[arg-type]
        if not merged.stop:
            assert merged.content == self.memory.content()
            assert self.memory.document.regions == scan(merged.content, TAG)
            again = merge(self.memory, merged.content)
            assert not again.facts and again.content == merged.content
        self.file = content
        return merged

    def restart(self) -> None:
        """Another daemon, which has the file and what the log says of its last version."""
        self.memory = Memory.of(self.file, TAG, "alice")
        self.memory.restore(self.log)

    def send(self, number: int = 0) -> bytes:
        """What the draft says, as a message with an open reply."""
        raw = self.memory.draft()
        said = read(raw)
        assert said.gesture.sends and said.text
        text = said.text.decode("utf-8", "surrogateescape")
        self.memory.begin(Opening(f"u{number:04}", f"a{number:04}", "alice", text, "writer", AT, AT, via=""), raw)
        return said.text

    def stream(self, text: str, number: int = 0, end: str = "") -> bytes:
        self.memory.put(f"a{number:04}", text, (end, AT) if end else ("running",), not end)
        return self.write()

    def exchange(self, number: int, said: bytes, answer: str) -> bytes:
        """Typed in an editor that has loaded all, sent and answered."""
        content = self.file.replace(BOX, said + b"\n\n" + TICKED) if BOX in self.file else self.file + said + b"\n/send\n"
        self.save(content)
        self.send(number)
        return self.stream(answer, number, "done")


def what(merged: Merged) -> list[tuple[str, str]]:
    return [(fact.what, fact.region) for fact in merged.facts]


def talk(turns: int = 1) -> Talk:
    made = Talk()
    for number in range(turns):
        made.exchange(number, b"Question %d?" % number, f"Answer {number} of some length.\n\nIts second paragraph {number}.\n")
    return made


# ---- files -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["31-bom", "32-bom-crlf", "32-crlf", "34-latin1", "36-mixed-line-ends", "40-keys-comments-anchors",
                                  "41-broken-yaml", "43-id-deleted", "35-no-final-newline", "43-front-matter-deleted"])  # fmt: skip
def test_what_the_person_has_stays_byte_for_byte(name: str) -> None:
    """31 to 36, 40, 41, 43: a save with a changed draft, then a message; nothing else of the person's bytes changes."""
    content = (FILES / f"{name}.md").read_bytes()
    eol = b"\r\n" if content.count(b"\r\n") * 2 > content.count(b"\n") else b"\n"
    made = Talk(content)
    saved = content + (b"" if content.endswith(b"\n") else eol) + b"caf\xe9" + eol + b"/send" + eol
    merged = made.save(saved)
    assert merged.content == saved and not merged.facts and merged.gestures
    text = made.send(1)
    assert text.endswith(b"caf\xe9")
    written = made.stream("Answer.\n", 1, "done")
    before, after = scan(content, TAG), scan(written, TAG)
    assert [region.id for region in after] == ["", "u1aaa", "a1aaa", "u0001", "a0001", "next"]
    for old, fresh in zip(before[:2], after[:2], strict=True):
        assert fresh.raw == old.raw
    assert after[2].body == before[2].body
    assert b"caf\xe9" in after[3].body
    assert written.startswith(b"\xef\xbb\xbf") == content.startswith(b"\xef\xbb\xbf")
    ours = b"".join(region.open + region.close for region in after[3:])
    assert (b"\r\n" in ours) == (eol == b"\r\n") and ours.count(b"\n") == ours.count(eol)


@pytest.mark.parametrize("path", sorted(FILES.glob("*.md")), ids=lambda path: path.stem)
def test_every_odd_file_is_merged_and_then_stays(path: Path) -> None:
    """The corpus as a save of the file that each of them was made from."""
    made = Talk(EXCHANGE)
    merged = made.save(path.read_bytes())
    if not merged.stop:
        deleted = {fact.region for fact in merged.facts if fact.what == "deleted"}
        there = [region.id for region in scan(merged.content, TAG)]
        assert ({"u1aaa", "a1aaa"} <= {*there, *deleted} and there[-1:] != [""]) or not there[1:]
        made.save(made.write() + b"\none more\n/send\n")
        assert made.send(1).endswith(b"one more")
        assert [region.id for region in scan(made.write(), TAG)][-3:] == ["u0001", "a0001", "next"]


def test_33_utf16_is_no_edit() -> None:
    made = talk()
    before = made.file
    merged = made.save(made.file.decode().encode("utf-16"))
    assert merged.stop and what(merged) == [("torn", "")]
    assert made.memory.content() == before


@pytest.mark.parametrize("content", [b"", b"\n \r\n\t", b"abc\0def"])
def test_37_torn(content: bytes) -> None:
    made = talk()
    before = made.file
    merged = made.save(content)
    assert merged.stop and not merged.aside and what(merged) == [("torn", "")]
    assert made.memory.content() == before


def test_38_only_front_matter() -> None:
    made = Talk((FILES / "38-only-front-matter.md").read_bytes())
    assert not made.save(made.file + b"\nhello\n/send").facts
    assert made.send() == b"hello"
    assert ids(made.write()) == ["", "u0000", "a0000", "next"]


def test_39_a_plain_file_becomes_a_conversation() -> None:
    made = Talk(b"hello\nthere\n")
    made.save(b"hello\nthere\n/send\n")
    made.memory.adopt({"opagent": "1", **HEADER})
    assert made.send() == b"hello\nthere"
    assert made.write().startswith(b"---\nopagent: 1\nconversation: k7q2-m4x8p3\n")
    assert made.file.endswith(b"running -->\n\n<!-- op:k7q2 next -->\n## Alice\n\n- [ ] **Send**\n")
    assert made.memory.last_turn_ours()


@pytest.mark.parametrize("change", [(b"title: Tighten", b"# mine\ntitle: Loosen"), (b"conversation: k7q2-m4x8p3", b"conversation: k7q2-aaaaaa"),
                                    (b"conversation: k7q2-m4x8p3\n", b""), (b"agent: writer\n", b"agent: [x, &a y]\nz: *a\n"), (b"---\n\n", b"\n\n")])  # fmt: skip
def test_40_to_43_front_matter_is_the_persons(change: tuple[bytes, bytes]) -> None:
    made = talk(2)
    saved = made.file.replace(*change, 1)
    merged = made.save(saved)
    assert merged.content == saved and not merged.facts
    made.exchange(2, b"more", "Answer.\n")
    assert made.file.startswith(saved.split(b"<!-- op:")[0])


# ---- gestures and the draft area -------------------------------------------------------------------------------------------


def test_56_a_save_without_change() -> None:
    made = talk(2)
    assert made.save(made.file) == Merged(made.file)


def test_57_to_61_gestures_of_a_save() -> None:
    made = talk()
    for typed, gesture in (
        (b"/", Gesture.NONE), (b"/sen", Gesture.NONE), (b"/send", Gesture.SEND), (b"/send\nand more", Gesture.NONE),
        (b"/sender", Gesture.NONE), (b"```\ncode\n/send", Gesture.SEND),
    ):  # fmt: skip
        merged = made.save(made.memory.content().split(BOX)[0] + BOX + b"\nhello\n" + typed)
        assert merged.gestures and not merged.facts and not merged.aside
        assert read(made.memory.draft()).gesture is gesture, typed
    assert made.send(1) == b"hello\n```\ncode"
    assert b"```\ncode\n```\n\n<!-- op:k7q2 a0001" in made.write()
    empty = made.file.replace(BOX, TICKED)
    assert not made.save(empty).facts and read(made.memory.draft()).text == b""
    made.memory.obeyed()
    assert made.write().endswith(b"## Alice\n\n- [ ] **Send**\n")


def test_62_the_box_is_deleted() -> None:
    made = talk()
    saved = made.file.replace(BOX, b"hello\n/send")
    assert made.save(saved).content == saved
    assert made.send(1) == b"hello"
    assert made.write().endswith(b"## Alice\n\n- [ ] **Send**\n")


@pytest.mark.parametrize(
    "gone", [rb"<!-- op:k7q2 next.*\n", rb"<!-- op:k7q2 next.*\n## Alice\n", rb"(?<=-->\n)## Alice\n(?=\n- \[)"]
)
def test_63_66_marker_or_heading_of_the_draft_area_deleted(gone: bytes) -> None:
    made = talk(2)
    saved = re.sub(gone, b"", made.file).replace(BOX, b"hello\n\n" + TICKED)
    assert saved != made.file
    merged = made.save(saved)
    assert not merged.facts and read(made.memory.draft()).text == b"hello"
    assert ids(merged.content) == ["", "u0000", "a0000", "u0001", "a0001", "next"]
    assert made.send(2) == b"hello"


@pytest.mark.parametrize("running", [False, True])
def test_64_end_marker_deleted(running: bool) -> None:
    made = talk(2)
    if running:
        made.save(made.file.replace(BOX, b"and?\n\n" + TICKED))
        made.send(2)
        made.stream("First line of it.\n", 2)
    close = re.findall(rb"<!-- op:k7q2 /a\d+ .*\n", made.file)[-1]
    merged = made.save(made.file.replace(close, b"").replace(BOX, b"my text\n\n" + BOX))
    assert ("repaired", "a0002" if running else "a0001") in what(merged) or b"<!-- op:k7q2 next" in made.file
    assert close in merged.content and read(made.memory.draft()).text == b"my text"


def test_64_both_markers_between_reply_and_draft_deleted() -> None:
    made = talk(1)
    saved = re.sub(rb"<!-- op:k7q2 (/a0000|next).*\n", b"", made.file).replace(BOX, b"my text\n/send\n")
    merged = made.save(saved)
    assert what(merged) == [("repaired", "a0000")]
    assert read(made.memory.draft()) == read(b"my text\n/send\n")
    assert b"Its second paragraph 0.\n\n<!-- op:k7q2 /a0000 done" in merged.content


def test_65_start_markers_deleted() -> None:
    made = talk(2)
    reply = re.search(rb"<!-- op:k7q2 a0001 .*\n", made.file)
    assert reply
    merged = made.save(made.file.replace(reply.group(), b""))
    assert what(merged) == [("repaired", "a0001")] and merged.content == talk(2).file
    message = re.search(rb"<!-- op:k7q2 u0001 .*\n", merged.content)
    assert message
    merged = made.save(merged.content.replace(message.group(), b""))
    assert what(merged) == [("deleted", "u0001")] and b"Question 1?" in merged.content


def test_66_headings_of_turns_translated() -> None:
    made = talk()
    merged = made.save(made.file.replace(b"## Writer", b"## Schreiber"))
    assert what(merged) == [("reply_edited", "a0000")] and b"## Schreiber" in merged.content
    merged = made.save(merged.content.replace(b"## Alice \xc2\xb7 ", b"## Alicja \xc2\xb7 "))
    assert what(merged) == [("edited", "u0000")] and read(made.memory.draft()).gesture is Gesture.NONE


def test_67_a_turn_moved() -> None:
    made = talk(3)
    regions = scan(made.file)
    moved = join((regions[0], *regions[3:5], *regions[1:3], *regions[5:]))
    merged = made.save(moved)
    assert merged.content == moved and not merged.facts
    behind = join((*regions[:5], regions[7], *regions[5:7]))  # behind the draft area
    merged = made.save(behind)
    assert ids(merged.content) == ["", "u0000", "a0000", "u0001", "a0001", "u0002", "a0002", "next"]


def test_68_a_turn_copied_is_text() -> None:
    made = talk(2)
    regions = scan(made.file)
    saved = join((*regions[:3], *regions[1:3], *regions[3:]))
    merged = made.save(saved)
    assert merged.content == saved and ids(merged.content) == ids(made.file)
    assert read(made.memory.draft()).gesture is Gesture.NONE and made.memory.last_turn_ours()


def test_69_turns_of_another_conversation() -> None:
    made = talk(1)
    other = made.file.split(b"---\n\n")[1].replace(b"k7q2", b"zzzz")
    pasted = made.file.replace(b"<!-- op:k7q2 next", b"```\n" + other + b"```\n<!-- op:k7q2 next").replace(BOX, other + BOX)
    merged = made.save(pasted)
    assert merged.content == pasted and not merged.facts and ids(merged.content) == ["", "u0000", "a0000", "next"]
    unknown = made.memory.content().replace(b"<!-- op:k7q2 u0000", b"<!-- op:k7q2 u9999 you bob T -->\nhi\n\n<!-- op:k7q2 u0000")
    merged = made.save(unknown)
    assert what(merged) == [("imported", "u9999")] and merged.content == unknown
    assert merged.facts[0].body == b"<!-- op:k7q2 u9999 you bob T -->\nhi\n\n"


def test_an_imported_last_turn_is_not_ours() -> None:
    made = talk(1)
    grown = talk(2)
    assert made.memory.last_turn_ours()
    merged = made.save(grown.file)
    assert what(merged) == [("imported", "u0001"), ("imported", "a0001")]
    assert not made.memory.last_turn_ours() and ids(merged.content) == ids(grown.file)
    assert not Memory.of(grown.file, TAG, "alice", imported=True).last_turn_ours()
    made.exchange(2, b"mine", "Answer.\n")
    assert made.memory.last_turn_ours()


# ---- editing while it runs -------------------------------------------------------------------------------------------------


def running() -> Talk:
    """One finished exchange, then a reply with two lines so far."""
    made = talk(1)
    made.save(made.file.replace(BOX, b"Go on\n\n" + TICKED))
    made.send(1)
    made.stream("First line of the second reply.\n", 1)
    made.stream("First line of the second reply.\nSecond line comes.\n", 1)
    return made


def test_70_an_old_message_edited_while_the_agent_runs() -> None:
    made = running()
    merged = made.save(made.file.replace(b"Question 0?", b"Question zero?"))
    assert what(merged) == [("edited", "u0000")] and b"Question zero?" in merged.facts[0].body
    assert b"Question zero?" in made.stream("All of it.\n", 1, "done")
    stale = made.save(made.file.replace(b"Question zero?", b"Question 0?"))  # an editor that was behind
    assert not stale.facts and b"Question zero?" in stale.content


def _to_the_top(content: bytes, *names: str, behind: bytes = b"") -> bytes:
    """A buffer in which these turns, and a note behind them, stand before all others."""
    regions = scan(content, TAG)
    turn = b"".join(region.raw for region in regions if region.id in names)
    return content.replace(turn, b"").replace(regions[1].open, turn + behind + regions[1].open)


def test_a_running_reply_that_was_put_before_finished_ones_is_whole() -> None:
    made = running()
    buffer = _to_the_top(made.file, "u0001", "a0001")
    made.save(buffer.replace(b"Second line", b"typed inside\nSecond line"))
    made.stream("First line of the second reply.\nSecond line comes.\nThird.\n", 1, "done")
    made.save(buffer.replace(b"Second line", b"typed inside\nand there\nSecond line"))
    content = made.write()
    assert b"Third." in content and content.count(b"typed inside") == content.count(b"and there") == 1
    assert ids(content) == ["", "u0001", "a0001", "u0000", "a0000", "next"]


def test_what_stands_behind_a_turn_that_comes_back_stays_once() -> None:
    """A running turn is cut out, with the note left that stood behind it."""
    made = running()
    made.save(_to_the_top(made.file, "u0001", "a0001", behind=b"a margin note\n"))
    content = made.write()
    regions = scan(content, TAG)
    cut = b"".join((regions[1].raw, regions[2].open, regions[2].body, regions[2].close))
    for _ in range(2):
        merged = made.save(content.replace(cut, b""))
        assert {("restored", "u0001"), ("restored", "a0001")} <= set(what(merged))
        assert made.write().count(b"a margin note") == 1


def test_who_has_the_turn_that_ended_last_has_all_before_it_wherever_they_stand() -> None:
    made = running()
    made.save(_to_the_top(made.file, "u0001", "a0001"))
    content = made.stream("First line of the second reply.\nSecond line comes.\nThird.\n", 1, "done")
    assert b"next after=a0001 " in content and ids(content) == ["", "u0001", "a0001", "u0000", "a0000", "next"]
    regions = scan(content, TAG)
    first, second = (b"".join(region.raw for region in regions[place : place + 2]) for place in (1, 3))
    made.save(content.replace(second, b""))
    assert ids(made.write()) == ["", "u0001", "a0001", "next"]
    made.save(content.replace(second, b"").replace(first, b""))
    assert ids(made.write()) == ["", "next"]


def test_a_save_that_changes_a_turn_of_a_part_is_told_from_others() -> None:
    made = talk(4)
    before = made.file.replace(b"<!-- op:" + TAG.encode() + b" u0001", b"a margin note\n<!-- op:" + TAG.encode() + b" u0001")
    made.save(before)
    split = parts.split(made.file, "c.md", "s0001", limit=1)
    assert split
    made.memory.rewrite(split.content)
    made.write()
    assert not made.memory.cannot_keep(before) and not made.memory.rescue(before)
    assert made.memory.cannot_keep(before.replace(b"paragraph 0", b"paragraph of mine"))


@pytest.mark.parametrize("ending", [b"", b"/send\n"])
def test_a_margin_note_behind_the_last_turn_of_a_stale_editor_stays_there(ending: bytes) -> None:
    made = talk(1)
    stale = made.file + b"typed late\n" + ending
    made.exchange(1, b"Go on", "More of it.\n")
    made.save(made.file.replace(b"<!-- op:" + TAG.encode() + b" u0001", b"a margin note\n<!-- op:" + TAG.encode() + b" u0001"))
    made.memory.records.watch([b"a margin note"])
    made.write()
    made.save(stale)
    content = made.write()
    regions = {region.id: region for region in scan(content, TAG)}
    assert regions["a0000"].tail.strip() == b"a margin note" and content.count(b"a margin note") == 1
    assert read(made.memory.draft()).text == b"typed late" and ids(content) == ["", "u0000", "a0000", "u0001", "a0001", "next"]


def test_71_text_typed_into_a_running_reply() -> None:
    made = running()
    saved = made.file.replace(b"Second line", b"wait, I meant\nthe other one\nSecond line").replace(BOX, TICKED)
    made.stream("First line of the second reply.\nSecond line comes.\nThird.\n", 1)
    merged = made.save(saved)
    assert what(merged) == [("moved_to_draft", "a0001")] and not merged.aside and not merged.gestures
    assert read(made.memory.draft()) == read(b"wait, I meant\nthe other one\n")
    assert merged.content.count(b"wait, I meant") == 1 and b"Third." in merged.content
    assert merged.content.endswith(b"## Alice\n\nwait, I meant\nthe other one\n\n- [ ] **Send**\n")
    made.write()
    again = made.save(saved)  # the same stale buffer
    assert again.content.count(b"wait, I meant") == 1 and b"Third." in again.content
    ended = made.stream("First line of the second reply.\nSecond line comes.\nThird.\n", 1, "done")
    assert ended.count(b"wait, I meant") == 1


@pytest.mark.parametrize("line", [b"- [x] **Send**", b"/send", b"/cancel"])
def test_a_gesture_typed_into_a_reply_is_none(line: bytes) -> None:
    made = running()
    for saved in (
        made.file.replace(b"Second line", line + b"\nSecond line"),
        made.file.replace(b"Second line", b"words\n" + line + b"\nSecond line"),
    ):
        merged = made.save(saved.replace(BOX, b"my text\n\n" + TICKED))
        assert not merged.gestures and read(made.memory.draft()).gesture is Gesture.NONE
        assert line not in made.memory.document.regions[4].body and b"my text" in read(made.memory.draft()).text
    assert read(made.memory.draft()).text == b"words\n\nmy text"


def test_a_finished_reply_that_was_seen_can_be_edited() -> None:
    made = talk(2)
    merged = made.save(made.file.replace(b"Answer 1", b"My answer 1"))
    assert what(merged) == [("reply_edited", "a0001")] and b"My answer 1" in merged.content
    made.memory.put("a0001", "Rendered anew.\n", ("done", AT, "in=5"), False)  # late usage: the text stays the person's
    assert b"My answer 1" in made.memory.content() and b"done 2026-11-20T09:14:05Z in=5 -->" in made.memory.content()


@pytest.mark.parametrize("left", [b"", b"---\nopagent: 1\nconversation: k7q2-m4x8p3\nagent: writer\n---\n"])
def test_72_all_selected_and_deleted(left: bytes) -> None:
    made = running()
    merged = made.save(left)
    if not left:
        assert merged.stop
        return
    assert {fact.what for fact in merged.facts} == {"restored"} and not merged.aside
    assert ids(merged.content) == ["", "u0000", "a0000", "u0001", "a0001", "next"]
    assert merged.content.startswith(left)


def test_73_undo_to_before_the_send() -> None:
    made = talk(1)
    before = made.file.replace(BOX, b"Go on\nwith it\n\n" + BOX)
    made.save(before)
    made.save(before.replace(BOX, TICKED))
    made.send(1)
    made.stream("Yes.\n", 1)
    merged = made.save(before)  # the text stands in the draft again: it was sent, and is not sent twice
    assert what(merged) == [("restored", "u0001"), ("restored", "a0001")]
    assert merged.content.count(b"with it") == 1 and read(made.memory.draft()) == read(b"")
    changed = made.save(before.replace(b"with it", b"without it"))
    assert ("edited", "u0001") in what(changed) and b"without it" in changed.content


def test_74_86_formatters() -> None:
    """What they do to the bytes; while the reply streams its text stays whole and none of it gets into the draft."""
    made = talk(2)
    for change in FORMATTERS:
        changed = change(made.file)
        merged = Talk(made.file).save(changed)
        assert not merged.stop and not merged.aside, change
        assert {fact.what for fact in merged.facts} <= {"edited", "reply_edited"}, change
        assert ids(merged.content) == ids(made.file)
    streaming = running()
    for change in FORMATTERS:
        made = running()
        old = made.file
        made.stream("First line of the second reply.\nSecond line comes.\nIt goes on.\n", 1)
        merged = made.save(change(old))
        assert not merged.stop and read(made.memory.draft()).text == b"", change
        assert {fact.what for fact in merged.facts} <= {"edited", "reply_edited", "not_kept"}
        assert merged.aside == ("not_kept" in {fact.what for fact in merged.facts})
        assert b"Second line comes." in merged.content and b"It goes on." in merged.content
        assert ids(merged.content) == ids(streaming.file)


def _wrapped(content: bytes) -> bytes:
    """Every word on a line of its own, but for markers."""
    return re.sub(rb"(?m)^(?!<!--|## |---|- \[).+$", lambda line: line.group().replace(b" ", b"\n"), content)


FORMATTERS = [
    lambda content: re.sub(rb"(?m)[ \t]+$", b"", content),
    lambda content: content.replace(b"\n", b"\r\n"),
    lambda content: b"\xef\xbb\xbf" + content,
    lambda content: content.rstrip(b"\n"),
    lambda content: re.sub(rb"\n{3,}", b"\n\n", content),
    lambda content: content.replace(b"\n\n", b"\n\n\n"),
    lambda content: content.replace(b"- [ ]", b"* [ ]"),
    lambda content: content.replace(b"## Writer \xc2\xb7", b"##  Writer \xc2\xb7").replace(
        b"<!-- op:k7q2 /", b"\n<!-- op:k7q2 /"
    ),
    _wrapped,
]


@pytest.mark.parametrize(
    "change",
    [
        lambda content: re.sub(rb"(?m)^<!--.*-->\n", b"", content),
        lambda content: re.sub(rb"(?m)^", b"  ", content),
        lambda content: content.replace(b"\n", b"\r"),
    ],
)
def test_all_comments_stripped_or_all_lines_indented_is_damage(change: object) -> None:
    made = running()
    before = made.memory.content()
    merged = made.save(change(made.file))  # type: ignore[operator]
    assert merged.stop and merged.aside and [fact.what for fact in merged.facts] == ["damaged"]
    assert made.memory.content() == before


@pytest.mark.parametrize("behind", [1, 2, 3])
def test_75_85_stale_buffers(behind: int) -> None:
    """An editor that loaded the file before some exchanges: unchanged, and with its draft changed."""
    made = talk(1)
    old = made.file
    for number in range(1, 1 + behind):
        made.exchange(number, b"More %d" % number, f"Answer {number}.\n")
    whole = made.file
    merged = made.save(old)
    assert merged.content == whole and all(fact.what == "restored" for fact in merged.facts)
    merged = made.save(old.replace(BOX, b"typed behind\n\n" + TICKED + b"\n/send" * behind))
    assert merged.gestures and not merged.aside
    assert read(made.memory.draft()) == read(b"typed behind\n/send")
    assert ids(merged.content) == ids(whole)


def test_75_two_stale_editors_that_type_into_one_sent_draft() -> None:
    """What the first put into the message has never been in the second one's buffer."""
    made = talk(1)
    loaded = made.file.replace(BOX, b"one\ntwo\n\n" + BOX)
    made.save(loaded.replace(BOX, TICKED))
    made.send(1)
    made.stream("Answer.\n", 1, "done")
    made.save(loaded.replace(b"two\n", b"typed by the first\ntwo\n"))
    made.write()
    merged = made.save(loaded.replace(b"one\n", b"typed by the second\none\n"))
    assert [merged.content.count(line) for line in (b"typed by the first", b"typed by the second", b"one\n", b"two\n")] == [1] * 4


@pytest.mark.parametrize("where", [b" u0001", b" next"], ids=["margin", "draft"])
@pytest.mark.parametrize("eol", [b"\n", b"\r\n"], ids=["lf", "crlf"])
def test_blanks_at_the_end_of_a_line_stay_where_another_line_is_kept_behind_it(eol: bytes, where: bytes) -> None:
    """Two of them break a line."""
    made = Talk(HEAD.replace(b"\n", eol))
    made.exchange(0, b"Question?", "Answer.\n")
    made.exchange(1, b"Another?", "Answer.\n")
    place = made.file.index(b"<!-- op:" + TAG.encode() + where)
    made.save(made.file[:place] + b"kept" + eol + made.file[place:])
    made.write()
    made.memory.records.watch([b"kept"])
    merged = made.save(made.file.replace(b"kept" + eol, b"typed  " + eol + eol))
    assert b"\ntyped  " + eol + b"kept" + eol in merged.content


def test_75_stale_with_the_text_that_was_sent() -> None:
    """It never saw its draft being sent: the text goes back to its message, what is new is the draft, the gesture counts if new."""
    made = talk(1)
    first = made.file.replace(BOX, b"Go on\n\n" + TICKED)
    made.save(first)
    made.send(1)
    made.stream("Yes.\n", 1, "done")
    merged = made.save(first.replace(TICKED, b"then this\n\n" + TICKED))
    assert not merged.gestures, "the tick is the one that was obeyed"
    assert merged.content.count(b"Go on") == 1 and read(made.memory.draft()) == read(b"then this")
    merged = made.save(first.replace(TICKED, b"then this\n\n" + TICKED) + b"/send\n")
    assert merged.gestures and made.send(2) == b"then this"


def test_90_a_whole_exchange_deleted() -> None:
    made = talk(3)
    regions = scan(made.file)
    saved = join((*regions[:3], *regions[5:]))
    merged = made.save(saved)
    assert what(merged) == [("deleted", "u0001"), ("deleted", "a0001")] and merged.content == saved
    assert "a0001" not in ids(made.stream("Late.\n", 1, "done")), "what was deleted stays deleted"
    back = made.save(join(regions))
    assert what(back) == [("restored", "u0001"), ("restored", "a0001")] and back.content == join(regions)
    running_one = running()
    merged = running_one.save(join((*scan(running_one.file)[:3], scan(running_one.file)[5])))
    assert {fact.what for fact in merged.facts} == {"restored"}, "not while it runs"


def test_a_new_turn_that_stands_before_old_ones_is_not_deleted_by_an_editor_that_never_had_it() -> None:
    """A person has put exchanges into another order, so what stands before the last one may be newer than it."""
    made = talk(2)
    regions = scan(made.file)
    made.save(join((regions[0], *regions[3:5], *regions[1:3], regions[5])))
    stale = made.write()
    made.exchange(2, b"More", "Answer.\n")
    regions = scan(made.memory.content())
    made.save(join((regions[0], *regions[5:7], *regions[1:5], regions[7])))
    made.write()
    assert ids(made.memory.content())[-1] == ids(stale)[-1], "both end with the same turn"
    merged = made.save(stale.replace(BOX, b"a line\n\n" + BOX))
    assert what(merged) == [("restored", "u0002"), ("restored", "a0002")] and b"a line" in merged.content


def test_the_log_has_the_reply_as_it_stands_when_two_editors_wrote_into_it() -> None:
    made = talk(1)
    stale = made.file
    merge(made.memory, stale.replace(b"Answer 0", b"one\nAnswer 0"), displaced=stale)
    made.write()
    merged = made.save(stale.replace(b"Answer 0", b"two\nAnswer 0"))
    (fact,) = [fact for fact in merged.facts if fact.what == "reply_edited"]
    assert b"one\n" in fact.body and b"two\n" in fact.body and fact.body in merged.content


def test_who_has_loaded_the_version_with_both_may_change_a_line_that_was_saved_over() -> None:
    made = talk(1)
    between = made.file
    merge(made.memory, between.replace(BOX, b"* not sent yet  \n\n" + BOX), displaced=between)
    both = made.write()
    made.restart()
    merged = made.save(both.replace(b"* not sent yet  ", b"- not sent yet"))
    assert merged.content.count(b"not sent yet") == 1 and b"- not sent yet\n" in merged.content


def test_a_formatter_may_choose_another_bullet_in_a_line_that_no_version_of_ours_had_yet() -> None:
    made = talk(1)
    between = made.file
    save = between.replace(BOX, b"* not sent yet  \n\n" + BOX)
    merge(made.memory, save, displaced=between)
    made.write()
    merged = made.save(save.replace(b"* not sent yet  ", b"- not sent yet"))
    assert merged.content.count(b"not sent yet") == 1


def test_who_has_loaded_the_version_in_between_may_not() -> None:
    made = talk(1)
    between = made.file
    merge(made.memory, between.replace(BOX, b"of one\n\n" + BOX), displaced=between)
    made.write()
    made.restart()
    merged = made.save(between.replace(BOX, b"of another\n\n" + BOX))
    assert b"of one\n" in merged.content and b"of another\n" in merged.content


def test_a_note_behind_the_first_exchange_stays_when_that_is_deleted_and_comes_back() -> None:
    """It stands above all turns then, in a save that we had written over: who loaded what we wrote never had it."""
    made = talk(2)
    between = made.file
    _, message, reply, *_ = scan(between)
    exchange = b"".join((message.open, message.body, message.close, message.tail, reply.open, reply.body, reply.close))
    save = between.replace(exchange, b"\na note\n").replace(BOX, b"one\n\n" + BOX)
    merge(made.memory, save, displaced=between)
    made.write()
    merged = made.save(between.replace(BOX, b"two\n\n" + BOX))
    assert set(what(merged)) == {("restored", message.id), ("restored", reply.id)}
    assert [merged.content.count(line) for line in (b"a note\n", b"one\n", b"two\n")] == [1, 1, 1]


def test_a_line_in_a_reply_of_a_save_that_nobody_merged_is_kept() -> None:
    made = talk(2)
    made.write()
    save = made.file.replace(b"Answer 0", b"typed by a person\nAnswer 0").replace(b"Its second paragraph 1.", b"Its second para")
    assert made.memory.rescue(save)
    draft = made.memory.draft()
    assert b"typed by a person" in draft and b"para" not in draft, "of the agent's own words nothing is the person's"
    assert not made.memory.rescue(save)


def test_77_an_older_version_by_git() -> None:
    made = talk(1)
    old = made.file
    made.exchange(1, b"More", "Answer.\n")
    merged = made.save(old, git=True)
    assert what(merged) == [("reverted", "u0001"), ("reverted", "a0001")] and merged.content == old
    made = talk(1)
    old = made.file
    made.save(old.replace(b"Question 0", b"Question zero").replace(b"Answer 0", b"Answer zero"))
    made.write()
    merged = made.save(old, git=True)
    assert what(merged) == [("reverted", "u0000"), ("reverted", "a0000")] and merged.content == old
    made.exchange(1, b"More", "Answer.\n")
    assert made.save(old).content == made.memory.content() and ids(made.memory.content())[-2] == "a0001", "not by git: put back"
    made.save(made.memory.content().replace(BOX, b"and\n" + TICKED))
    made.send(2)
    made.stream("x\n", 2)
    assert {fact.what for fact in made.save(old, git=True).facts} == {"restored"}, "while a turn runs it is put back"


def test_an_older_version_by_git_into_which_somebody_wrote() -> None:
    made = talk(1)
    old = made.file
    made.exchange(1, b"More", "Answer.\n")
    note, stamp = old + b"a note\n", 1763628843  # 2025-11-20T08:54:03Z
    assert b"note" in made.save(note, git=True, switched=stamp).content and "a0001" in ids(made.memory.content()), "it came later"
    made = talk(1)
    made.exchange(1, b"More", "Answer.\n")
    merged = made.save(note, git=True, switched=2**33)
    assert "a0001" not in ids(merged.content) and b"a note" in merged.content


# ---- ticks, notes, commands, parts -----------------------------------------------------------------------------------------


ASK = (
    "<!-- op:k7q2 p5t2w ask 2026-11-20T09:15:10Z sum=9f31c2d0 -->\n> [!IMPORTANT]\n> **Writer asks to run a command**\n>\n> ```sh\n"
    "> make\n> ```\n\n- [ ] Allow once\n- [ ] Deny\n\n<!-- op:k7q2 /p5t2w open -->\n"
)


def test_a_tick_is_read_and_undone() -> None:
    made = running()
    text = "First line of the second reply.\n\n" + ASK
    before = made.stream(text, 1)
    merged = made.save(before.replace(b"- [ ] Allow once", b"- [x] Allow once"))
    assert not merged.facts and merged.content == before
    assert [(tick.approval, tick.chosen) for tick in merged.ticks] == [("p5t2w", ("Allow once",))]
    made.write()
    typed = made.save(before.replace(b"- [ ] Deny", b"- [x] Deny: no").replace(b"First line", b"my words\nFirst line"))
    assert [tick.words for tick in typed.ticks] == ["no"] and read(made.memory.draft()).text == b"my words"
    elsewhere = made.save(
        made.memory.content().replace(b"Its second", ASK.replace("[ ] Allow", "[x] Allow").encode() + b"Its second")
    )
    assert elsewhere.ticks == () and ("reply_edited", "a0000") in what(elsewhere)


def test_a_note_comes_and_goes_and_costs_nothing_of_the_person() -> None:
    made = running()
    saved = made.file.replace(BOX, b"next question\n\n" + TICKED)
    made.save(saved)
    made.memory.note("sent when this turn ends; 1 before it")
    noted = made.write()
    assert b"## Alice\n\n> [!NOTE]\n> sent when this turn ends; 1 before it <!-- op -->\n\nnext question\n" in noted
    assert read(made.memory.draft()).text == b"next question"
    again = Memory.of(noted, TAG, "alice")
    again.note("")
    assert again.content() == saved, "the note of an earlier daemon"
    behind = made.save(saved.replace(b"next question", b"other question"))
    assert behind.content.count(b"<!-- op -->") == 1 and read(made.memory.draft()).text == b"other question"
    made.memory.note("")
    assert made.write() == saved.replace(b"next question", b"other question")
    typed = made.save(noted.replace(b"> sent when", b"> my own line\n> sent when"))
    assert b"<!-- op -->" not in typed.content and b"> my own line\n" in typed.content


def test_a_command_is_obeyed_once() -> None:
    made = running()
    saved = made.file.replace(BOX, b"my text\n\n" + BOX + b"\n/cancel\n")
    merged = made.save(saved)
    assert merged.gestures and read(made.memory.draft()).gesture is Gesture.CANCEL
    made.memory.obeyed()
    obeyed = made.write()
    assert b"/cancel" not in obeyed and b"my text\n\n- [ ] **Send**\n" in obeyed and b"next after=a0000 did=1 -->" in obeyed
    stale = made.save(saved.replace(b"my text", b"my text goes on"))
    assert not stale.gestures and b"/cancel" not in stale.content and b"my text goes on" in stale.content
    fresh = made.save(obeyed + b"/cancel\n")
    assert fresh.gestures and read(made.memory.draft()).gesture is Gesture.CANCEL


def test_turns_that_moved_to_a_part_stay_there() -> None:
    made = talk(4)
    old = made.file
    split = parts.split(old, "c.md", "s0001", limit=1)
    assert split
    made.memory.rewrite(split.content)
    assert made.memory.content() == split.content and made.memory.last_turn_ours()
    short = made.write()
    merged = made.save(old)
    assert merged.content == short and not merged.aside and ("restored", "s0001") in what(merged)
    merged = made.save(old.replace(b"<!-- op:k7q2 u0001", b"my note\n\n<!-- op:k7q2 u0001").replace(BOX, b"my text\n\n" + BOX))
    assert read(made.memory.draft()).text == b"my note\n\nmy text" and not merged.aside
    merged = made.save(old.replace(b"Answer 0", b"Another answer"))
    assert merged.aside and ("not_kept", "a0000") in what(merged) and "a0000" not in ids(merged.content)
    regions = scan(short)
    assert what(made.save(join(regions[:1] + regions[2:]))) == [("deleted", "s0001")]


@pytest.mark.parametrize("number", [0, 1])
def test_a_note_behind_a_turn_that_a_stale_editor_deletes_is_in_the_part_already(number: int) -> None:
    """It stands behind the turn before then, or above all turns."""
    made, next_one = talk(4), b"<!-- op:k7q2 u000%d" % (number + 1)
    made.save(made.file.replace(next_one, b"my note\n\n" + next_one))
    old = made.write()
    split = parts.split(old, "c.md", "s0001", limit=1)
    assert split and b"my note" in split.part and b"my note" not in split.content
    made.memory.rewrite(split.content)
    made.write()
    regions = [region for region in scan(old) if region.id not in (f"u000{number}", f"a000{number}")]
    made.save(join(tuple(regions)).replace(next_one, b"my note\n\nmy other\n\n" + next_one))
    content = made.write()
    assert (b"my note" in content, content.count(b"my other")) == (False, 1)


def test_what_was_sent_and_put_before_older_turns_is_not_draft_again_once_that_is_in_a_part() -> None:
    """The editor had the last turn of the file, and never the newer one that went into the part."""
    made = talk(4)
    stale = made.file.replace(BOX, b"my words\n\n" + TICKED)
    made.save(stale)
    made.send(7)
    regions = scan(made.stream("Answer.\n", 7, "done"))
    assert ids(made.file)[-3:] == ["u0007", "a0007", "next"]
    made.save(join((regions[0], *regions[-3:-1], *regions[1:-3], regions[-1])))
    split = parts.split(made.write(), "c.md", "s0001", limit=1)
    assert split and "u0007" in ids(split.part) and "a0003" in ids(split.content)
    made.memory.rewrite(split.content)
    made.write()
    made.save(stale.replace(TICKED, b"and more\n\n" + BOX))
    assert read(made.memory.draft()).text == b"and more" and b"my words" not in scan(made.memory.content())[-1].raw


def test_what_stands_behind_a_summary_is_draft_where_nothing_else_follows() -> None:
    made = talk(4)
    split = parts.split(made.file, "c.md", "s0001", limit=1)
    assert split
    made.memory.rewrite(split.content)
    short = made.write()
    made.save(short.replace(BOX, b"x\n\n" + BOX))
    merged = made.save(join(scan(short)[:2]) + b"my draft\n/send\n")
    assert read(made.memory.draft()) == read(b"my draft\n/send\n") and {fact.what for fact in merged.facts} == {"deleted"}
    assert made.send(7) == b"my draft" and ids(made.write()) == ["", "s0001", "u0007", "a0007", "next"]


# ---- after a restart -------------------------------------------------------------------------------------------------------


def test_a_message_that_was_logged_and_not_stamped_is_not_sent_twice() -> None:
    made = talk(1)
    saved = made.file.replace(BOX, b"Go on\n\n" + TICKED)
    memory = Memory.of(made.file, TAG, "alice")  # out of the log, where the message is queued
    memory.restore(made.log)
    memory.begin(Opening("u0001", "a0001", "alice", "Go on", "writer", AT, AT, via=""), b"\nGo on\n\n- [x] **Send**\n")
    merged = merge(memory, saved)
    assert not merged.gestures and merged.content.count(b"Go on") == 1
    assert read(memory.draft()) == read(b"") and ids(merged.content)[-3:] == ["u0001", "a0001", "next"]
    assert merge(memory, merged.content.replace(b"Go on", b"Go on")).content == merged.content


def test_beginning_with_a_draft_that_has_grown() -> None:
    made = talk(1)
    made.save(made.file.replace(BOX, b"Go on\nand on\n\n" + TICKED))
    made.memory.begin(Opening("u0001", "a0001", "alice", "Go on", "writer", AT, AT, via=""), b"Go on\n\n- [x] **Send**\n")
    assert read(made.memory.draft()) == read(b"and on")
    content = made.memory.content()
    made.memory.begin(Opening("u0001", "a0001", "alice", "Go on", "writer", AT, AT, via=""), b"Go on\n")
    assert made.memory.content() == content, "it stands there already"


def test_what_an_unmerged_save_held_is_rescued() -> None:
    made = talk(1)
    assert not made.memory.rescue(made.file)
    assert not made.memory.rescue(made.file.replace(BOX, b"/cancel\n\n" + BOX)), "the same buffer may be saved again"
    assert made.memory.rescue(made.file.replace(BOX, b"half a thought\n\n" + TICKED))
    assert read(made.memory.draft()) == read(b"half a thought")
    assert made.save(made.file.replace(BOX, b"other\n\n" + BOX)).content.count(b"half a thought") == 1


def test_what_it_held_outside_the_draft_is_rescued_too() -> None:
    made = talk(2)
    save = made.file.replace(b"<!-- op:" + TAG.encode() + b" u0001", b"a margin note\n<!-- op:" + TAG.encode() + b" u0001")
    save = save.replace(b"Question 1?", b"Question 1?\nand a line more").replace(BOX, b"half a thought\n\n" + BOX)
    assert made.memory.rescue(save)
    content = made.write()
    assert [content.count(line) for line in (b"a margin note\n", b"and a line more\n", b"half a thought\n")] == [1, 1, 1]
    assert not made.memory.rescue(save)
    made.save(content.replace(b"a margin note\n", b""))
    made.write()
    assert not made.memory.rescue(content), "a version is no save: what was taken out of it since was taken out"


def test_a_rescued_line_that_was_sent_stays_once_where_its_buffer_is_saved_again() -> None:
    made = talk(2)
    buffer = made.file.replace(b"Question 0?", b"Question 0?\na line more").replace(
        b"paragraph 1.\n", b"paragraph 1.\nand here\n"
    )
    assert made.memory.rescue(buffer)
    content = made.write()
    made.save(content.replace(BOX, TICKED))
    assert made.send(2) == b"a line more\nand here"
    made.stream("It is.\n", 2, "done")
    made.save(buffer + b"\nfurther\n")
    content = made.write()
    assert [content.count(line) for line in (b"a line more\n", b"and here\n", b"further\n")] == [1, 1, 1], content.decode()


def test_what_it_held_above_all_turns_is_rescued_and_what_was_sent_reworded_is_not() -> None:
    made = talk(1)
    buffer = made.file.replace(BOX, b"sent\nmore\n\n" + TICKED)
    made.save(buffer)
    made.send(1)
    made.stream("It runs.\n", 1)
    made.save(buffer.replace(b"sent\nmore\n", b"sent\nreworded\nmore\n"))
    made.write()
    top = b"<!-- op:" + TAG.encode() + b" u0000"
    assert made.memory.rescue(buffer.replace(b"sent\nmore\n", b"sent\nreworded\nmore\n").replace(top, b"typed above\n" + top))
    assert read(made.memory.draft()).text == b"typed above"


def test_what_it_held_in_an_exchange_that_was_deleted_since_is_rescued_too() -> None:
    made = running()
    lost = made.file.replace(b"Second line", b"typed inside\nSecond line").replace(b"Go on", b"a line more\nGo on")
    content = made.stream("First line of the second reply.\nSecond line comes.\nThird.\n", 1, "done")
    turn = b"".join(region.raw for region in scan(content, TAG) if region.id in ("u0001", "a0001"))
    made.save(content.replace(turn, b""))
    made.write()
    assert made.memory.rescue(lost)
    assert read(made.memory.draft()) == read(b"a line more\ntyped inside\n")


def test_a_buffer_that_was_rescued_from_and_is_saved_again_doubles_nothing() -> None:
    """A message that its editor never saw being sent, and lines typed in a message, in a reply and behind one."""
    made = talk(2)
    buffer = made.file.replace(BOX, b"sent now\n\n" + TICKED)
    made.save(buffer)
    made.send(2)
    made.stream("It runs.\n", 2)
    buffer = buffer.replace(b"<!-- op:" + TAG.encode() + b" u0001", b"a margin note\n<!-- op:" + TAG.encode() + b" u0001")
    buffer = buffer.replace(b"Question 1?", b"Question 1?\nand a line more").replace(
        b"paragraph 0", b"paragraph 0.\ntyped inside\n0"
    )
    assert made.memory.rescue(buffer)
    made.write()
    made.save(buffer.replace(TICKED, TICKED + b"\none more"))
    content = made.write()
    typed = (b"a margin note\n", b"and a line more\n", b"typed inside\n", b"sent now\n", b"one more\n")
    assert [content.count(line) for line in typed] == [1, 1, 1, 1, 1], content.decode()


def test_what_was_moved_is_known_after_a_restart() -> None:
    made = running()
    stale = made.file.replace(b"Second line", b"typed inside\nSecond line")
    made.stream("First line of the second reply.\nSecond line comes.\nThird.\n", 1)
    log = [made.log]
    made.save(stale)
    content = made.write()
    log.append(made.log)
    memory = Memory.of(content, TAG, "alice")
    for body in log:
        memory.restore(body)
    memory.put(
        "a0001", "First line of the second reply.\nSecond line comes.\nThird.\n\n> [!WARNING]\n> x\n", ("interrupted", AT), False
    )
    merged = merge(memory, stale)
    assert merged.content.count(b"typed inside") == 1 and b"Third." in merged.content


def test_facts_of_the_log_bring_a_document_up_to_date() -> None:
    made = talk(3)
    memory = Memory.of(made.file, TAG, "alice")
    memory.recall(Fact("deleted", "a0002"))
    memory.recall(Fact("edited", "u0000", b"## Alice\n\nother words\n\n"))
    memory.recall(Fact("imported", "u7777", b"<!-- op:k7q2 u7777 you bob T -->\nhi\n\n", "a0001"))
    memory.recall(Fact("restored", "a9999"))
    assert ids(memory.content()) == ["", "u0000", "a0000", "u0001", "a0001", "u7777", "u0002", "next"]
    assert b"other words" in memory.content() and b"next after=a0001" in memory.content()
