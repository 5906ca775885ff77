"""Some of the random lives of a conversation file; `python -m tests.torture N FIRST` runs as many others as one likes."""

from __future__ import annotations

import pytest

from tests.torture import KINDS, PLAIN, RICH, live

SEEDS = range(25)


@pytest.mark.parametrize("eol", [b"\n", b"\r\n"], ids=["lf", "crlf"])
@pytest.mark.parametrize("kind", KINDS)
def test_saves_reloads_and_streams(kind: str, eol: bytes) -> None:
    for seed in SEEDS:
        live(seed, kind, eol, PLAIN)


@pytest.mark.parametrize("eol", [b"\n", b"\r\n"], ids=["lf", "crlf"])
@pytest.mark.parametrize("kind", KINDS)
def test_with_all_that_people_do(kind: str, eol: bytes) -> None:
    """Margin notes, edits, formatters, deleted markers, undo, commands, turns from elsewhere, parts."""
    for seed in SEEDS:
        live(seed, kind, eol, RICH)


def test_an_undo_brings_back_a_turn_deleted_before_a_restart() -> None:
    live(4017, "always", b"\n", RICH)


def test_a_margin_note_that_was_rescued_stands_where_its_turn_was_when_that_is_deleted() -> None:
    live(10447, "always", b"\n", RICH)
