"""Whoever changes, takes out, puts in or reorders records is found by verifying; whoever makes them all anew by a head from outside."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opagent.model import ConversationId, Kind
from opagent.store import audit, chain, heads, migrations
from opagent.store.blobs import LARGE, Blobs
from opagent.store.events import AuditKind, Draft

KEY = b"k" * 32
ROWS = 12
Row = tuple[object, ...]


def journal(words: str = "row", secret: bytes = KEY, blobs: Blobs | None = None, large: bool = False) -> sqlite3.Connection:
    """Twelve rows, each fourth a head; with `large` the second holds more than a row does."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrations.migrate(connection)
    end = chain.Chain(chain.last(connection), blobs or Blobs(Path("unused")))
    for number in range(1, ROWS + 1):
        if number % 4 == 0:
            draft = heads.draft(end.head, f"t{number}", secret)
        else:
            body = {"text": "x" * LARGE if large and number == 2 else f"{words} {number}"}
            draft = Draft(Kind.TEXT if number % 2 else AuditKind.FS_WRITE, body=body, facts={"state": "done", "ref": number})
        end.add(connection, [chain.Prepared(draft, ConversationId("a"), chain.encode(draft.body), {"at": "t"})])
    return connection


def rows(connection: sqlite3.Connection) -> list[Row]:
    return connection.execute("select * from journal order by seq").fetchall()


def put(connection: sqlite3.Connection, changed: list[Row]) -> None:
    connection.execute("drop index if exists journal_conversation")  # whoever tampers is not stopped by it
    connection.execute("delete from journal")
    connection.executemany("insert into journal values(?,?,?,?,?,?,?,?,?)", changed)


def broken(connection: sqlite3.Connection, kept: list[tuple[int | None, str]] | None = None) -> str | None:
    return audit.verify(connection, Blobs(Path("unused")), KEY, kept or []).broken


def test_a_whole_journal_is_whole_and_its_heads_are_counted() -> None:
    found = audit.verify(journal(), Blobs(Path("unused")), KEY)
    assert (found.broken, found.row, found.rows, found.heads) == (None, None, ROWS, 3)


def _delete(found: list[Row], at: int, to: int) -> list[Row]:
    return [row for place, row in enumerate(found) if place != at]


def _swap(found: list[Row], at: int, to: int) -> list[Row]:
    """The contents of two places, each under the number of the other."""
    changed = list(found)
    changed[at], changed[to] = (found[at][0], *found[to][1:]), (found[to][0], *found[at][1:])
    return changed


def _move(found: list[Row], at: int, to: int) -> list[Row]:
    changed = list(found)
    changed.insert(to, changed.pop(at))
    return [(number, *row[1:]) for number, row in enumerate(changed, 1)]


def _close_the_gap(found: list[Row], at: int, to: int) -> list[Row]:
    return [(number, *row[1:]) for number, row in enumerate(_delete(found, at, to), 1)]


def _twice(found: list[Row], at: int, to: int) -> list[Row]:
    return [(number, *row[1:]) for number, row in enumerate([*found[:to], found[at], *found[to:]], 1)]


def _other_body(found: list[Row], at: int, to: int) -> list[Row]:
    changed = list(found)
    changed[at] = (*found[at][:6], b'{"text":"never said"}', *found[at][7:])
    return changed


@given(
    st.sampled_from([_delete, _swap, _move, _close_the_gap, _twice, _other_body]),
    st.integers(0, ROWS - 2),
    st.integers(0, ROWS - 2),
)
def test_records_that_are_changed_moved_or_taken_out_are_found(
    change: Callable[[list[Row], int, int], list[Row]], at: int, to: int
) -> None:
    connection = journal()
    before = rows(connection)
    changed = change(before, at, to)
    if changed == before:
        return  # moved to its own place
    put(connection, changed)
    found = audit.verify(connection, Blobs(Path("unused")), KEY)
    assert found.broken and found.row is not None and found.row <= max(at, to) + 2, "the first bad row is named"
    connection.close()


@given(st.integers(0, ROWS - 1))
def test_a_journal_that_was_cut_is_found_by_a_head_from_before(left: int) -> None:
    connection = journal()
    end = chain.last(connection)
    put(connection, rows(connection)[:left])
    assert broken(connection) is None, "the chain alone cannot know"
    assert "no row has the link" in str(broken(connection, [(end.seq, end.link.hex())]))
    assert "no row has the link" in str(broken(connection, [(None, end.link.hex())]))
    connection.close()


@given(st.integers(1, ROWS))
def test_a_journal_that_was_made_anew_is_found_by_any_head_of_the_old_one(seq: int) -> None:
    old, new = journal(), journal("other")
    link = heads.link_at(old, seq)
    assert link is not None
    assert broken(old, [(seq, link)]) is None and broken(old, [(None, link)]) is None
    assert "written anew" in str(broken(new, [(seq, link)]))
    assert broken(new, [(None, link)])
    old.close()
    new.close()


def test_seals_of_another_key_are_found_only_by_who_has_the_key() -> None:
    forged = journal(secret=b"another key of whoever forged it")
    assert "seal does not fit" in str(broken(forged))
    assert audit.verify(forged, Blobs(Path("unused"))).broken is None


def test_a_large_content_that_was_swapped_is_found(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path / "cas")
    connection = journal(blobs=blobs, large=True)
    assert audit.verify(connection, blobs, KEY).broken is None
    (stored,) = blobs.root.glob("*/*")
    stored.write_bytes(b'{"text":"something else"}')
    assert "row 2: the content is not the one" in str(audit.verify(connection, blobs, KEY).broken)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("opagent audit head h-1 7:" + "a" * 64 + " 2026-11-29T12:00:00Z", [(7, "a" * 64)]),
        ("a" * 64, [(None, "a" * 64)]),
        (f"Nov 29 host opagent[3]: x 12:{'b' * 64}\n13:{'c' * 64}", [(12, "b" * 64), (13, "c" * 64)]),
        ("a" * 63 + " " + "a" * 65 + " nothing", []),
    ],
)
def test_heads_are_found_in_any_text(text: str, found: list[tuple[int | None, str]]) -> None:
    assert heads.read(text) == found


@given(st.text())
def test_no_text_is_too_odd_to_look_for_heads_in(text: str) -> None:
    assert all(len(link) == 64 for _, link in heads.read(text))
