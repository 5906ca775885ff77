"""Saves of editors that loaded a file before its older turns went to a part, went back to such a version, or are two."""

from __future__ import annotations

from dataclasses import replace

from opagent.document import parts
from opagent.document.draft import read
from opagent.document.parse import Region, join, scan
from tests.unit.test_document_merge import BOX, TICKED, Talk, ids, talk


def split(made: Talk, number: int = 1) -> bytes:
    """All turns but those of the last exchange go to a part, which is returned."""
    found = parts.split(made.write(), "c.md", f"s{number:04}", limit=1)
    assert found
    made.memory.rewrite(found.content)
    made.write()
    return found.part


def regions(content: bytes, *without: str) -> tuple[Region, ...]:
    return tuple(region for region in scan(content) if region.id not in without)


def unmarked(content: bytes) -> bytes:
    """Without the marker of the draft area."""
    return content.replace(scan(content)[-1].open, b"", 1)


def test_a_note_that_was_sent_since_is_not_taken_out_of_its_message_by_an_editor_that_has_it_behind_a_turn_of_the_part() -> None:
    made = talk(2)
    noted = made.file.replace(b"<!-- op:k7q2 u0001", b"my note\n\n<!-- op:k7q2 u0001").replace(BOX, b"and more\n\n" + BOX)
    made.save(noted)
    made.save(join(regions(made.write(), "u0001", "a0001")).replace(BOX, TICKED))
    assert made.send(7).split() == [b"my", b"note", b"and", b"more"]
    made.stream("Answer.\n", 7, "done")
    split(made)
    made.save(noted.replace(b"and more", b"and more\n\nand yet more"))
    assert made.write().count(b"my note") == 1


def test_what_was_sent_is_not_sent_again_by_an_editor_without_a_marker_that_never_had_it() -> None:
    """A reordered file: the newest turn went into the part, and an older one stayed."""
    made = talk(2)
    head, one, its, two, its_too, draft = scan(made.file)
    made.save(join((head, two, its_too, one, its, draft)))
    stale = unmarked(made.write().replace(BOX, b"my words\n\n" + TICKED))
    made.exchange(2, b"my words", "Answer.\n")
    head, two, its_too, one, its, *rest = scan(made.file)
    made.save(join((head, two, its_too, *rest[:-1], one, its, rest[-1])))
    assert b"my words" in split(made)
    assert ids(made.file) == ["", "s0001", "u0000", "a0000", "next"]
    made.save(stale)
    assert not read(made.memory.draft()).text


def test_a_draft_that_went_back_to_before_it_was_sent_is_not_sent_again() -> None:
    made = talk(1)
    back = unmarked(made.file.replace(BOX, b"my words\n\nof two lines\n\n" + TICKED))
    made.exchange(1, b"my words\n\nof two lines\n\nand a third", "Answer.\n")
    made.save(made.file + b"seen\n")
    made.save(back)
    assert "u0001" in ids(made.write()) and b"my words" not in made.memory.draft()


def test_what_one_stale_editor_took_out_of_a_message_another_one_does_not_send_again() -> None:
    made = talk(1)
    loaded = made.file.replace(BOX, b"one\n\ntwo\n\nthree\n\n" + TICKED)
    made.exchange(1, b"one\n\ntwo", "Answer.\n")
    made.save(loaded.replace(b"two\n\n", b""))
    assert b"two" not in made.write()
    made.save(loaded.replace(TICKED, b"four\n\n" + TICKED))
    assert read(made.memory.draft()).text.split() == [b"four"] and made.write().count(b"\ntwo\n") == 1


def test_a_note_of_a_turn_that_a_stale_editor_moved_is_in_the_part_already() -> None:
    """Its editor put the exchange before the first one; what stood behind it stayed, behind another turn."""
    made, third = talk(4), b"<!-- op:k7q2 u0002"
    made.save(made.file.replace(third, b"my note\n\n" + third))
    head, one, its, two, its_too, *rest = scan(made.write())
    note, its_too = its_too.tail, replace(its_too, tail=b"\n")
    assert b"my note" in split(made)
    made.save(join((head, two, its_too, one, replace(its, tail=its.tail + note + b"my other\n\n"), *rest)))
    assert b"my note" not in made.write() and read(made.memory.draft()).text == b"my other"
