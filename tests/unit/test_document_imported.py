"""From elsewhere and to elsewhere: records to a file, Markdown with headings to records, a file to Markdown and JSON."""

from __future__ import annotations

import itertools
import json
import random
import re
from datetime import UTC, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opagent.document import frontmatter, imported, transcript
from opagent.document.export import entries, markdown
from opagent.document.history import history
from opagent.document.imported import Names, talk, written
from opagent.document.parse import Part, join, scan
from opagent.model import Kind, TurnState
from tests.doubles.texts import AT, CONVERSATION, HEADER, document, ids, nasty, opening, reply

NAMES = Names("alice", "tool", UTC)
chance = random.Random(7).randbytes


def made(records: list[dict[str, Any]]) -> bytes:
    return written(talk(records).turns, {"conversation": CONVERSATION, "title": "T"}, NAMES, chance)[0]


# ---- records -> a file ---------------------------------------------------------------------------------------------------

atoms = nasty | st.none() | st.integers() | st.booleans() | st.lists(st.integers(), max_size=2)
fields = st.dictionaries(st.sampled_from(["id", "title", "kind", "status", "path", "diffs", "patch", "output", "old"]), atoms)
strange = st.dictionaries(
    st.sampled_from(["session", "user", "text", "tool", "end", "at", "model", "why", "passed_over"]), atoms | fields, max_size=3
)
usual = st.one_of(
    st.builds(lambda text, at: {"user": text, "at": at}, nasty, st.sampled_from([AT, "", "2026-11-20T09:14:05.25Z", "x -->"])),
    st.builds(lambda text: {"text": text}, nasty),
    st.builds(lambda call: {"tool": call}, fields | st.fixed_dictionaries({"diffs": st.lists(fields, max_size=2)})),
    st.builds(lambda how: {"end": how}, st.sampled_from(["cancelled", "failed", "what"])),
)


@given(st.lists(strange | usual, max_size=12))
def test_whatever_was_said_becomes_a_valid_conversation(records: list[dict[str, Any]]) -> None:
    turns = talk(records).turns
    content = made(records)
    regions = scan(content)
    assert join(regions) == content
    assert [region.part for region in regions] == [Part.HEAD, *[Part.MESSAGE, Part.REPLY] * len(turns), Part.NEXT]
    assert all(region.finished and region.value("re") for region in regions if region.part is Part.REPLY)
    assert len({region.id for region in regions}) == len(regions)
    assert frontmatter.conversation_id(content) == CONVERSATION
    assert not [byte for byte in content if byte < 32 and byte not in b"\n\t"]
    content.decode()


def test_a_turn_with_tools() -> None:
    records = [
        {"session": {"title": "  Two\nlines  "}},
        {"user": "Fix it", "at": "2026-11-20T09:14:03Z"},
        {"text": "I look.", "model": "model-1", "at": "2026-11-20T09:14:05Z"},
        {"tool": {"id": "1", "kind": "execute", "title": "ls -l", "status": "pending"}},
        {"tool": {"id": "1", "status": "completed", "output": "".join(f"{n}\n" for n in range(50))}},
        {"tool": {"id": "2", "kind": "edit", "title": "x", "path": "/w/a.py", "diffs": [{"path": "/w/a.py", "old": "a", "new": "b"}]}},
        {"tool": {"id": "2", "status": "completed", "output": "it was changed"}},
        {"text": "Done.", "at": "2026-11-20T09:15:05Z"},
    ]  # fmt: skip
    found = talk(records, "/w")
    assert found.title == "Two lines"
    content = written(found.turns, {"conversation": CONVERSATION}, NAMES, chance)[0].decode()
    for piece in (
        "you alice 2026-11-20T09:14:03Z via=import -->\n## Alice · 2026-11-20 09:14\n\nFix it\n",
        " agent tool 2026-11-20T09:14:03Z re=",
        " model=model-1 -->\n## Tool · 09:14\n\nI look.\n\n<details>\n<summary>run <code>ls -l</code></summary>\n",
        "17\n… 50 lines\n```\n",
        "<summary>edit <code>a.py</code> +1 −1</summary>",
        "\n-a\n+b\n",
        " done 2026-11-20T09:15:05Z -->",
    ):
        assert piece in content, piece
    assert "it was changed" not in content
    assert "is in the log" not in content


def test_messages_in_a_row_answers_without_one_and_ends() -> None:
    found = talk(
        [{"text": "Hello"}, {"user": "a"}, {"user": "b"}, {"text": "x"}, {"text": "y"}, {"user": "c"}, {"end": "cancelled"},
         {"user": "d"}, {"end": "failed", "why": "overloaded"}, {"user": "e"}]
    )  # fmt: skip
    assert [(turn.text, turn.state) for turn in found.turns] == [
        ("", TurnState.DONE), ("a\n\nb", TurnState.DONE), ("c", TurnState.CANCELLED), ("d", TurnState.FAILED),
        ("e", TurnState.INTERRUPTED),
    ]  # fmt: skip
    assert [body["text"] for kind, body, _ in found.turns[1].steps if kind is Kind.TEXT] == ["x", "\n\ny"]
    assert "overloaded" in made([{"user": "d"}, {"end": "failed", "why": "overloaded"}]).decode()


def test_times_that_are_missing_come_from_what_stood_before() -> None:
    found = talk(
        [
            {"user": "a", "at": AT},
            {"text": "x"},
            {"user": "b", "at": "2026-13-41T25:61:61Z"},
            {"text": "y", "at": "2026-11-21T00:00:00Z"},
        ]
    )
    assert [(turn.sent, turn.ended) for turn in found.turns] == [(AT, AT), (AT, "2026-11-21T00:00:00Z")]
    assert b" you alice via=import -->\n## Alice\n" in made([{"user": "a"}, {"text": "x"}])


def test_the_oldest_turns_stay_out_of_a_file_that_would_be_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imported, "LIMIT", 40_000)
    turns = talk([each for n in range(300) for each in ({"user": f"question {n}"}, {"text": "x" * 200})]).turns
    content, left_out = written(turns, HEADER, NAMES, chance)
    assert len(content) < 45_000
    assert b"question 299\n" in content
    assert f"question {left_out}\n".encode() in content
    assert f"question {left_out - 1}\n".encode() not in content


# ---- Markdown -> records -------------------------------------------------------------------------------------------------


def read(text: str) -> list[tuple[str, str]]:
    """(message or answer, text) of each record."""
    return [(kind, str(r[kind])) for r in transcript.records(text.encode()) for kind in ("user", "text") if kind in r]


def test_headings_of_any_tool() -> None:
    for level, one, two in itertools.product(("#", "##", "###"), ("User", "**Human:**", "🧑 You", "ME", "Prompt (10:42)"),
                                             ("Assistant", "_AI_", "🤖 Assistant:", "Response")):  # fmt: skip
        text = f"# A title\n\npreamble\n\n{level} {one}\n\nHello\n\n{level} {two}\n\n#### Part\n\nHi\n"
        assert read(text) == [("user", "Hello"), ("text", "#### Part\n\nHi")], text


def test_headings_in_code_quotes_and_lists_are_text_and_so_are_deeper_ones() -> None:
    text = "## User\n\n```md\n## Assistant\n```\n\n> ## Assistant\n\n- ## Assistant\n\n### Answer\n\n## Assistant\n\nok\n"
    kinds = read(text)
    assert [kind for kind, _ in kinds] == ["user", "text"]
    assert kinds[1] == ("text", "ok")
    assert read("## Something\n\ntext\n") == read("") == read("\0\xff") == []


@given(nasty)
def test_any_text_can_be_read(text: str) -> None:
    list(transcript.records(text.encode("utf-8", "replace")))
    read("## User\n\n" + text.encode("utf-8", "replace").decode())


# ---- a file -> Markdown and JSON -----------------------------------------------------------------------------------------


def answered(*pairs: tuple[str, str]) -> bytes:
    """A file with these messages and answers; the last line of it is a draft."""
    made = document()
    for number, (said, answer) in enumerate(pairs):
        made = made.begin(opening(number, said)).put(
            f"a{number:04}", reply(("text", {"text": answer})).body(), ("done", AT, "in=5", "out=7")
        )
    return made.content().replace(b"- [ ] **Send**", b"my draft")


def test_markdown_has_no_markers_no_draft_and_no_notes() -> None:
    content = answered(("Question?", "Answer.\n\n<!-- op:k7q2 next -->"))
    content = content.replace(b"<!-- op:k7q2 next", b"my note\n\n<!-- op:k7q2 next", 1)
    text = markdown(content)
    assert text == (
        '---\ntitle: Tighten the intro\nexported: k7q2-m4x8p3\npeople: Alice\nagents: Writer\n---\n\n'
        "## Alice · 2026-11-20 09:00\n\nQuestion?\n\n## Writer · 09:00\n\nAnswer.\n\n<!-- op:k7q2 next -->\n"
    )  # fmt: skip


def test_json_has_what_the_markers_say() -> None:
    message, answer = entries(answered(("Question?", "Answer.")))
    assert message == {"id": "u0000", "role": "user", "author": "alice", "at": "2026-11-20T09:00:05Z", "text": "Question?"}
    assert answer["author"] == "writer"
    assert (answer["re"], answer["state"], answer["ended"], answer["usage"]) == ("u0000", "done", AT, {"in": 5, "out": 7})
    json.dumps([message, answer])


WORD = re.compile("[a-z]")
words = nasty.map(lambda text: text.encode("utf-8", "replace").decode())


@given(st.lists(st.tuples(words, words), max_size=3), st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30))]))
def test_what_was_exported_can_be_imported_again(pairs: list[tuple[str, str]], zone: timezone) -> None:
    """The words, as far as Markdown lets them: what a text leaves open swallows the next heading of any reader."""
    plain = [
        (a, b)
        for a, b in pairs
        if not set("`~<\t\x1b") & set(a + b) and "    " not in a + b and WORD.search(a) and WORD.search(b)
    ]
    first = answered(*plain)
    again = made(list(transcript.records(markdown(first).encode())))
    old, new = history(first), history(again)
    assert [(one.text, one.reply) for one in old] == [(one.text, one.reply) for one in new]


def test_a_heading_inside_a_text_survives_the_way_there_and_back() -> None:
    text = "x\n\n## Alice\n\n## Writer · 09:00\n\n\\## Alice\n\n## Other\n"
    first = answered((text, text))
    exported = markdown(first)
    assert exported.count("\n## Alice") == exported.count("\n## Writer") == 1
    again = made(list(transcript.records(exported.encode())))
    assert [said.text for said in history(again)] == [text.strip()] * 2


def test_times_come_back_in_the_zone_of_the_reader() -> None:
    zone = timezone(timedelta(hours=2))
    records = list(
        transcript.records(b"## User \xc2\xb7 2026-11-20 09:14\n\na\n\n## Assistant \xc2\xb7 00:30\n\nb\n\n## User\n\nc\n", zone)
    )
    assert [record["at"] for record in records] == ["2026-11-20T07:14:00Z", "2026-11-19T22:30:00Z", ""]


def test_every_file_of_the_corpus_can_be_exported() -> None:
    for path in sorted((Path(__file__).resolve().parents[1] / "corpus/files").glob("*.md")):
        content = path.read_bytes()
        text = markdown(content)
        assert text.startswith("---\n")
        found = [entry["id"] for entry in entries(content)]
        assert found == [name for name in ids(content) if name and name != "next"]
