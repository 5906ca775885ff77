"""Agent text: cleaning as a stream, escaping that can be taken back, closing what is open."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from opagent.document.clean import Cleaner, clean
from opagent.document.closers import OpenBlocks, closers
from opagent.document.markers import escape, escape_own, finder, unescape, unescape_own
from opagent.document.prose import Prose
from tests.doubles.steps import grows_linearly
from tests.doubles.texts import TAG, nasty

COMMONMARK = MarkdownIt("commonmark")
BREAKS = "\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"


def _cut(text: str, places: list[int]) -> list[str]:
    cuts = sorted({min(place, len(text)) for place in places})
    return [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]


@given(nasty, st.lists(st.integers(0, 300), max_size=12))
def test_any_cutting_cleans_to_the_same(text: str, places: list[int]) -> None:
    cleaner = Cleaner()
    assert "".join([cleaner.feed(chunk) for chunk in _cut(text, places)] + [cleaner.finish()]) == clean(text)


@given(nasty)
def test_every_character_alone_cleans_to_the_same(text: str) -> None:
    cleaner = Cleaner()
    assert "".join([cleaner.feed(character) for character in text] + [cleaner.finish()]) == clean(text)


@given(nasty)
def test_clean_text_stays_clean(text: str) -> None:
    done = clean(text)
    assert clean(done) == done
    assert not set(done) & set(BREAKS + "\x00\x1b\x7f\x9b")
    assert done.encode().decode() == done


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\r\nb\rc\x0bd\x0ce\x85f\u2028g\u2029h\x1ci", "a\nb\nc\nd\ne\nf\ng\nh\ni"),
        ("\x1b[1;31mred\x1b[0m \x1b]8;;http://x\x07link\x1b]8;;\x1b\\ \x1b(B\x1b=x", "red link x"),
        ("\x00\x07\x1b\x7f\t", "␀␇␛␡\t"),
        ("\ud83d\ude00 \ud83d \ude00", "\U0001f600 \ufffd \ufffd"),
        ("\x9b31m", "\ufffd31m"),
        ("\x1b]" + "x" * 5000 + "\x07", "␛]" + "x" * 5000 + "␇"),
        ("\r", "\n"),
        ("\x1b]never\r", "␛]never\n"),
    ],
)
def test_cleaned(text: str, shown: str) -> None:
    assert clean(text) == shown


@given(nasty)
def test_escaping_is_reversible_and_leaves_no_marker(text: str) -> None:
    done = clean(text)
    safe = escape(done)
    assert unescape(safe) == done
    assert unescape(unescape(escape(safe))) == done
    for brk in BREAKS:  # an editor turns these into line ends on save
        assert not finder(TAG).search(b"\n" + safe.replace(brk, "\n").encode())


@given(nasty)
def test_a_persons_text_loses_only_markers_of_its_own_conversation(text: str) -> None:
    safe = escape_own(text, TAG)
    assert unescape_own(safe, TAG) == text
    assert not finder(TAG).search(b"\n" + safe.encode("utf-8", "surrogatepass"))
    if f"op:{TAG}" not in text:
        assert safe == text


def _isolated(shown: str) -> bool:
    """Whether a heading after the text, its closers and a marker is a top-level heading."""
    tokens = COMMONMARK.parse(f"{shown}\n<!-- op:k7q2 /a1 done -->\n\n## SENTINEL\n")
    return sum(token.type == "inline" and token.content == "SENTINEL" and token.level == 1 for token in tokens) == 1


@given(nasty, st.lists(st.integers(0, 300), max_size=8))
def test_the_next_heading_is_top_level(text: str, places: list[int]) -> None:
    if "SENTINEL" in text:
        return
    prose = Prose()
    for chunk in _cut(text.replace("\t", "    "), places):
        prose.feed(chunk)
        assert _isolated(prose.markdown())
    prose.finish()
    assert _isolated(prose.markdown())


@given(nasty, st.lists(st.integers(0, 300), max_size=8))
def test_looking_while_it_streams_changes_nothing(text: str, places: list[int]) -> None:
    looked, whole = Prose(), Prose()
    for chunk in _cut(text, places):
        looked.feed(chunk)
        looked.markdown()
    looked.finish()
    whole.feed(text)
    whole.finish()
    assert looked.markdown() == whole.markdown()
    assert unescape(whole.markdown()).startswith(clean(text))


@pytest.mark.parametrize(
    ("text", "closing"),
    [
        ("```\nx\n", "```\n"),
        ("~~~~~\nx\n~~~\n", "~~~~~\n"),
        ("````py\n```\n", "````\n"),
        ("```\nx\n```\n", ""),
        ("- a\n  ```\n  x\n", ""),
        ("> ```\n> x\n", ""),
        ("<!-- x\n", "-->\n"),
        ("<pre>\nx\n", "</pre>\n"),
        ("<SCRIPT>\n", "</script>\n"),
        ("<?php\n", "?>\n"),
        ("<![CDATA[\n", "]]>\n"),
        ("<details>\n\nx\n\n<details>\n\n</details>\n<details>\n", "\n</details>\n</details>\n"),
        ("</details>\n", ""),
        ("`<details>` and ``a` <details>``\n", ""),
        ("text <details> text\n", "\n</details>\n"),
        ("```\n<details>\n```\n", ""),
        ("", ""),
    ],
)
def test_closed(text: str, closing: str) -> None:
    assert closers(text) == closing


def test_a_line_that_is_not_complete_settles_nothing() -> None:
    """`#` looks like a heading after the list; `#foo` belongs to its paragraph, and the fence below to the list item."""
    blocks = OpenBlocks()
    blocks.feed("- a\n")
    blocks.closers("#\n")
    blocks.feed("#foo\n  ```\n  x\n")
    assert blocks.closers() == closers("- a\n#foo\n  ```\n  x\n") == ""


def test_hostile_texts_take_linear_time() -> None:
    units = (
        "`",
        "a`",
        "[a]: b\n",
        "> ",
        "<details>\n",
        "<!--",
        "\n",
        "- ",
        "*",
        "\x1b]",
        "\r",
        "op:\n",
        "<!-- op:\\",
        "[",
        "``` `\n",
        "1. \n",
    )
    for unit in units:
        assert grows_linearly(lambda size, unit=unit: _shown(unit * (size // len(unit))), 5_000), unit  # type: ignore[misc]
        _shown(unit * (200_000 // len(unit)))  # what C code does is not counted: with a square in it this would not end


def _shown(text: str) -> None:
    prose = Prose()
    prose.feed(text)
    prose.finish()
    prose.markdown()
