"""Settling long text without a parser: what is open at the end is the same, whatever follows."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from opagent.document import closers as closing
from opagent.document.blockstart import last_start
from opagent.document.closers import OpenBlocks, closers
from tests.doubles.steps import grows_linearly, steps

LINES = (
    "word", "Word of\ttext", "1986 was", "12. twelve", "12", "3) three", "2026-11-20 log", "", "", "   ", "- item", "* item", "+ item",
    "- - item", "-", "---", "===", "  - below", "    code", "\tcode", "   lazy", "> quote", "> ```", "> - item", "# head", "#no",
    "```", "````", "```py", "``` a`b", "```x```", "~~~", "~~~~ x", "  ```", "    ```", "- ```", "  ~~~", "`", "a `` b",
    "<div>", "<!-- x", "-->", "- <!-- x", "<pre>", "</pre>", "<details>", "</details>", "text <details>", "`<details>`", "1. ```",
    "| a | b |", "|---|---|", "[a]: b", "\\", "&amp;", "ä", "é word", "**b**", "@x", "(a)", "\\# x", ": y", "'q'", "_u_", "=",
)  # fmt: skip
texts = st.lists(st.sampled_from(LINES), max_size=12).map(lambda lines: "".join(f"{line}\n" for line in lines))


@settings(max_examples=600)
@given(texts, texts)
@example("- a\n\nword\n", "  ```\n  x\n")
@example("```\n\nword\n", "```\n")
@example("12\n~~~\ncode\n\nword\n", "~~~\n")
def test_what_follows_closes_the_same(text: str, more: str) -> None:
    start = last_start(text)
    assert 0 <= start <= len(text)
    assert closers(text[start:] + more) == closers(text + more)


@settings(max_examples=300)
@given(texts, st.integers(1, 40), st.booleans())
def test_settling_early_and_looking_often_change_nothing(text: str, long: int, look: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(closing, "LONG", long)
        blocks = OpenBlocks()
        for line in text.splitlines(keepends=True):
            blocks.feed(line)
            if look:
                blocks.closers()
        assert blocks.closers() == closers(text)


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("One.\n\nTwo\nlines.\n", "lines.\n"),
        ("One.\n\nTwo `x\nlines`.\n", "Two `x\nlines`.\n"),
        ("One.\n\n- item\nlazy\n", "- item\nlazy\n"),
        ("- a\n- b\n", "- b\n"),
        ("Text\n```\nopen\n\nWord\n", "```\nopen\n\nWord\n"),
        ("```\nclosed\n```\n", ""),
        ("```\nclosed\n```\n1 more\n", "1 more\n"),
    ],
)
def test_the_last_block(text: str, rest: str) -> None:
    assert text[last_start(text) :] == rest


@pytest.mark.parametrize(
    "text",
    [
        "One.\n\n<div>\n\nTwo.\n",
        "One.\n\n ```\n\nTwo.\n",
        "A <details>.\n\nTwo.\n",
        "one `\nof two lines\n",
        "- one\n  of two lines\n",
        "",
    ],
)
def test_what_is_not_certain(text: str) -> None:
    assert last_start(text) == 0


def test_a_line_of_digits_hides_no_fence() -> None:
    assert closers("12\n~~~\ncode\n") == "~~~\n"
    assert closers("12\nmore\n") == ""


UNITS = ["A paragraph.\n\n", "- item\n", "```\ncode\n```\n", "<b>\n\n", "word\n", "1 line\n"]


@pytest.mark.parametrize("unit", UNITS)
def test_text_that_nobody_looked_at_costs_no_more_at_the_end(unit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(closing, "LONG", 500)

    def fed(size: int) -> OpenBlocks:
        blocks = OpenBlocks()
        for _ in range(size // 100):
            blocks.feed(unit * (100 // len(unit)))
        return blocks

    assert grows_linearly(fed, 20_000)
    assert steps(fed(80_000).closers) <= 2 * steps(fed(20_000).closers) + 20_000


@pytest.mark.parametrize("unit", ["    code\n", "> quote\n", "- item\n  more\n<b>\n"])
def test_one_block_however_long_is_looked_at_in_ever_longer_steps(unit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(closing, "LONG", 500)

    def fed(size: int) -> None:
        blocks = OpenBlocks()
        for _ in range(size // 100):
            blocks.feed(unit * (100 // len(unit)))

    assert steps(lambda: fed(80_000)) <= 8 * steps(lambda: fed(20_000))
