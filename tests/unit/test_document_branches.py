"""Merging two branches of a conversation: every turn of both stays whole, in an order that reads, and conflicts stay readable."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opagent.document import frontmatter
from opagent.document.branches import Branches, merge3
from opagent.document.draft import unmerged
from opagent.document.edit import Document, Opening, load
from opagent.document.parse import Part, Region, join, scan
from opagent.document.textmerge import Clash, merge_text
from tests.doubles.texts import TAG, document, ids, nasty

BASE = document(3)
HEADING = b"## Alice\n\n"


def exchange(document: Document, name: str, minute: int, said: str = "Question?", answer: str = "Answer.\n") -> Document:
    """One more turn, called after the branch it was made on."""
    at = f"2026-11-21T09:{minute:02}:00Z"
    grown = document.begin(Opening(f"u{name}", f"a{name}", "alice", said, "writer", at, at))
    return grown.put(f"a{name}", answer, ("done", at))


def changed(document: Document, name: str, **fields: bytes) -> Document:
    """A person's edit of one region."""
    return replace(document, regions=tuple(replace(r, **fields) if r.id == name else r for r in document.regions))


def without(document: Document, *names: str) -> Document:
    return replace(document, regions=tuple(region for region in document.regions if region.id not in names))


def drafted(document: Document, text: bytes) -> Document:
    return changed(document, "next", body=HEADING + text)


def merged(base: Document, ours: Document, theirs: Document) -> Branches:
    return merge3(base.content(), ours.content(), theirs.content())


def turns(content: bytes) -> dict[str, Region]:
    return {region.id: region for region in scan(content, TAG) if region.part not in (Part.HEAD, Part.NEXT)}


def whole(region: Region) -> tuple[bytes, bytes, bytes]:
    return region.open, region.body, region.close


# ---- properties ----------------------------------------------------------------------------------------------------------

words = st.text("ab\n", max_size=12) | nasty
numbers = st.integers(0, 2)


@st.composite
def edits(draw: st.DrawFn, branch: str) -> Callable[[Document], Document]:
    """What somebody did on a branch: any number of turns, edits, deletions, margin notes, drafts."""
    steps = draw(
        st.lists(st.sampled_from(["turn", "say", "answer", "note", "draft", "title", "drop", "drop half", "move"]), max_size=5)
    )
    texts = [draw(words).encode("utf-8", "replace") for _ in steps]
    places = [draw(numbers) for _ in steps]
    minutes = [draw(st.integers(0, 59)) for _ in steps]

    def apply(document: Document) -> Document:
        for step, (kind, text, place, minute) in enumerate(zip(steps, texts, places, minutes, strict=True)):
            if kind == "turn":
                document = exchange(document, f"{branch}{step}", minute, text.decode(), "")
                continue
            text = text.replace(b"<!-- op:k7q2", b"<!-- op:")  # markers that a person copied have tests of their own
            line = b"\n" + text + b"\n\n"
            match kind:
                case "say":
                    document = changed(document, f"u{place:04}", body=line)
                case "answer":
                    document = changed(document, f"a{place:04}", body=line)
                case "note":
                    document = changed(document, f"a{place:04}", tail=line)
                case "draft":
                    document = drafted(document, text)
                case "title":
                    head = document.regions[0]
                    title = text.decode("utf-8", "replace").replace("\n", " ")
                    document = replace(
                        document, regions=(replace(head, body=frontmatter.put(head.body, "title", title)), *document.regions[1:])
                    )
                case "drop":
                    document = without(document, f"u{place:04}", f"a{place:04}")
                case "drop half":
                    document = without(document, f"{'ua'[minute % 2]}{place:04}")
                case "move":
                    *others, last = without(document, "u0000", "a0000").regions
                    moved = [region for region in document.regions if region.id in ("u0000", "a0000")]
                    document = replace(document, regions=(*others, *moved, last))
        return load(document.content(), tag=TAG)

    return apply


@given(edits("x"), edits("y"))
def test_a_merge_holds_every_turn_of_both_sides_whole(
    one: Callable[[Document], Document], two: Callable[[Document], Document]
) -> None:
    ours, theirs = one(BASE), two(BASE)
    result = merged(BASE, ours, theirs)
    found, old = turns(result.content), turns(BASE.content())
    mine, other = turns(ours.content()), turns(theirs.content())
    for name in {*mine, *other}:
        sides = [side[name] for side in (mine, other) if name in side]
        if len(sides) == 1:
            untouched = name in old and old[name].body == sides[0].body
            assert name in found or untouched, name
            assert name not in found or found[name].body == sides[0].body
        else:
            assert name in found
            news = [side for side in sides if name not in old or side.body != old[name].body]
            if len(news) == 1:
                assert found[name].body == news[0].body
            elif not news:
                assert found[name].body == old[name].body
    assert set(found) <= {*mine, *other}


@given(edits("x"), edits("y"))
def test_a_merge_is_a_valid_conversation_in_order(
    one: Callable[[Document], Document], two: Callable[[Document], Document]
) -> None:
    ours, theirs = one(BASE), two(BASE)
    result = merged(BASE, ours, theirs)
    regions = scan(result.content, TAG)
    assert join(regions) == result.content
    assert frontmatter.conversation_id(result.content) == "k7q2-m4x8p3"
    assert regions[-1].id == "next"
    names = [region.id for region in regions]
    leading = theirs if ours.content() == BASE.content() else ours
    kept = [name for name in ids(leading.content()) if name in names]
    assert [name for name in names if name in kept] == kept, "the order of ours"
    for name in names:  # a turn that was made on a branch is never pulled apart
        if name[:2] in ("ux", "uy"):
            assert names[names.index(name) + 1] == "a" + name[1:]
    assert not result.conflict or unmerged(result.content, TAG), "nothing is sent from it"
    for region in regions:  # marks of a conflict stand where a person may write, never in a turn of either side
        if region.part.turn:
            assert b"<<<<<<< ours" not in region.body


@given(edits("x"), edits("y"))
def test_both_directions_hold_the_same_turns(one: Callable[[Document], Document], two: Callable[[Document], Document]) -> None:
    ours, theirs = one(BASE), two(BASE)
    there, back = merged(BASE, ours, theirs), merged(BASE, theirs, ours)
    assert set(ids(there.content)) == set(ids(back.content))
    assert there.conflict == back.conflict


@given(edits("x"))
def test_what_only_one_side_changed_is_taken_as_it_is(one: Callable[[Document], Document]) -> None:
    before, ours = BASE.content(), one(BASE).content()
    assert merge3(before, ours, before) == Branches(ours)
    assert merge3(before, before, ours) == Branches(ours)
    assert merge3(before, ours, ours) == Branches(ours)


@given(edits("x"))
def test_beside_a_new_turn_of_theirs_all_of_ours_stays(one: Callable[[Document], Document]) -> None:
    """The same without the short way: their file differs by one exchange at the end."""
    ours = one(BASE)
    result = merged(BASE, ours, exchange(BASE, "y", 30))
    rest = {region.id: region for region in scan(result.content, TAG) if region.id not in ("uy", "ay")}
    assert list(rest) == ids(ours.content())
    for region in ours.regions:
        assert rest[region.id].body.rstrip(b"\n") == region.body.rstrip(b"\n")
    assert not result.conflict


@given(st.binary(max_size=300), st.binary(max_size=300), st.binary(max_size=300))
def test_any_bytes_are_merged_without_an_error(base: bytes, ours: bytes, theirs: bytes) -> None:
    head = b"---\nopagent: 1\nconversation: k7q2-m4x8p3\n---\n"
    for front in (b"", head, b"\xef\xbb\xbf" + head):
        content = merge3(front + base, front + ours, front + theirs).content
        assert join(scan(content)) == content


LINES = (
    b"<!-- op:k7q2 u1 you a 2026-01-01T00:00:01Z -->\n", b"<!-- op:k7q2 a1 agent w -->\n", b"<!-- op:k7q2 /a1 done -->\n",
    b"<!-- op:k7q2 u2 you a 2026-01-01T00:00:02Z -->\r\n", b"<!-- op:k7q2 a2 agent w -->\n", b"<!-- op:k7q2 /a2 done -->\n",
    b"<!-- op:k7q2 next -->\n", b"<!-- op:k7q2 next after=a2 -->", b"<!-- op:k7q2 s1 summary -->\n", b"x\n", b"\n", b"y",
    b"<!-- op:k7q2 p1 ask -->\n", b"<!-- op:k7q2 /p1 open -->\n", b"---\nopagent: 1\nconversation: k7q2-m4x8p3\n---\n",
)  # fmt: skip
jumbled = st.lists(st.sampled_from(LINES), max_size=12).map(b"".join)


@given(jumbled, jumbled, jumbled)
def test_markers_in_any_order_lose_no_turn(base: bytes, ours: bytes, theirs: bytes) -> None:
    if b"op:k7q2" not in base or b"op:k7q2" not in ours or b"op:k7q2" not in theirs:
        return
    base, ours, theirs = (b"<!-- op:k7q2 u0 you a -->\n" + each for each in (base, ours, theirs))
    found = turns(merge3(base, ours, theirs).content)
    old, mine, other = turns(base), turns(ours), turns(theirs)
    assert set(found) <= {*mine, *other}
    for name in {*mine, *other} - set(old):
        assert name in found
    for name in set(mine) & set(other):
        assert name in found


text = st.lists(st.sampled_from([b"a\n", b"b\n", b"c\n", b"\n"]), max_size=8).map(b"".join)


@given(text, text, text)
def test_texts_by_lines(base: bytes, ours: bytes, theirs: bytes) -> None:
    assert merge_text(base, ours, base) == (ours,)
    assert merge_text(base, base, theirs) == (theirs,)
    pieces = merge_text(base, ours, theirs)
    back = merge_text(base, theirs, ours)
    assert any(isinstance(piece, Clash) for piece in pieces) == any(isinstance(piece, Clash) for piece in back)


@given(text, st.integers(0, 8), st.integers(0, 8), st.binary(max_size=5), st.binary(max_size=5))
def test_changes_far_apart_are_both_taken(middle: bytes, first: int, second: int, one: bytes, two: bytes) -> None:
    base = b"top\n" + middle + b"m1\nm2\nm3\n" + middle + b"end\n"
    ours, theirs = one.replace(b"\n", b"") + b"\n" + base, base + two.replace(b"\n", b"") + b"\n"
    assert b"".join(map(bytes, merge_text(base, ours, theirs))) == one.replace(b"\n", b"") + b"\n" + theirs


# ---- cases -----------------------------------------------------------------------------------------------------------------


def test_two_branches_that_both_went_on_become_one_conversation_by_time() -> None:
    ours = exchange(exchange(BASE, "x1", 5, "From ours"), "x2", 9)
    theirs = exchange(exchange(BASE, "y1", 7, "From theirs"), "y2", 8)
    result = merged(BASE, ours, theirs)
    assert not result.conflict
    assert ids(result.content)[7:] == ["ux1", "ax1", "uy1", "ay1", "uy2", "ay2", "ux2", "ax2", "next"]
    assert whole(turns(result.content)["uy1"]) == whole(turns(theirs.content())["uy1"])
    assert scan(result.content)[-1].value("after") == "ax2"
    assert b"\n\n\n\n" not in result.content


def test_the_first_turns_of_both_branches() -> None:
    empty = document()
    result = merged(empty, exchange(empty, "x", 9), exchange(empty, "y", 3))
    assert (ids(result.content), result.conflict) == (["", "uy", "ay", "ux", "ax", "next"], False)


def test_a_file_that_both_made_without_a_common_one() -> None:
    result = merge3(b"", exchange(document(1), "x", 9).content(), exchange(document(1), "y", 3).content())
    assert (ids(result.content), result.conflict) == (["", "u0000", "a0000", "uy", "ay", "ux", "ax", "next"], False)


def test_without_a_common_one_what_only_one_has_is_kept() -> None:
    """Two copies that a synchronising program left: an unfinished reply and a draft on one side, all of it on the other."""
    begun = BASE.begin(Opening("ux", "ax", "alice", "Go", "writer", "2026-11-21T09:00:00Z", "2026-11-21T09:00:00Z"))
    half = begun.put("ax", "First line.\n", ("running",)).redraft("alice", b"typed\n")
    done = begun.put("ax", "First line.\n\nSecond line.\n", ("done", "2026-11-21T09:01:00Z"))
    for ours, theirs in ((half, done), (done, half)):
        result = merge3(b"", ours.content(), theirs.content())
        assert not result.conflict
        assert b"Second line." in turns(result.content)["ax"].body
        assert turns(result.content)["ax"].state == "done"
        assert b"\ntyped\n" in scan(result.content)[-1].body
    assert merge3(b"", drafted(BASE, b"mine\n").content(), drafted(BASE, b"yours\n").content()).clashes == ("draft",)


def test_a_draft_stays_the_draft_beside_new_turns() -> None:
    result = merged(BASE, drafted(BASE, b"not sent yet\n"), exchange(BASE, "y", 3))
    assert not result.conflict
    assert result.content.endswith(b"<!-- op:k7q2 next after=ay -->\n## Alice\n\nnot sent yet\n")


def test_a_draft_behind_the_last_turn_follows_the_new_last_turn() -> None:
    ours = changed(BASE, "a0002", tail=b"\ntyped above the line\n\n")
    for result in (merged(BASE, ours, exchange(BASE, "y", 3)), merged(BASE, exchange(BASE, "y", 3), ours)):
        assert not result.conflict
        assert turns(result.content)["a0002"].tail == b"\n"
        assert turns(result.content)["ay"].tail == b"\ntyped above the line\n\n"


def test_the_draft_s_marker_names_the_last_reply_and_every_command_that_was_obeyed() -> None:
    ours = replace(exchange(BASE, "x", 9), did=2).pointed()
    theirs = replace(exchange(BASE, "y", 3), did=5).pointed()
    for result in (merged(BASE, ours, theirs), merged(BASE, theirs, ours)):
        assert scan(result.content)[-1].open == b"<!-- op:k7q2 next after=ax did=5 -->\n"


def test_two_drafts_are_a_conflict_inside_the_draft() -> None:
    result = merged(BASE, drafted(BASE, b"mine\n\n/send\n"), drafted(BASE, b"yours\n\n/send\n"))
    assert result.clashes == ("draft",)
    area = scan(result.content)[-1]
    assert area.body == HEADING + b"<<<<<<< ours\nmine\n=======\nyours\n>>>>>>> theirs\n\n/send\n"
    assert turns(result.content) == turns(BASE.content())


def test_edits_of_different_lines_of_one_message_are_both_taken() -> None:
    said = b"\n".join(b"line %d" % number for number in range(9)) + b"\n"
    base = changed(BASE, "u0001", body=said)
    ours, theirs = said.replace(b"line 1", b"LINE 1"), said.replace(b"line 7", b"LINE 7")
    result = merged(base, changed(base, "u0001", body=ours), changed(base, "u0001", body=theirs))
    assert not result.conflict
    assert turns(result.content)["u0001"].body == ours.replace(b"line 7", b"LINE 7")


@pytest.mark.parametrize("name", ["u0001", "a0001"])
def test_one_turn_with_two_texts_shows_both_in_the_margin(name: str) -> None:
    ours, theirs = changed(BASE, name, body=b"\nours\n\n"), changed(BASE, name, body=b"\ntheirs\n\n")
    result = merged(BASE, ours, theirs)
    assert result.clashes == (name,)
    assert turns(result.content)[name].body == b"\nours\n\n"
    margin = turns(result.content)["a0001"].tail
    assert b"<<<<<<< ours " + name.encode() in margin
    assert b"\ntheirs\n" in margin
    assert ids(result.content) == ids(BASE.content())


def test_two_texts_of_a_message_without_an_end_behind_it_go_to_the_draft_area() -> None:
    base = without(BASE, "a0002", "next")
    result = merged(base, changed(base, "u0002", body=b"ours\n"), changed(base, "u0002", body=b"theirs\n"))
    assert ids(result.content)[-2:] == ["u0002", "next"]
    assert b"theirs\n>>>>>>> theirs u0002\n" in scan(result.content)[-1].body


def test_deleted_on_one_side_and_left_alone_on_the_other_is_deleted() -> None:
    ours = without(BASE, "u0001", "a0001")
    for result in (merged(BASE, ours, exchange(BASE, "y", 3)), merged(BASE, exchange(BASE, "y", 3), ours)):
        assert "a0001" not in ids(result.content)
        assert not result.conflict


def test_an_exchange_that_one_side_deleted_and_the_other_changed_stays_whole() -> None:
    ours, theirs = without(BASE, "u0001", "a0001"), changed(BASE, "u0001", body=b"\ncorrected\n\n")
    for result in (merged(BASE, ours, theirs), merged(BASE, theirs, ours)):
        assert ids(result.content) == ids(BASE.content())
        assert turns(result.content)["u0001"].body == b"\ncorrected\n\n"


def test_a_reply_that_was_unfinished_when_the_branches_parted_is_finished() -> None:
    base = BASE.begin(Opening("ux", "ax", "alice", "Go", "writer", "2026-11-21T09:00:00Z", "2026-11-21T09:00:00Z"))
    ours = drafted(base, b"typed\n")
    result = merged(base, ours, base.put("ax", "All of it.\n", ("done", "2026-11-21T09:01:00Z")))
    assert turns(result.content)["ax"].state == "done"
    assert b"All of it." in turns(result.content)["ax"].body
    assert scan(result.content)[-1].value("after") == "ax"


def test_two_replies_to_one_message_stand_behind_it_together() -> None:
    base = exchange(BASE, "x", 1)
    ours = exchange(base, "z", 9)
    head = [region for region in base.regions if region.id != "next"]
    again = replace(
        head[-1], id="ax2", open=head[-1].open.replace(b" ax ", b" ax2 "), close=head[-1].close.replace(b"/ax", b"/ax2")
    )
    theirs = replace(base, regions=(*head, again, base.regions[-1]))
    assert ids(merged(base, ours, theirs).content)[7:] == ["ux", "ax", "ax2", "uz", "az", "next"]


def test_two_titles_leave_front_matter_that_can_be_read() -> None:
    def titled(title: str) -> Document:
        head = BASE.regions[0]
        return replace(BASE, regions=(replace(head, body=frontmatter.put(head.body, "title", title)), *BASE.regions[1:]))

    result = merged(BASE, titled("One"), titled("Two"))
    assert result.clashes == ("head",)
    assert frontmatter.get(result.content, "title") == "One"
    assert b"title: Two\n>>>>>>> theirs" in result.content[frontmatter.end(result.content) :]
    assert ids(result.content) == ids(BASE.content())


def test_a_copied_turn_stays_text_when_the_turn_it_was_copied_from_is_gone() -> None:
    first = BASE.region("u0000")
    assert first is not None
    theirs = changed(BASE, "a0002", tail=b"\n" + first.open + b"pasted\n\n")
    ours = exchange(without(BASE, "u0000", "a0000"), "x", 3)
    result = merged(BASE, ours, theirs)
    assert ids(result.content) == ids(ours.content())
    assert b"<!--\\ op:k7q2 u0000 you" in result.content


def test_a_part_and_its_summary_on_one_branch() -> None:
    summary = Region(Part.SUMMARY, "s1aab", b"<!-- op:k7q2 s1aab summary covers=u0000..a0001 -->\n", b"## Earlier\n\n")
    head, *rest = without(BASE, "u0000", "a0000", "u0001", "a0001").regions
    ours = replace(BASE, regions=(head, summary, *rest))
    assert ids(merged(BASE, ours, exchange(BASE, "y", 3)).content) == ["", "s1aab", "u0002", "a0002", "uy", "ay", "next"]


def test_line_ends_and_a_missing_last_one() -> None:
    crlf = Document(TAG, scan(BASE.content().replace(b"\n", b"\r\n")), b"\r\n")
    ours, theirs = exchange(crlf, "x", 3), exchange(crlf, "y", 5)
    result = merged(crlf, ours, theirs)
    assert result.content.count(b"\n") == result.content.count(b"\r\n")
    bare = merge3(BASE.content().rstrip(), ours.content().rstrip(), theirs.content().rstrip())
    assert ids(bare.content)[7:] == ["ux", "ax", "uy", "ay", "next"]


def test_other_files_are_merged_as_git_does(tmp_path: Path) -> None:
    base = b"".join(b"%d\n" % number for number in range(20))
    for ours, theirs in (
        (base.replace(b"3\n", b"three\n"), base.replace(b"15\n", b"fifteen\n")),
        (base.replace(b"\n9\n", b"\nnine\n"), base.replace(b"\n9\n", b"\n009\n")),
        (document(1).content(), document(1).content().replace(b"k7q2-m4x8p3", b"k7q2-zzzzzz").replace(b"Hello", b"Bye")),
    ):
        for name, content in (("o", base), ("a", ours), ("b", theirs)):
            (tmp_path / name).write_bytes(content)
        words = ["git", "merge-file", "-p", "-L", "ours", "-L", "base", "-L", "theirs", "a", "o", "b"]
        git = subprocess.run(words, cwd=tmp_path, capture_output=True, check=False)
        result = merge3(base, ours, theirs)
        assert result.conflict == bool(git.returncode)
        if not result.conflict:
            assert result.content == git.stdout
