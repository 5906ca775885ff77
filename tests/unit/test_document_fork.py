"""A fork: turns up to one byte for byte, an id of its own, an empty draft."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opagent.document import frontmatter
from opagent.document.edit import Opening, load
from opagent.document.fork import fork, last_turn, renamed
from opagent.document.names import free_name, new_rest
from opagent.document.parse import Part, Region, scan, tag_of
from opagent.errors import Conflict, NotFound
from tests.doubles.texts import AT, CONVERSATION, TAG, document, ids, nasty, opening, reply

NEW = "k7q2-zzzzzz"
front = st.lists(st.sampled_from(["tags: [a, b]", "# a comment", "x: &y 1", "archived: true", "model: 'm'"]), unique=True)


@given(st.integers(0, 3), st.booleans(), nasty, nasty, nasty, front, st.booleans())
def test_all_up_to_the_cut_is_byte_identical(
    turn: int, by_message: bool, said: str, answer: str, typed: str, keys: list[str], crlf: bool
) -> None:
    made = document(3).begin(opening(3, said)).put("a0003", reply(("text", {"text": answer})).body(), ("done", AT))
    content = made.content().replace(b"created:", "".join(key + "\n" for key in keys).encode() + b"created:")
    content += typed.replace("op:k7q2", "").encode("utf-8", "replace")
    content = content.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n") if crlf else content
    forked = fork(content, NEW, "alice", f"{'ua'[not by_message]}{turn:04}")
    old, new = scan(content), scan(forked)
    count = 2 * turn + 3  # the head, and two regions a turn
    assert ids(forked) == [*ids(content)[:count], "next"]
    assert [region.raw for region in new[1 : count - 1]] == [region.raw for region in old[1 : count - 1]]
    last, kept = new[count - 1], old[count - 1]
    assert (last.open, last.body, last.close) == (kept.open, kept.body, kept.close)
    assert new[-1].value("after") == last.id
    assert new[-1].body.replace(b"\r", b"") == b"## Alice\n\n- [ ] **Send**\n"
    changed = {b"conversation", b"forked_from", b"archived"}
    lines = [[line for line in region.body.splitlines() if line.split(b":")[0] not in changed] for region in (old[0], new[0])]
    assert lines[0] == lines[1]
    assert frontmatter.conversation_id(forked) == NEW
    assert frontmatter.get(forked, "forked_from") == f"{CONVERSATION}#{last.id}"


def test_without_a_turn_the_last_that_has_ended() -> None:
    running = document(2).begin(opening(2))
    assert ids(fork(running.content(), NEW, "alice")) == ["", "u0000", "a0000", "u0001", "a0001", "next"]
    for name in ("u0002", "a0002"):
        with pytest.raises(Conflict, match="has not ended"):
            fork(running.content(), NEW, "alice", name)


def test_what_is_no_turn_of_the_file_or_has_none() -> None:
    for name in ("a9999", "next", "head", "p1111"):
        with pytest.raises(NotFound):
            fork(document(1).content(), NEW, "alice", name)
    with pytest.raises(Conflict, match="ended yet"):
        fork(document(0).content(), NEW, "alice")


def test_what_stood_behind_the_turn_stays_behind() -> None:
    made = document(2)
    noted = replace(made, regions=tuple(replace(r, tail=b"\nmy note\n\n") if r.id == "a0000" else r for r in made.regions))
    assert b"my note" not in fork(noted.content(), NEW, "alice", "a0000")
    assert b"my note" in fork(noted.content(), NEW, "alice", "a0001")


def test_the_summary_of_a_part_goes_along() -> None:
    summary = Region(Part.SUMMARY, "s1aab", b"<!-- op:k7q2 s1aab summary covers=u1..a9 part=x/part-1.md -->\n", b"## Earlier\n\n")
    made = document(2)
    content = replace(made, regions=(made.regions[0], summary, *made.regions[1:])).content()
    assert ids(fork(content, NEW, "alice", "a0000")) == ["", "s1aab", "u0000", "a0000", "next"]


def test_a_copy_changes_in_two_lines() -> None:
    content = document(2).content() + b"typed\n"
    copy = renamed(content, NEW, last_turn(content))
    assert copy == content.replace(b"k7q2-m4x8p3\n", b"k7q2-zzzzzz\n").replace(
        b"12:44Z\n---\n", b'12:44Z\nforked_from: "k7q2-m4x8p3#a0001"\n---\n'
    )
    assert last_turn(document(0).content()) == ""
    again = renamed(copy, "k7q2-yyyyyy", "a0001")
    assert frontmatter.get(again, "forked_from") == "k7q2-zzzzzz#a0001"


def test_a_fork_goes_on_like_any_other() -> None:
    forked = load(fork(document(2).content(), NEW, "alice", "a0000"))
    on = forked.begin(Opening("u9", "a9", "alice", "And now?", "writer", AT, AT)).put("a9", "This.\n", ("done", AT))
    assert ids(on.content()) == ["", "u0000", "a0000", "u9", "a9", "next"]


def test_names() -> None:
    new = new_rest(CONVERSATION, bytes(range(16)))
    assert tag_of(f"---\nconversation: {new}\n---\n".encode()) == TAG
    assert new != CONVERSATION
    taken = {"a-fork.md", "a-fork-2.md"}
    assert free_name("a-fork", taken.__contains__) == "a-fork-3.md"
    assert len(free_name("é" * 300, lambda name: not name.endswith("-2.md")).encode()) <= 255
