"""Turns are added and replies rewritten; everything of the person stays byte for byte."""

from __future__ import annotations

from datetime import timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opagent.document import frontmatter
from opagent.document.clean import clean
from opagent.document.draft import read
from opagent.document.edit import Opening, load, new, title
from opagent.document.history import history
from opagent.document.markers import finder
from opagent.document.parse import Part, draft, scan
from opagent.errors import Conflict
from tests.doubles.texts import AT, HEADER, TAG, document, ids, nasty, opening


def test_a_new_file_is_front_matter_and_an_empty_draft() -> None:
    assert new(HEADER, "alice").content().decode() == (
        "---\nopagent: 1\nconversation: k7q2-m4x8p3\nagent: writer\n"
        "title: Tighten the intro\ncreated: 2026-11-20T09:12:44Z\n---\n\n"
        "<!-- op:k7q2 next -->\n## Alice\n\n- [ ] **Send**\n"
    )


def test_a_turn_from_its_start_to_its_end() -> None:
    begun = document().begin(Opening("u3f9k", "a8c2d", "alice", "Hello", "writer", AT, AT, model="provider/model"))
    assert begun.content().decode().split("---\n\n")[1] == (
        f"<!-- op:k7q2 u3f9k you alice {AT} via=cli -->\n## Alice · 2026-11-20 09:14\n\nHello\n\n"
        f"<!-- op:k7q2 a8c2d agent writer {AT} re=u3f9k model=provider/model -->\n## Writer · 09:14\n\n"
        "<!-- op:k7q2 /a8c2d running -->\n\n<!-- op:k7q2 next -->\n## Alice\n\n- [ ] **Send**\n"
    )
    ended = begun.put("a8c2d", "Hi\n", ("done", AT, "in=5"))
    assert ended.content().decode().split("re=u3f9k")[1] == (
        " model=provider/model -->\n## Writer · 09:14\n\nHi\n\n"
        f"<!-- op:k7q2 /a8c2d done {AT} in=5 -->\n\n<!-- op:k7q2 next after=a8c2d -->\n## Alice\n\n- [ ] **Send**\n"
    )


def test_local_time_and_the_day_where_it_changes() -> None:
    zone = timezone(timedelta(hours=15))
    made = new(HEADER, "alice", zone).begin(opening(0)).put("a0000", "x\n", ("done", AT)).begin(opening(1))
    assert made.content().count(b"## Alice \xc2\xb7 2026-11-21 00:00") == 1
    assert b"## Alice \xc2\xb7 00:01" in made.content()


PERSON = st.sampled_from(
    ["draft", "two\n\nparagraphs", "", "- [ ] **Send**", "```", "é\r\nx", "<!-- op:zzzz u1 you x -->", "---"]
)


@given(st.lists(PERSON, min_size=4, max_size=4), st.sampled_from([b"\n", b"\r\n"]), st.booleans(), st.booleans())
def test_the_person_keeps_every_byte(texts: list[str], eol: bytes, bom: bool, area: bool) -> None:
    """A head, a margin note, loose text and a draft; LF, CRLF, BOM; with and without the draft's marker."""
    head, note, loose, area_text = (text.encode().replace(b"\r\n", b"\n").replace(b"\n", eol) for text in texts)
    content = document(2).content().replace(b"- [ ] **Send**\n", b"").replace(b"\n", eol)
    parts = content.split(b"<!-- op:")
    parts[0] += head + eol
    parts[3] += note + eol
    parts[5] += loose + eol
    parts[6] += area_text
    if not area:
        parts[5], parts[6] = parts[5] + area_text, b""
    before = (b"\xef\xbb\xbf" if bom else b"") + b"<!-- op:".join(part for part in parts if part)
    loaded = load(before)
    assert loaded.content() == before
    after = loaded.begin(opening(7, "New")).put("a0007", "Answer\n", ("done", AT)).content()
    assert after.replace(b"\r\n", b"\n").count(b"\n") > before.count(b"\n")
    assert after.startswith(b"\xef\xbb\xbf") == bom
    if eol == b"\r\n":
        assert b"\n" not in after.replace(b"\r\n", b"")
    old, fresh = scan(before), scan(after)
    kept = [region for region in fresh if region.id not in ("u0007", "a0007", "next")]
    assert [region.raw for region in kept[:-1]] == [region.raw for region in old if region.part is not Part.NEXT][:-1]
    said, before_that = read(draft(fresh, "## Alice")), read(draft(old, "## Alice"))
    assert said.text.split() == before_that.text.split()
    assert before_that.text in after
    assert [region.id for region in fresh][-3:] == ["u0007", "a0007", "next"]
    assert fresh[-1].value("after") == "a0007"


@given(nasty)
def test_a_message_of_a_person_stands_as_typed(text: str) -> None:
    made = document().begin(opening(0, text, via="")).content()
    if f"op:{TAG}" not in text:
        typed = text.replace("\ud83d", "\ufffd").replace("\ude00", "\ufffd").encode()
        assert scan(made)[1].body.split(b"\n\n", 1)[1].startswith(typed)
    assert ids(made) == ["", "u0000", "a0000", "next"]


@given(nasty, st.sampled_from(["alice", "agent:writer"]), st.sampled_from(["cli", "call"]))
def test_no_message_becomes_structure(text: str, author: str, via: str) -> None:
    made = document().begin(opening(0, text, via=via, author=author)).put("a0000", "ok\n", ("done", AT)).content()
    assert ids(made) == ["", "u0000", "a0000", "next"]
    assert not finder(TAG).search(scan(made)[1].body)
    said = history(made)[0]
    assert said.text.startswith(clean(text).strip()) or not clean(text).strip()


def test_old_files_go_on() -> None:
    plain = load(b"# Notes\n\nsome text", tag=TAG).adopt({"opagent": "1", **HEADER}).begin(opening()).content()
    assert plain.startswith(b"---\nopagent: 1\nconversation: k7q2-m4x8p3\n")
    assert plain.endswith(b"running -->\n\n<!-- op:k7q2 next -->\n## Alice\n\n# Notes\n\nsome text\n\n- [ ] **Send**\n")
    other = b"<!-- op:zzzz u1 you x -->\nfrom elsewhere\n"
    mixed = load(document(1).content() + other).begin(opening(1)).content()
    assert mixed.endswith(other) and ids(mixed)[-2:] == ["a0001", "next"]
    torn = document(1).content().replace(b"<!-- op:k7q2 /a0000 done", b"<!-- gone")
    assert ids(load(torn).begin(opening(1)).content()) == ["", "u0000", "a0000", "u0001", "a0001", "next"]
    only = load(b"---\nconversation: k7q2-m4x8p3\n---").begin(opening()).content()
    assert ids(only) == ["", "u0000", "a0000", "next"] and only.startswith(b"---\nconversation: k7q2-m4x8p3\n---\n\n<!--")


def test_turns_behind_the_draft_area_move_before_it() -> None:
    content = document(1).content() + b"my draft\n<!-- op:k7q2 u5555 you bob -->\nhi\n"
    after = load(content).begin(opening(1)).content()
    assert ids(after) == ["", "u0000", "a0000", "u5555", "u0001", "a0001", "next"]
    assert after.endswith(b"my draft\n")


def test_a_reply_that_was_taken_out() -> None:
    with pytest.raises(Conflict):
        document(1).put("a9999", "x\n", ("done",))


def test_other_regions_are_not_touched_by_put() -> None:
    before = document(3)
    after = before.put("a0001", "Other\n", ("cancelled", AT))
    assert [a.id for a, b in zip(before.regions, after.regions, strict=True) if a != b] == ["a0001"]


def test_a_version_never_has_the_size_of_the_one_before() -> None:
    made = document(2)
    size = len(made.content())
    padded = made.version(size)
    assert len(padded) == size + 6 and padded.count(b" pad=0 -->") == 1
    assert made.version(None) == made.version(size + 1) == made.content()
    again = load(padded)
    assert len(again.version(len(padded))) == size + 7
    assert ids(again.version(len(padded))) == ids(padded)
    assert new(HEADER, "a").version(len(new(HEADER, "a").content())) == new(HEADER, "a").content()


def test_titles() -> None:
    assert (title("alice"), title("agent:writer"), title("human:bob"), title("")) == ("Alice", "Writer (agent)", "Bob", "You")
    assert title("<b>\n# x") == "\\<b> # x"


KEYS = b"""---
opagent: 1
# a comment
title: Old # why
tags: [a, b]
anchor: &x {a: 1}
nested:
  - 1
last: 'it''s'
---
title: not this
""".replace(b"\n", b"\r\n")


def test_one_key_changes_one_line() -> None:
    assert frontmatter.put(KEYS, "title", "New") == KEYS.replace(b"title: Old # why", b"title: New # why")
    assert frontmatter.put(KEYS, "model", "a: b") == KEYS.replace(b"it''s'\r\n", b"it''s'\r\nmodel: \"a: b\"\r\n")
    assert frontmatter.put(KEYS, "nested", "x") == KEYS.replace(b"nested:\r\n  - 1\r\n", b"nested: x\r\n")
    assert frontmatter.drop(KEYS, "tags") == KEYS.replace(b"tags: [a, b]\r\n", b"")
    assert frontmatter.put(b"\xef\xbb\xbftext", "a", "b") == b"\xef\xbb\xbf---\na: b\n---\n\ntext"
    got = [frontmatter.get(KEYS, key) for key in ("title", "tags", "anchor", "nested", "last", "none", "opagent")]
    assert got == ["Old", "", "", "", "it's", "", "1"]


@given(st.text(max_size=80), st.sampled_from(["title", "new", "model"]))
def test_what_is_put_is_got(value: str, key: str) -> None:
    value = clean(value).encode("utf-8", "replace").decode()
    after = frontmatter.put(KEYS, key, value)
    assert frontmatter.get(after, key) == value
    lines = [line for line in after.split(b"\r\n") if line not in KEYS.split(b"\r\n")]
    assert len(lines) <= 1
    assert frontmatter.drop(frontmatter.drop(after, key), key) == frontmatter.drop(KEYS, key)


@given(st.binary(max_size=200))
def test_front_matter_of_any_bytes(content: bytes) -> None:
    for each in (content, b"---\n" + content, b"---\n" + content + b"\n---\n"):
        assert 0 <= frontmatter.end(each) <= len(each)
        frontmatter.get(each, "title")
        assert frontmatter.get(frontmatter.put(each, "opagent", "1"), "opagent") == "1"


def test_which_file_is_a_conversation() -> None:
    assert frontmatter.is_conversation(KEYS)
    assert not frontmatter.is_conversation(KEYS.replace(b"opagent", b"other"))
    assert not frontmatter.is_conversation(b"opagent: 1\n")
    assert not frontmatter.is_conversation(b"---\n" + b"x\n" * 40_000 + b"opagent: 1\n---\n")
    broken = b"---\nopagent: 1\nconversation: k7q2-m4x8p3\n  bad: [\n---\n"
    assert frontmatter.conversation_id(broken) == "k7q2-m4x8p3"
    assert frontmatter.conversation_id(b"---\nconversation: nothing at all\n---\n") == ""
