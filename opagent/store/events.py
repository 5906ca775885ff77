"""The journal: every fact of every conversation, numbered and committed before anybody hears of it; decides nothing.

`append` is the usual way. Where the same transaction must first look something up, `put` adds events inside a change of
`Database.write`. Numbers: `seq` counts per conversation from 1 without a gap, `journal` over the whole host.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from opagent.model import ConversationId, Event, Kind
from opagent.store import chain
from opagent.store.chain import AuditKind, Draft, Prepared
from opagent.store.database import Database

__all__ = ["AuditKind", "Draft", "Journal", "timestamp"]

_AFTER = "select seq, conversation, n, kind, head, body from journal where conversation = ? and n > ? order by n limit ?"
_AFTER_ANY = "select seq, conversation, n, kind, head, body from journal where seq > ? and n is not null order by seq limit ?"
_OF_KINDS = "select seq, conversation, n, kind, head, body from journal where conversation = ? and kind in ({}) order by n"
_LAST = "select seq, conversation, n, kind, head, body from journal where conversation = ? order by n desc limit ?"


def timestamp() -> str:
    """Now, as all tables keep it: UTC, ISO 8601, milliseconds. For people; order is by number, durations are monotonic."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Journal:
    """`host` and `boot` (the kernel's boot id) stand in every row."""

    def __init__(self, database: Database, host: str, boot: str, clock: Callable[[], str] = timestamp) -> None:
        self._database = database
        self._origin = {"host": host, "boot": boot}
        self._clock = clock
        database.on_full(self._record_full)
        if database.gap is not None:
            database.first(self._record_gap)

    def append(
        self,
        conversation: ConversationId | None,
        drafts: Sequence[Draft],
        *,
        barrier: bool = False,
        also: Callable[[sqlite3.Connection], None] | None = None,
    ) -> asyncio.Future[list[Event]]:
        """Add `drafts` and what `also` changes (it runs first) in one transaction; all of it or nothing.

        The future: the events with their numbers (rows of an AuditKind give none; only they may do without a conversation),
        or what `also` raised, or StoreFailed. Raises Bug at once for a body that is no JSON.
        """
        prepared = self._prepare(conversation, drafts)

        def change(connection: sqlite3.Connection) -> list[Event]:
            if also is not None:
                also(connection)
            return self._database.chain.add(connection, prepared)

        return self._database.write(change, barrier=barrier, size=sum(len(item.content) + 400 for item in prepared))

    def put(self, connection: sqlite3.Connection, conversation: ConversationId | None, drafts: Sequence[Draft]) -> list[Event]:
        """The same inside a change of `Database.write` or an `also`, in the writer thread."""
        return self._database.chain.add(connection, self._prepare(conversation, drafts))

    def record(self, connection: sqlite3.Connection, conversation: ConversationId | None, draft: Draft) -> int:
        """`put` of one row; its number in the journal, by which a later one refers to it."""
        self.put(connection, conversation, [draft])
        return self._database.chain.head.seq

    def listen(self, callback: Callable[[list[Event]], None]) -> None:
        """Called on the loop after each commit with its events, in journal order. A reader may have seen them already: by seq."""
        self._database.listen(callback)

    def after(self, conversation: ConversationId, seq: int, limit: int = 1000) -> list[Event]:
        """Events of one conversation with a greater `seq`, in order."""
        return self._read(_AFTER, (conversation, seq, limit))

    def after_any(self, journal: int, limit: int = 1000) -> list[Event]:
        """Events of all conversations with a greater `journal` number, in order."""
        return self._read(_AFTER_ANY, (journal, limit))

    def last(self, conversation: ConversationId, count: int) -> list[Event]:
        """The last `count` events of a conversation, oldest first."""
        return self._read(_LAST, (conversation, count))[::-1]

    def of_kinds(self, conversation: ConversationId, kinds: Sequence[Kind]) -> list[Event]:
        """All events of one conversation that are of these kinds, in order."""
        query = _OF_KINDS.format(", ".join("?" * len(kinds)))
        return self._read(query, (conversation, *(kind.value for kind in kinds)))

    def last_seq(self, conversation: ConversationId) -> int:
        """The committed end of a conversation, 0 when it has no event."""
        query = "select max(n) from journal where conversation = ?"
        return int(self._database.read(lambda connection: connection.execute(query, (conversation,)).fetchone()[0]) or 0)

    def last_journal(self) -> int:
        """The committed end of the journal."""
        return self._database.read(chain.last).seq

    def _read(self, query: str, values: tuple[object, ...]) -> list[Event]:
        rows = self._database.read(lambda connection: connection.execute(query, values).fetchall())
        return [chain.event(row, self._database.blobs) for row in rows]

    def _prepare(self, conversation: ConversationId | None, drafts: Sequence[Draft]) -> list[Prepared]:
        stamp = {"at": self._clock(), "mono": time.monotonic_ns() // 1000, **self._origin}
        return [Prepared(draft, conversation, chain.encode(draft.body), stamp) for draft in drafts]

    def _record_gap(self, connection: sqlite3.Connection) -> None:
        facts = {"obj": {"path": str(self._database.path)}, "error": self._database.gap}
        self.put(connection, None, [Draft(AuditKind.AUDIT_GAP, facts=facts)])

    def _record_full(self, connection: sqlite3.Connection) -> None:
        facts = {"obj": {"path": str(self._database.path.parent)}, "error": "disk_full"}
        self.put(connection, None, [Draft(AuditKind.LIMIT_HIT, facts=facts)])
