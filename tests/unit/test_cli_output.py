"""What reaches a terminal: nothing that acts on it, tables, errors, colours, Markdown in pieces."""

from __future__ import annotations

import json
import re
import sys
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opagent.cli.app import seconds
from opagent.cli.markdown import Blocks, render
from opagent.cli.output import _UNSAFE, Output, Style, clean
from opagent.cli.ps import readable
from opagent.cli.telling import Teller
from opagent.cli.words import age, bytes_short, duration, state_word
from opagent.errors import NotTrusted, Usage
from opagent.model import ConversationId, Event, Kind

_ACTS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@given(st.text())
def test_nothing_that_acts_on_a_terminal_is_left(text: str) -> None:
    found = clean(text)
    assert not _ACTS.search(found)
    assert all(unicodedata.category(char) not in ("Cc", "Cs") or char in "\n\t" for char in found)
    assert clean(found) == found


def test_what_acts_on_a_terminal_is_not_printable() -> None:
    """So that printable text needs no search."""
    assert not any(found[0].isprintable() for found in re.finditer(_UNSAFE, "".join(map(chr, range(sys.maxunicode + 1)))))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\tb\nc\r\nd", "a\tb\nc\nd"),
        ("\x1b]0;title\x07", "<U+001B>]0;title<U+0007>"),
        ("\x9b31m", "<U+009B>31m"),
        ("over\rwritten", "over<U+000D>written"),
        ("abc\u202etxt.exe", "abc<U+202E>txt.exe"),
        ("zero\u200bwidth", "zero<U+200B>width"),
        ("Grüße, 日本, 👩‍🚀", "Grüße, 日本, 👩‍🚀"),
    ],
)
def test_cleaning(text: str, shown: str) -> None:
    assert clean(text) == shown


def test_json_is_ascii_and_has_a_schema(capsys: pytest.CaptureFixture[str]) -> None:
    Output(Style(format="json")).result({"text": "ü \x1b[31m \u202e"})
    out = capsys.readouterr().out
    assert out.isascii()
    assert "\x1b" not in out
    assert json.loads(out) == {"schema": 1, "text": "ü \x1b[31m \u202e"}


def test_an_error_is_what_why_and_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    Output(Style()).error(NotTrusted("it is not trusted", "nobody said yes", "opagent trust ."))
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "error: it is not trusted\n       nobody said yes\n  try: opagent trust .\n"


def test_an_error_in_json_stands_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    Output(Style(format="json")).error(NotTrusted("no", "why", "opagent trust ."))
    said = capsys.readouterr()
    error = json.loads(said.out)["error"]
    assert (error["code"], error["message"], error["hint"], error["exit"]) == ("not_trusted", "no", "opagent trust .", 6)
    assert said.err == ""


def test_a_table_has_no_boxes_and_is_whole_when_piped(capsys: pytest.CaptureFixture[str]) -> None:
    Output(Style()).records(
        "things", [{"id": "a", "text": "x" * 300}, {"id": "bcd", "text": None}], {"ID": "id", "TEXT": "text"}, "none"
    )
    assert capsys.readouterr().out.splitlines() == ["ID   TEXT", "a    " + "x" * 300, "bcd  -"]


@pytest.mark.parametrize(("form", "out"), [("ids", "a\n"), ("jsonl", '{"schema":1,"id":"a"}\n')])
def test_other_forms_of_a_list(capsys: pytest.CaptureFixture[str], form: str, out: str) -> None:
    Output(Style(format=form)).records("things", [{"id": "a"}], {"ID": "id"}, "none")
    assert capsys.readouterr().out == out


def test_quiet_silences_talk_but_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    out = Output(Style(quiet=True))
    out.talk("chatter")
    out.error(Usage("wrong"))
    assert capsys.readouterr().err == "error: wrong\n"


@pytest.mark.parametrize(
    ("environment", "style", "colored"),
    [
        ({}, None, False),
        ({"FORCE_COLOR": "1"}, None, True),
        ({"FORCE_COLOR": "1", "NO_COLOR": ""}, None, False),
        ({"FORCE_COLOR": "1"}, False, False),
        ({"FORCE_COLOR": ""}, None, False),
    ],
)
def test_colours(
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    style: bool | None,
    colored: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    Output(Style(color=style)).error(Usage("wrong"))
    assert ("\x1b[31m" in capsys.readouterr().err) is colored


def test_a_stream_ends_its_line_once(capsys: pytest.CaptureFixture[str]) -> None:
    out = Output(Style())
    out.stream("half")
    out.end_line()
    out.end_line()
    out.stream("whole\n")
    out.end_line()
    assert capsys.readouterr().out == "half\nwhole\n"


def test_a_cut_line_end_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    out = Output(Style())
    for piece in ("a\r", "\nb\rc", "d\r"):
        out.stream(piece)
    assert capsys.readouterr().out == "a\nb<U+000D>cd"


def test_a_block_without_an_end_is_shown_in_pieces() -> None:
    blocks = Blocks()
    found = [block for _ in range(5000) for block in blocks.feed("word " * 4)]
    assert len(found) > 3
    assert "".join(found) + blocks.rest == "word " * 20000


@given(st.lists(st.text(alphabet="ab \n`~-#", max_size=12), max_size=20))
def test_blocks_lose_nothing(pieces: list[str]) -> None:
    blocks = Blocks()
    found = [block for piece in pieces for block in blocks.feed(piece)] + blocks.finish()
    assert "".join(found).split() == "".join(pieces).split()
    whole = Blocks()
    assert [*whole.feed("".join(pieces)), *whole.finish()] == found


def test_a_fence_is_one_block_in_spite_of_blank_lines() -> None:
    blocks = Blocks()
    assert blocks.feed("```py\na\n\nb\n") == []
    assert blocks.feed("```\n\nnext") == ["```py\na\n\nb\n```\n\n"]
    assert blocks.finish() == ["next"]


def test_rendered_markdown_has_no_escapes_of_its_author() -> None:
    found = render("# Title\n\n[here](http://example.com/x) \x1b[31mred `code`", 60, color=False)
    assert "\x1b" not in found
    assert "example.com/x" in found
    assert "\x1b]8" not in render("[here](http://example.com)", 60, color=True)


@pytest.mark.parametrize(("text", "length"), [("90", 90), ("90s", 90), ("1.5m", 90), ("2h", 7200)])
def test_lengths_of_time(text: str, length: float) -> None:
    assert seconds(text) == length


@pytest.mark.parametrize("text", ["", "s", "-1", "0", "1d", "nan", "inf", "1e99", "10 m n"])
def test_what_is_no_length_of_time(text: str) -> None:
    with pytest.raises(Usage):
        seconds(text)


def test_words() -> None:
    assert [duration(s) for s in (0, 59.9, 60, 7300, 200000)] == ["0 s", "59 s", "1 min", "2 h", "2 d"]
    assert [bytes_short(size) for size in (0, 999, 1000, 3_400_000, 2_000_000_000)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "3.4 MB",
        "2.0 GB",
    ]
    assert age("soon") == "soon"
    assert age("2000-01-01T00:00:00Z").endswith(" d")
    assert state_word("waiting") == "? waiting"


def test_a_file_that_is_not_written_any_more_is_told_with_the_way_out() -> None:
    body = {"what": "stopped", "text": "the file is not written any more", "hint": "opagent conversations rebuild x.md"}
    event = Event(ConversationId("c1"), 1, 1, None, Kind.DOCUMENT, "2026-01-01T00:00:00Z", body)
    assert Teller("echo").lines(event, None) == [body["text"], f"  try: {body['hint']}"]


@pytest.mark.parametrize(
    ("process", "said"),
    [
        ({"state": "ready", "turn": "r1"}, "● working"),
        ({"state": "working", "turn": "r1"}, "● working"),
        ({"state": "ready", "turn": None}, "○ ready"),
        ({"state": "ready", "turn": "r1", "waiting_for": ["p1"]}, "? waiting"),
    ],
)
def test_an_agent_with_a_turn_works(process: dict[str, Any], said: str) -> None:
    assert readable(process)["state"] == said
