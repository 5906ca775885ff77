"""A row of the journal: the exact bytes of its head and the chain of hashes; used by the writer thread only, opens nothing.

An event and its audit record are the same row. What is stored is what is hashed: nothing is made canonical again.
"""

from __future__ import annotations

import enum
import hashlib
import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from opagent.errors import Bug
from opagent.jsonline import encode_text
from opagent.model import ConversationId, Event, Kind, TurnId
from opagent.store.blobs import LARGE, Blobs

START = bytes(32)  # the link before the first row
FACTS = frozenset({"obj", "decision", "state", "ref", "error", "ms", "trace"})  # what a head may say beyond who, what, when
_KINDS = {kind.value: kind for kind in Kind}
_NUMBERS_KEPT = 4096  # conversations whose last number is remembered; the rest is looked up
_INSERT = "insert into journal(seq, conversation, n, kind, ref, head, body, sum, link) values(?,?,?,?,?,?,?,?,?)"


class AuditKind(enum.StrEnum):
    """Kinds of rows that are audit only: they belong to no conversation's log and are sent to no client."""

    DAEMON_START = "daemon.start"
    DAEMON_STOP = "daemon.stop"
    BINDING_RESOLVE = "binding.resolve"
    TRUST_ASK = "trust.ask"
    TRUST_GRANT = "trust.grant"
    TRUST_REVOKE = "trust.revoke"
    AGENT_SPAWN = "agent.spawn"
    AGENT_READY = "agent.ready"
    AGENT_EXIT = "agent.exit"
    SESSION_NEW = "session.new"
    SESSION_LOAD = "session.load"
    SESSION_CLOSE = "session.close"
    FS_READ = "fs.read"
    FS_WRITE = "fs.write"
    EXEC_START = "exec.start"
    EXEC_END = "exec.end"
    NET_CONNECT = "net.connect"
    NET_DENY = "net.deny"
    MCP_CALL = "mcp.call"
    MCP_TOOLS_CHANGED = "mcp.tools_changed"
    CALL_START = "call.start"
    CALL_END = "call.end"
    APPROVAL_EXPIRE = "approval.expire"
    APPROVAL_VOID = "approval.void"
    SECRET_USE = "secret.use"  # noqa: S105  a kind, not a secret
    BUDGET_RESERVE = "budget.reserve"
    BUDGET_SPEND = "budget.spend"
    BUDGET_HIT = "budget.hit"
    BUDGET_RAISE = "budget.raise"
    LIMIT_HIT = "limit.hit"
    LIMIT_RAISE = "limit.raise"
    CLOCK_JUMP = "clock.jump"
    HOST_CONNECT = "host.connect"
    HOST_LOST = "host.lost"
    AUDIT_HEAD = "audit.head"
    AUDIT_GAP = "audit.gap"
    AUDIT_PURGE = "audit.purge"
    POLICY_LOAD = "policy.load"


@dataclass(frozen=True, slots=True)
class Draft:
    """A fact before it has a number. `who`: {"agent" | "human", "uid", "via": [...]}; `facts`: keys of `FACTS`."""

    kind: Kind | AuditKind
    turn: TurnId | None = None
    body: Mapping[str, Any] = field(default_factory=dict)
    who: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


class Prepared(NamedTuple):  # not a dataclass: one per event on the hot path, made five times as fast
    draft: Draft
    conversation: ConversationId | None
    content: bytes
    stamp: Mapping[str, Any]  # at (UTC), mono (microseconds of the monotonic clock), boot, host


class Head(NamedTuple):
    """Where the journal ends: the last number and the link that covers everything before it."""

    seq: int
    link: bytes


_encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_careful = json.JSONEncoder(ensure_ascii=True, allow_nan=False, separators=(",", ":"))


def encode(value: object) -> bytes:
    """Compact JSON as UTF-8. A lone surrogate (an agent may send one) is kept as its escape. Raises Bug for what is no JSON."""
    if type(value) is dict and len(value) == 1 and type(text := value.get("text")) is str:  # nearly all that streams
        return b'{"text":%b}' % encode_text(text)
    try:
        return _encoder.encode(value).encode()
    except UnicodeEncodeError:
        return _careful.encode(value).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise Bug("an event cannot be written as JSON", str(error)) from error


def next_link(link: bytes, head: bytes, total: bytes) -> bytes:
    return hashlib.sha256(link + head + total).digest()


def last(connection: sqlite3.Connection) -> Head:
    """The stored end of the journal."""
    row = connection.execute("select seq, link from journal order by seq desc limit 1").fetchone()
    return Head(*row) if row else Head(0, START)


class Chain:
    """The end of the journal in memory, so that adding a row reads nothing. Thrown away after a failed commit."""

    def __init__(self, head: Head, blobs: Blobs) -> None:
        self.head = head
        self.fresh: list[Event] = []  # events of the open transaction, for the listeners
        self._blobs = blobs
        self._numbers: dict[str, int] = {}

    def mark(self) -> tuple[Head, int]:
        return self.head, len(self.fresh)

    def back(self, mark: tuple[Head, int]) -> None:
        """Forget what was added after `mark`: its savepoint was rolled back."""
        self.head, kept = mark
        del self.fresh[kept:]
        self._numbers.clear()

    def add(self, connection: sqlite3.Connection, prepared: Sequence[Prepared]) -> list[Event]:
        """Insert rows inside the caller's transaction; the events among them, numbered. Audit rows give none."""
        rows: list[tuple[Any, ...]] = []
        events: list[Event] = []
        seq, link = self.head
        for item in prepared:
            seq += 1
            number = self._number(connection, item)
            total = hashlib.sha256(item.content).digest()
            body: bytes | None = item.content
            blob = None
            if len(item.content) > LARGE:
                blob, body = self._blobs.put(item.content), None
            head = _head(item, seq, number, blob)
            link = next_link(link, head, total)
            draft = item.draft
            owner = item.conversation if number else None
            rows.append((seq, owner, number, draft.kind.value, draft.facts.get("ref"), head, body, total, link))
            if number and owner and isinstance(draft.kind, Kind):
                events.append(Event(owner, number, seq, draft.turn, draft.kind, item.stamp["at"], draft.body, item.content))
        connection.executemany(_INSERT, rows)
        self.head = Head(seq, link)
        self.fresh += events
        return events

    def _number(self, connection: sqlite3.Connection, item: Prepared) -> int | None:
        if isinstance(item.draft.kind, AuditKind):
            return None
        if item.conversation is None:
            raise Bug(f"an event of the kind {item.draft.kind} needs a conversation")
        known = self._numbers.get(item.conversation)
        if known is None:
            if len(self._numbers) >= _NUMBERS_KEPT:
                self._numbers.clear()
            query = "select max(n) from journal where conversation = ?"
            known = connection.execute(query, (item.conversation,)).fetchone()[0] or 0
        self._numbers[item.conversation] = known + 1
        return known + 1


def _head(item: Prepared, seq: int, number: int | None, blob: str | None) -> bytes:
    draft = item.draft
    head: dict[str, Any] = {"v": 1, "seq": seq, **item.stamp}
    if item.conversation is not None:
        head["conversation"] = item.conversation
    if number is not None:
        head["n"] = number
    head["who"] = {**draft.who, "turn": draft.turn} if draft.turn else draft.who
    head["kind"] = draft.kind.value
    if draft.facts:
        if not draft.facts.keys() <= FACTS:
            raise Bug(f"a row of the journal cannot say {', '.join(sorted(draft.facts.keys() - FACTS))}")
        head.update(draft.facts)
    if blob is not None:
        head["cas"] = blob
    return encode(head)


def content(said: Mapping[str, Any], body: bytes | None, blobs: Blobs) -> bytes | None:
    """What a row with this head was written with; None when it was purged.

    Purged: body null, or for a large one, which has no body but a file that others may share, an empty body.
    """
    if "cas" in said:
        return blobs.get(said["cas"]) if body is None else None
    return body


def event(row: Sequence[Any], blobs: Blobs) -> Event:
    """The event of a row (seq, conversation, n, kind, head, body). A purged body reads as {"purged": true}."""
    seq, conversation, number, kind, head, body = row
    said = json.loads(head)
    stored = content(said, body, blobs)
    turn = said["who"].get("turn")
    return Event(
        ConversationId(conversation),
        number,
        seq,
        TurnId(turn) if turn else None,
        _KINDS.get(kind, Kind.NOTE),  # a newer version's kind
        said["at"],
        {"purged": True} if stored is None else json.loads(stored),
    )
