"""A save of a mirror that was made of an older version, case by case."""

from __future__ import annotations

from opagent.document.mirrored import origin, rebased, unseen
from opagent.document.parse import scan
from tests.doubles.texts import TAG
from tests.unit.test_document_merge import BOX, TICKED, Talk, talk


def _sent(made: Talk, base: bytes) -> bytes:
    """The version after the draft of `base` was sent and answered."""
    made.save(base.replace(BOX, TICKED))
    made.send(1)
    return made.stream("Yes.\n", 1, "done")


def test_a_draft_of_two_pieces_is_one() -> None:
    """The tail of the last reply is draft too: with the one half of now and the other of then, what was sent seems deleted."""
    made = talk()
    place = made.file.index(b"<!-- op:" + TAG.encode() + b" next")
    base = made.file[:place] + b"behind the reply\n" + made.file[place:].replace(BOX, b"in the draft\n\n" + BOX)
    for old, new in ((b"in the draft\n", b"in the draft\nmore\n"), (b"behind the reply\n", b"behind the reply\nmore\n")):
        made = talk()
        now = _sent(made, base)
        save = rebased(base, base.replace(old, new), now, TAG)
        assert b"behind the reply\n" in save and b"in the draft\n" in save and b"more\n" in save
        merged = made.save(save)
        assert [merged.content.count(line) for line in (b"behind the reply\n", b"in the draft\n", b"\nmore\n")] == [1, 1, 1]
        assert b"".join(region.raw for region in scan(merged.content)) == merged.content


def test_an_untouched_draft_is_the_one_of_now() -> None:
    made = talk()
    base = made.file.replace(BOX, b"in the draft\n\n" + BOX)
    now = _sent(made, base)
    save = rebased(base, base.replace(b"Question 0?", b"Question zero?"), now, TAG)
    assert b"in the draft" not in save and b"Question zero?" in save


def test_a_save_is_of_the_newest_version_that_it_shows_something_of() -> None:
    first, second, third = b"one\n", b"one\ntwo\n", b"one\ntwo\nthree\n"
    assert origin(b"one\ntwo\nmine\n", [third, second, first]) == second
    assert origin(b"mine\n", [third, second, first]) == first
    assert origin(b"mine\n", []) == b""


def test_a_version_that_only_lacks_something_hides_no_older_one() -> None:
    """Else a save of the oldest would seem to have deleted what the others brought."""
    first, second, third = b"one\n", b"one\ntwo\nthree\n", b"one\ntwo\n"
    assert origin(b"one\nmine\n", [third, second, first]) == first
    assert origin(b"one\ntwo\nmine\n", [third, second, first]) == second


def test_what_an_editor_typed_itself_does_not_show_what_it_loaded() -> None:
    """Its first save came out of the file when the other side's version went in, and is merged into the next one."""
    saved, pulled, merged = b"one\nmine\n", b"one\nof there\n", b"one\nmine\nof there\n"
    assert origin(b"one\nmine\nmore\n", [merged, pulled, saved]) == saved
    assert origin(b"one\nmine\nmore\nof there\n", [merged, pulled, saved]) == pulled


def test_of_a_save_whose_base_is_unknown_nothing_was_deleted() -> None:
    made = talk(2)
    margin = made.file.replace(b"<!-- op:" + TAG.encode() + b" u0001", b"a margin note\n<!-- op:" + TAG.encode() + b" u0001")
    current = margin.replace(b"Question 1?", b"Question 1?\nand more").replace(BOX, b"a draft\n\n" + BOX)
    assert set(unseen(b"", current, b"a draft\n", TAG)) >= {b"a margin note", b"and more", b"a draft"}
    assert set(unseen(made.file, current, b"a draft\n", TAG)) == {b"a margin note", b"and more", b"a draft"}
    assert unseen(current, current, b"a draft\n", TAG) == []
