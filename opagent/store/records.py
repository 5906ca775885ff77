"""The journal as somebody asks for it: rows by kind, conversation, agent, path, state, time; for a reader in a thread of its own.

Without a kind: what was done, granted, decided and ended; not what was said. Any kind can be named, `fs.*` means several.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from opagent.errors import NotFound
from opagent.model import Kind
from opagent.store import chain
from opagent.store.blobs import Blobs
from opagent.store.chain import AuditKind

USUAL = (*AuditKind, Kind.APPROVAL_ASKED, Kind.APPROVAL_ANSWERED, Kind.TURN_STATE)
_BYTES = 4 * 2**20  # of one answer: a frame holds 16 MiB
_COLUMNS = "seq, conversation, n, kind, ref, head, body, sum, link"


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked for; None asks for all. Times as `at` says them. `after`: forwards from that number, else the newest."""

    kinds: tuple[str, ...] = ()
    conversation: str | None = None
    agent: str | None = None
    path: str | None = None  # it, and what is below it
    state: str | None = None
    since: str | None = None
    until: str | None = None
    after: int | None = None
    limit: int = 100


def kinds(words: Sequence[str]) -> tuple[str, ...]:
    """The kinds that are meant: by name or `fs.*`. Raises ValueError with the first word that means none."""
    known = [each.value for each in (*AuditKind, *Kind)]
    found: list[str] = []
    for word in words:
        meant = [each for each in known if each == word or (word.endswith("*") and each.startswith(word[:-1]))]
        if not meant:
            raise ValueError(word)
        found += meant
    return tuple(found)


def found(connection: sqlite3.Connection, blobs: Blobs, query: Query) -> tuple[list[dict[str, Any]], bool]:
    """Rows, oldest first, and whether there are more in the direction of the question."""
    rows: list[dict[str, Any]] = []
    size = 0
    for row in _rows(connection, query):
        if len(rows) >= query.limit or size > _BYTES:
            return _ordered(rows, query), True
        said = json.loads(row[5])
        if query.since is not None and query.after is None and said["at"] < query.since:
            break  # newest first: all others are older
        if _fits(said, query):
            rows.append(_shown(row, blobs))
            size += len(row[5]) + len(row[6] or b"")
    return _ordered(rows, query), False


def _ordered(rows: list[dict[str, Any]], query: Query) -> list[dict[str, Any]]:
    return rows if query.after is not None else rows[::-1]


def _rows(connection: sqlite3.Connection, query: Query) -> Iterator[Sequence[Any]]:
    """By the narrowest index that there is."""
    if query.path is not None:
        yield from _of_path(connection, query)
        return
    wanted = query.kinds or tuple(each.value for each in USUAL)
    marks = ", ".join("?" * len(wanted))
    order = "asc" if query.after is not None else "desc"
    only = " and n is null" if all("." in each for each in wanted) else ""
    text = f"select {_COLUMNS} from journal where seq > ? and kind in ({marks}){only} order by seq {order}"  # noqa: S608
    yield from connection.execute(text, (query.after or 0, *wanted))


def _of_path(connection: sqlite3.Connection, query: Query) -> Iterator[Sequence[Any]]:
    path = (query.path or "").rstrip("/")
    order = "asc" if query.after is not None else "desc"
    effects = "select seq from effect where {0} union select ended from effect where ended is not null and {0}"
    inside = effects.format("(path = ?1 or (path >= ?1 || '/' and path < ?1 || '0'))")  # '0' follows '/'
    text = f"select {_COLUMNS} from journal where seq in ({inside}) and seq > ?2 order by seq {order}"  # noqa: S608
    yield from connection.execute(text, (path, query.after or 0))


def _fits(row: Mapping[str, Any], query: Query) -> bool:
    who = row["who"]
    return (
        (query.conversation is None or row.get("conversation") == query.conversation)
        and (query.agent is None or who.get("agent") == query.agent)
        and (query.state is None or row.get("state") == query.state)
        and (query.since is None or row["at"] >= query.since)
        and (query.until is None or row["at"] < query.until)
        and (not query.kinds or row["kind"] in query.kinds)
    )


def _shown(row: Sequence[Any], blobs: Blobs) -> dict[str, Any]:
    """What the head says, with the content where it is still there, and the link that covers everything before."""
    seq, conversation, _, _, _, head, body, _, link = row
    said: dict[str, Any] = json.loads(head)
    content = chain.content(said, body, blobs)
    return {**said, "seq": seq, "body": None if content is None else json.loads(content), "link": link.hex()} | (
        {"conversation": conversation} if conversation else {}
    )


def one(connection: sqlite3.Connection, blobs: Blobs, seq: int) -> dict[str, Any]:
    """Raises NotFound."""
    row = connection.execute(f"select {_COLUMNS} from journal where seq = ?", (seq,)).fetchone()  # noqa: S608
    if row is None:
        raise NotFound(f"there is no record {seq}", hint="opagent audit")
    return _shown(row, blobs)


def exact(connection: sqlite3.Connection, after: int, limit: int) -> tuple[list[dict[str, Any]], bool]:
    """Rows as they are stored, byte for byte: what an export holds, so that it can be verified without the database."""
    rows: list[dict[str, Any]] = []
    size = 0
    text = f"select {_COLUMNS} from journal where seq > ? order by seq"  # noqa: S608
    for seq, conversation, number, kind, ref, head, body, total, link in connection.execute(text, (after,)):
        if len(rows) >= limit or size > _BYTES:
            return rows, True
        said = {"seq": seq, "conversation": conversation, "n": number, "kind": kind, "ref": ref, "head": head.decode()}
        rows.append({**said, "body": None if body is None else body.decode(), "sum": total.hex(), "link": link.hex()})
        size += len(head) + len(body or b"")
    return rows, False
