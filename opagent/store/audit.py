"""The journal read as evidence: verifying the chain, purging bodies without breaking it; adds no row of its own."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from opagent.model import ConversationId
from opagent.store import chain, effects, heads
from opagent.store.blobs import Blobs
from opagent.store.chain import AuditKind

_ROWS = "select seq, conversation, n, kind, ref, head, body, sum, link from journal order by seq"


Kept = Sequence[tuple[int | None, str]]  # number and link, as `heads.read` finds them


@dataclass(frozen=True, slots=True)
class Verified:
    """`broken`: the first row (`row`) that does not fit and why, None for a whole chain. `purged`: rows whose content is gone.

    `heads`: how many of the chain's own heads were looked at.
    """

    rows: int
    purged: int
    head: chain.Head
    broken: str | None = None
    row: int | None = None
    heads: int = 0


def verify(connection: sqlite3.Connection, blobs: Blobs, key: bytes | None = None, kept: Kept = ()) -> Verified:
    """Walk the whole journal (2.4 s per 1e6 rows): every number, head, link, and the sum of every content that is still there.

    `key`: seals of the heads are checked too. `kept`: heads that somebody has from before; each must be in the chain.
    """
    link, rows, purged, count = chain.START, 0, 0, 0
    missing = {text: seq for seq, text in kept}
    for row in connection.execute(_ROWS):
        problem, gone = _problem(row, rows + 1, link, blobs)
        if problem is None and row[3] == AuditKind.AUDIT_HEAD:
            count += 1
            problem = heads.problem(json.loads(row[5]), chain.Head(rows, link), key)
        if missing and problem is None:
            problem = _not_kept(row, missing)
        if problem:
            return Verified(rows, purged, chain.Head(rows, link), f"row {row[0]}: {problem}", row[0], count)
        rows += 1
        purged += gone
        link = row[8]
    end = chain.Head(rows, link)
    if missing:
        text, seq = next(iter(missing.items()))
        where = f"the journal ends at {rows}, and a head of row {seq} was kept" if seq and seq > rows else "a head that was kept"
        return Verified(rows, purged, end, f"{where}: no row has the link {text[:16]}...", None, count)
    return Verified(rows, purged, end, heads=count)


def _not_kept(row: Sequence[Any], missing: dict[str, int | None]) -> str | None:
    """Cross out the head that this row is; wrong where somebody has another one of this number."""
    seq, link = row[0], row[8].hex()
    if link in missing and missing[link] in (None, seq):
        del missing[link]
    elif seq in missing.values():
        return "it is not the row whose head was kept: the journal was written anew"
    return None


def _problem(row: Sequence[Any], expected: int, link: bytes, blobs: Blobs) -> tuple[str | None, bool]:
    """What is wrong with one row, and whether its content was purged."""
    seq, conversation, number, kind, ref, head, body, total, stored = row
    if seq != expected:
        return f"{expected} is missing", False
    if chain.next_link(link, head, total) != stored:
        return "the link does not fit", False
    said = json.loads(head)  # these are the bytes that were written: the link says so
    owner = said.get("conversation") if "n" in said else None
    if (said["seq"], owner, said.get("n"), said["kind"], said.get("ref")) != (seq, conversation, number, kind, ref):
        return "the columns do not say what the head says", False
    content = chain.content(said, body, blobs)
    if content is not None and hashlib.sha256(content).digest() != total:
        return "the content is not the one that was written", False
    return None, content is None


def purge(connection: sqlite3.Connection, blobs: Blobs, conversation: ConversationId, upto: int) -> int:
    """Remove the contents of a conversation's events up to the number `upto`, for good; how many. Who, what, when stay.

    For a change of `Database.write`. A large content that other events share stays until they are purged too.
    """
    events = "select seq, head, sum, body is null from journal where conversation = ? and n <= ? and ifnull(length(body), 1) > 0"
    count = 0
    large: set[str] = set()
    for seq, head, total, empty in connection.execute(events, (conversation, upto)).fetchall():
        if empty and "cas" not in json.loads(head):
            continue  # purged before
        if empty:
            large.add(bytes(total).hex())
        connection.execute("update journal set body = ? where seq = ?", (b"" if empty else None, seq))
        count += 1
    for digest in large:
        shared = "select 1 from journal where sum = ? and body is null limit 1"
        if connection.execute(shared, (bytes.fromhex(digest),)).fetchone() is None:
            blobs.remove(digest)
    return count


def contents_of(connection: sqlite3.Connection, conversation: ConversationId, before: str) -> int:
    """Remove what the effects of a conversation held (the words of commands) that began before a moment; how many rows."""
    numbers = effects.records_of(connection, conversation, before)
    query = "update journal set body = null where seq = ? and body is not null and length(body) > 2"
    return sum(connection.execute(query, (seq,)).rowcount for seq in numbers)


def number_before(connection: sqlite3.Connection, conversation: ConversationId, before: str) -> int:
    """The last event of a conversation before a moment (UTC, as `at` says it), 0 when there is none."""
    query = "select n, head from journal where conversation = ? order by n desc"
    for number, head in connection.execute(query, (conversation,)):
        if json.loads(head)["at"] < before:
            return int(number)
    return 0


def forget_texts(connection: sqlite3.Connection, conversation: ConversationId, before: str) -> None:
    """What other tables hold of the contents: the prompts of turns that ended, what was asked."""
    turns = "update turn set text = '' where conversation = ? and ended_at is not null and queued_at < ?"
    connection.execute(turns, (conversation, before))
    asked = "update approval set subject = '(purged)' where conversation = ? and state != 'pending' and asked_at < ?"
    connection.execute(asked, (conversation, before))


def purged_since(connection: sqlite3.Connection, seq: int) -> bool:
    """Whether contents were removed after this row."""
    query = "select 1 from journal where kind = ? and n is null and seq > ?"
    return connection.execute(query, (AuditKind.AUDIT_PURGE.value, seq)).fetchone() is not None


def was_purged(connection: sqlite3.Connection, conversation: ConversationId) -> bool:
    """Whether a person had contents of this conversation removed."""
    query = "select head from journal where kind = ? and n is null"
    found = connection.execute(query, (AuditKind.AUDIT_PURGE.value,))
    return any(json.loads(head).get("conversation") == conversation for (head,) in found)
