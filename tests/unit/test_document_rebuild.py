"""The file out of the log, the history out of the file, parts out of a long one, and names."""

from __future__ import annotations

import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opagent.document import parts
from opagent.document.edit import Document, Opening, load, new, title
from opagent.document.history import history
from opagent.document.names import file_name, new_conversation, new_id, slug
from opagent.document.parse import draft, join, scan
from opagent.document.rebuild import catch_up, rebuild
from opagent.document.render import Look, Reply
from opagent.model import Event
from tests.doubles.texts import AT, HEADER, TAG, document, event, ids, nasty, opening

LOOK = Look()


def _at(minute: int) -> str:
    return f"2026-11-20T09:{minute:02}:00.123Z"


def _turn(number: int, message: str, *pieces: str, end: str = "done") -> list[Event]:
    """The log of one turn: queued, running, text, end (none for an empty `end`)."""
    turn = f"a{number:04}"
    queued = {
        "state": "queued",
        "message": f"u{number:04}",
        "author": "human:1000",
        "text": message,
        "via": "cli",
        "agent": "writer",
    }
    bodies: list[tuple[str, dict[str, Any]]] = [("turn_state", queued), ("turn_state", {"state": "running"})]
    bodies += [("text", {"text": piece}) for piece in pieces]
    bodies += [("turn_state", {"state": end})] if end else []
    return [event(kind, body, turn, _at(2 * number + (place > 0)), place + 1) for place, (kind, body) in enumerate(bodies)]


def _live(log: list[Event], document: Document) -> Document:
    """What the daemon does while it happens."""
    replies: dict[str, Reply] = {}
    queued: dict[str, Event] = {}
    for each in log:
        turn = str(each.turn)
        state = each.body.get("state")
        if state == "queued":
            queued[turn] = each
            continue
        if state == "running":
            body = queued[turn].body
            replies[turn] = Reply(TAG, title("writer"), LOOK)
            document = document.begin(
                Opening(body["message"], turn, "alice", body["text"], "writer", queued[turn].at, each.at, via="cli")
            )
        replies[turn].apply(each)
        document = document.put(turn, replies[turn].body(), replies[turn].end())
    return document


logs = st.lists(st.tuples(nasty, st.lists(nasty, max_size=4), st.sampled_from(["done", "failed", "cancelled"])), max_size=4).map(
    lambda turns: [each for number, (said, pieces, end) in enumerate(turns) for each in _turn(number, said, *pieces, end=end)]
)


@given(logs)
def test_rebuilt_is_what_was_written_live(log: list[Event]) -> None:
    live = _live(log, new(HEADER, "alice")).content()
    assert rebuild(log, live, HEADER, LOOK, "alice") == live
    assert rebuild(log, None, HEADER, LOOK, "alice") == live
    assert catch_up(log, live, HEADER, LOOK, "alice") == live


@given(logs, st.binary(max_size=120) | st.just(b"<!-- op:k7q2 u0000 you x -->\n<!-- op:k7q2 next -->\n"), st.data())
def test_twice_the_same_whatever_the_file_holds(log: list[Event], foreign: bytes, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(log)))
    live = _live(log[:cut], new(HEADER, "alice")).content()
    place = data.draw(st.integers(0, len(live)))
    damaged = live[:place] + foreign + live[data.draw(st.integers(place, min(len(live), place + 80))) :]
    once = rebuild(log, damaged, HEADER, LOOK, "alice")
    assert rebuild(log, once, HEADER, LOOK, "alice") == once
    assert join(scan(once, TAG)) == once
    caught = catch_up(log, damaged, HEADER, LOOK, "alice")
    assert catch_up(log, caught, HEADER, LOOK, "alice") == caught


@given(logs, st.data())
def test_a_log_cut_anywhere_gives_a_valid_file(log: list[Event], data: st.DataObject) -> None:
    some = log[: data.draw(st.integers(0, len(log)))]
    content = rebuild(some, None, HEADER, LOOK, "alice")
    begun = [str(each.turn) for each in some if each.body.get("state") == "running"]
    assert [identifier for identifier in ids(content) if identifier.startswith("a")] == begun
    assert ids(content)[-1] == "next"


LOG = [*_turn(0, "one", "First."), *_turn(1, "two", "Second."), *_turn(2, "three", "Third.")]


def test_rebuilding_keeps_head_notes_draft_and_edited_messages() -> None:
    live = _live(LOG, new(HEADER, "alice")).content()
    mine = live.replace(b"\n\none\n", b"\n\none, better\n").replace(b"<!-- op:k7q2 u0001", b"my note\n\n<!-- op:k7q2 u0001")
    mine = mine.replace(b"title:", b"# mine\ntitle:") + b"my draft\n"
    assert rebuild(LOG, mine, HEADER, LOOK, "alice") == mine
    changed = mine.replace(b"Second.", b"Changed.")
    assert rebuild(LOG, changed, HEADER, LOOK, "alice") == mine
    assert catch_up(LOG, changed, HEADER, LOOK, "alice") == changed


def test_what_is_missing_comes_back_at_its_place() -> None:
    live = _live(LOG, new(HEADER, "alice")).content() + b"my draft\n"
    regions = scan(live)
    for gone in range(1, 7):
        without = join(regions[:gone] + regions[gone + 1 :])
        assert ids(rebuild(LOG, without, HEADER, LOOK, "alice")) == ids(live), regions[gone].id
    for marker in (line for line in live.split(b"\n") if line.startswith(b"<!-- op:k7q2 ")):
        back = rebuild(LOG, live.replace(marker + b"\n", b""), HEADER, LOOK, "alice")
        assert ids(back) == ids(live), marker
        assert back.count(b"my draft") == 1
    middle = join(regions[:3] + regions[5:])
    assert catch_up(LOG, middle, HEADER, LOOK, "alice") == middle  # a person took it out, and it was finished


def test_catching_up_after_a_crash() -> None:
    running = [*LOG[:-2], *_turn(2, "three", "Thi", end="")[:3]]
    live = _live(running[: len(LOG) - 2], new(HEADER, "alice")).content() + b"draft"
    ended = [*running, event("turn_state", {"state": "interrupted", "sentence": "The daemon stopped."}, "a0002", _at(50))]
    caught = catch_up(ended, live, HEADER, LOOK, "alice")
    assert b"> The daemon stopped.\n" in caught and b"/a0002 interrupted 2026-11-20T09:50:00Z" in caught
    assert caught.endswith(b"draft")
    older = _live(LOG[:4], new(HEADER, "alice")).content()
    assert ids(catch_up(ended, older, HEADER, LOOK, "alice"))[-3:] == ["u0002", "a0002", "next"]


def test_a_file_that_lost_its_markers_is_written_anew() -> None:
    live = _live(LOG, new(HEADER, "alice")).content().replace(b"<!-- op:", b"  <!-- op:")
    once = rebuild(LOG, live, HEADER, LOOK, "alice")
    assert ids(once) == ["", "u0000", "a0000", "u0001", "a0001", "u0002", "a0002", "next"] and b"  <!-- op:" not in once
    assert rebuild(LOG, b"", HEADER, LOOK, "alice") == rebuild(LOG, None, HEADER, LOOK, "alice")


def test_a_turn_cancelled_in_the_queue_is_not_in_the_file() -> None:
    log = [each for each in _turn(0, "one", end="cancelled") if each.body.get("state") != "running"]
    assert ids(rebuild(log, None, HEADER, LOOK, "alice")) == ["", "next"]
    failed = [each for each in _turn(0, "one", end="failed") if each.body.get("state") != "running"]
    assert b"> Failed." in rebuild(failed, None, HEADER, LOOK, "alice")


# ---- history -----------------------------------------------------------------------------------------------------------


def test_history_is_plain_text() -> None:
    body = (
        "I read it.\n\n<details>\n<summary>edit <code>a&amp;b.md</code> +1 −2</summary>\n\n"
        "````diff\n</details>\n```\n````\n\n</details>\n\n"
        "<!-- op:k7q2 p1 ask T sum=1 -->\n> asks\n<!-- op:k7q2 /p1 allowed -->\n\n<!--\\ op:k7q2 next -->\n\nDone.\n"
    )
    made = document().begin(opening(0, "Hello\n\n<!-- op:k7q2 u1 you x -->")).put("a0000", body, ("done", AT))
    note = made.content().replace(b"<!-- op:k7q2 next after", b"a note\n\n<!-- op:k7q2 next after")
    asked, answered = history(note + b"draft")
    assert (asked.author, asked.reply, answered.author, answered.reply) == ("alice", False, "writer", True)
    assert asked.text == "Hello\n\n<!-- op:k7q2 u1 you x -->"
    assert " ".join(answered.text.split()) == "I read it. [edit a&b.md +1 −2] <!-- op:k7q2 next --> Done."


def test_history_is_bounded_to_the_newest() -> None:
    made = document(5, 100).content()
    assert len(history(made)) == 10
    few = history(made, 250)
    assert sum(len(said.text) for said in few) <= 250 and few[-1].text.startswith("Answer 4.") and few[0].text.startswith("…")
    assert history(made, 0) == ()


@given(nasty, nasty)
def test_history_of_any_exchange(said: str, answer: str) -> None:
    log = _turn(0, said, answer)
    for each in history(_live(log, new(HEADER, "alice")).content().replace(b"\n", b"\r\n")):
        assert each.author in ("alice", "writer") and "\r" not in each.text


# ---- parts -------------------------------------------------------------------------------------------------------------


def test_a_long_file_is_split() -> None:
    content = document(60, 10_000).content() + b"my draft\n"
    split = parts.split(content, "2026-11-20-long.md", "s1aab")
    assert split is not None and split.name == "2026-11-20-long/part-1.md"
    moved, kept = scan(split.part, TAG), scan(split.content)
    assert [region.id for region in moved[1:] + kept[2:]] == ids(content)[1:]
    assert join(moved[1:]) + join(kept[2:]) == content[len(kept[0].raw) :]
    assert kept[0].raw == scan(content)[0].raw and kept[1].id == "s1aab"
    assert kept[1].value("covers") == f"u0000..{moved[-1].id}" and kept[1].value("part") == split.name
    assert 2 <= sum(region.part.turn for region in kept) <= 40 and len(split.content) < parts.LIMIT * 0.6
    assert b"- 2026-11-20 09:00 Alice: Question 0?\n" in split.content
    assert draft(kept, "## Alice").strip() == b"- [ ] **Send**\nmy draft"
    assert split.part.startswith(b'---\npart: 1\npart_of: "../2026-11-20-long.md"\n---\n')
    assert parts.split(split.content, "x.md", "s2aab") is None


def test_splitting_again_and_again_stays_bounded() -> None:
    made, largest, number = document(), 0, 0
    for turn in range(400):
        made = made.begin(opening(turn, f"Question {turn}?")).put(f"a{turn:04}", "x" * 9_000 + "\n", ("done", AT))
        split = parts.split(made.content(), "long.md", f"s{turn:04}")
        if split:
            number += 1
            assert split.name == f"long/part-{number}.md"
            assert split.part.count(b" agent writer ") >= 15
            made = load(split.content)
        largest = max(largest, len(made.content()))
    assert number > 5 and largest < parts.LIMIT + 20_000
    summaries = [region for region in made.regions if region.id.startswith("s")]
    assert len(summaries) == number and all(len(region.raw) < 300 for region in summaries[:-1])
    covered = rebuild([], made.content(), HEADER, LOOK, "alice")
    assert covered == made.content()


def test_a_running_turn_and_all_after_it_stay() -> None:
    made = document(30, 100)
    made = made.put("a0003", "still\n", ("running",))
    split = parts.split(made.content(), "x.md", "s1aab", limit=1000)
    assert split is not None and ids(split.content)[2] == "u0003"
    assert parts.split(document(1, 5000).content(), "x.md", "s1aab", limit=1000) is None


def test_turns_in_a_part_are_not_rebuilt() -> None:
    log = [each for number in range(25) for each in _turn(number, f"Question {number}", "x" * 100)]
    live = _live(log, new(HEADER, "alice")).content()
    split = parts.split(live, "x.md", "s1aab", limit=4000)
    assert split is not None
    assert rebuild(log, split.content, HEADER, LOOK, "alice") == split.content
    assert catch_up(log, split.content, HEADER, LOOK, "alice") == split.content


# ---- names -------------------------------------------------------------------------------------------------------------


@given(st.binary(min_size=10, max_size=12))
def test_ids(random: bytes) -> None:
    conversation = new_conversation(random)
    assert scan(f"---\nconversation: {conversation}\n---\n<!-- op:{conversation[:4]} next -->\n".encode())[1].id == "next"
    assert not set(new_id("message", random)[1:] + conversation) & set("iloILOU")
    assert [new_id(kind, random)[0] for kind in ("message", "reply", "approval", "summary")] == ["u", "a", "p", "s"]
    with pytest.raises(ValueError, match="random bytes"):
        new_id("reply", random[:3])


@given(st.text(max_size=300))
def test_a_slug_is_a_name_everywhere(text: str) -> None:
    name = slug(text)
    assert name and unicodedata.is_normalized("NFC", name)
    assert len(name) <= 66 and len(f"2026-11-20-{name}-99.md".encode()) <= 255
    assert all(character == "-" or character.isalnum() or unicodedata.category(character)[0] == "M" for character in name)
    assert name[0] != "-" != name[-1]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Tighten the intro\nplease", "tighten-the-intro"),
        ("  \n\n## What's @book/intro.md?", "what-s-book-intro-md"),
        ("CON", "con-chat"),
        ("lpt1", "lpt1-chat"),
        ("???", "conversation"),
        ("", "conversation"),
        ("Éte\u0301 à la mer", "été-à-la-mer"),
        ("word " * 30, "-".join(["word"] * 12)),
        ("x" * 300, "x" * 60),
        ("../../etc/passwd", "etc-passwd"),
    ],
)
def test_slugs(text: str, name: str) -> None:
    assert slug(text) == name


def test_a_name_that_is_taken_gets_a_number() -> None:
    there = {"2026-11-20-a.md", "2026-11-20-a-2.md"}
    assert file_name("2026-11-20", "A", lambda name: name.casefold() in there) == "2026-11-20-a-3.md"
    with pytest.raises(ValueError, match="not a day"):
        file_name("../x", "A", lambda name: False)


@pytest.mark.parametrize(
    ("path", "whole"),
    [
        ("/w/conversations/long/part-1.md", "/w/conversations/long.md"),
        ("long/part-12.md", "long.md"),
        ("/w/part-1.md", "/w.md"),
        ("part-1.md", ""),
        ("/part-1.md", ""),
        ("/w/long/part-x.md", ""),
        ("/w/long/part-1.txt", ""),
        ("/w/long.md", ""),
    ],
)
def test_the_file_that_a_part_belongs_to(path: str, whole: str) -> None:
    assert parts.whole_of(path) == whole
