"""The chain of hashes under any sequence of appends and purges, and under any change of what was written."""

from __future__ import annotations

import sqlite3
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from opagent.model import ConversationId, Kind
from opagent.store import audit, chain, migrations
from opagent.store.blobs import LARGE, Blobs
from opagent.store.events import AuditKind, Draft


def rows_of(steps: list[tuple[str, int, int]]) -> tuple[sqlite3.Connection, Blobs]:
    """A journal in memory after appends (conversation, size of the body) and purges (conversation, up to)."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrations.migrate(connection)
    blobs = Blobs(Path(tempfile.gettempdir()) / "unused")
    ends = chain.Chain(chain.last(connection), blobs)
    for conversation, number, size in steps:
        if number:
            audit.purge(connection, blobs, ConversationId(conversation), number)
            continue
        draft = Draft(
            Kind.NOTE if size % 3 else AuditKind.FS_READ, body={"text": "x" * size}, facts={"ref": size} if size else {}
        )
        ends.add(connection, [chain.Prepared(draft, ConversationId(conversation), chain.encode(draft.body), {"at": "t"})])
    return connection, blobs


_STEPS = st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), st.sampled_from([0, 0, 0, 2, 5]), st.integers(0, 40)), max_size=20)


@given(_STEPS)
@settings(deadline=None, max_examples=60)
def test_any_sequence_of_appends_and_purges_verifies(steps: list[tuple[str, int, int]]) -> None:
    connection, blobs = rows_of(steps)
    found = audit.verify(connection, blobs)
    assert found.broken is None and found.head == chain.last(connection)
    connection.close()


@given(_STEPS, st.data())
@settings(deadline=None, max_examples=150)
def test_any_changed_byte_or_missing_row_is_found(steps: list[tuple[str, int, int]], data: st.DataObject) -> None:
    connection, blobs = rows_of([("a", 0, 7), ("b", 0, 4), *steps, ("a", 0, 1)])
    connection.execute("drop index journal_conversation")  # it would refuse some of the changes
    rows = connection.execute("select * from journal order by seq").fetchall()
    names = ["seq", "conversation", "n", "kind", "ref", "head", "body", "sum", "link"]
    row = data.draw(st.sampled_from(rows[:-1]))
    column = data.draw(st.sampled_from([name for name, value in zip(names, row, strict=True) if value is not None]))
    old = row[names.index(column)]
    if isinstance(old, int):
        connection.execute(f"update journal set {column} = ? where seq = ?", (old + 1000, row[0]))
    else:
        content = bytearray(old if isinstance(old, bytes) else old.encode())
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 6))
        new = bytes(content) if isinstance(old, bytes) else content.decode()
        connection.execute(f"update journal set {column} = ? where seq = ?", (new, row[0]))
    assert audit.verify(connection, blobs).broken, f"{column} of row {row[0]}"
    connection.execute("delete from journal")
    connection.executemany("insert into journal values(?,?,?,?,?,?,?,?,?)", [each for each in rows if each != row])
    assert audit.verify(connection, blobs).broken, f"row {row[0]} deleted"
    connection.close()


def test_a_changed_byte_in_a_large_content_is_found(tmp_path: Path) -> None:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrations.migrate(connection)
    blobs = Blobs(tmp_path / "cas")
    draft = Draft(Kind.TEXT, body={"text": "x" * LARGE})
    row = chain.Prepared(draft, ConversationId("a"), chain.encode(draft.body), {"at": "t"})
    chain.Chain(chain.last(connection), blobs).add(connection, [row])
    assert audit.verify(connection, blobs) == audit.Verified(1, 0, chain.last(connection))
    (stored,) = blobs.root.glob("*/*")
    stored.write_bytes(stored.read_bytes().replace(b"x", b"y", 1))
    assert audit.verify(connection, blobs).broken == "row 1: the content is not the one that was written"
    stored.unlink()
    assert audit.verify(connection, blobs).purged == 1
    connection.close()
