"""Rows of the table `approval`: functions of a connection, used inside a change or a read; announces nothing.

pending -> allowed | denied | expired | cancelled | void. The first committed answer wins. It is undone in one case only: it
did not reach the agent, or nobody can say so (allowed | denied -> void); who gave it stays.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from opagent.errors import AlreadyDecided, ApprovalNotFound, Bug, Conflict
from opagent.model import OURS, Approval, ApprovalId, ApprovalState, ConversationId, ProcessId, Turn, TurnId

_SELECT = """select id, conversation, turn, process, rpc_id, kind, subject, digest, options, asked_at, expires_at, state,
  answer, answered_by, answered_at, reason, rule from approval """


@dataclass(frozen=True, slots=True)
class Answer:
    """`option`: the optionId that is sent to the agent. `by`: who (human:UID), `policy` or `daemon`. `at`: UTC."""

    state: ApprovalState
    at: str
    by: str
    option: str | None = None
    reason: str | None = None
    rule: str | None = None


def insert(connection: sqlite3.Connection, approval: Approval) -> None:
    """Raises Conflict: the id is taken (draw another), or this process asked with the same request id before."""
    query = "insert into approval values(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    asked = (approval.process, approval.rpc_id, approval.kind, approval.subject, approval.digest)
    options = json.dumps([dict(option) for option in approval.options])
    values = (approval.id, approval.conversation, approval.turn, *asked, options, approval.asked_at, approval.expires_at)
    answer = (approval.answer, approval.answered_by, approval.answered_at, approval.reason, approval.rule)
    try:
        connection.execute(query, (*values, approval.state.value, *answer))
    except sqlite3.IntegrityError as error:
        twice = "process" in str(error)
        what = "the agent used one request id twice" if twice else f"an approval {approval.id} exists already"
        raise Conflict(what) from error


def get(connection: sqlite3.Connection, approval: str) -> Approval:
    """Raises ApprovalNotFound."""
    row = connection.execute(_SELECT + "where id = ?", (approval,)).fetchone()
    if row is None:
        raise _missing(approval)
    return _approval(row)


def find(connection: sqlite3.Connection, word: str) -> Approval:
    """By the whole id or a beginning that only one pending approval has. Raises ApprovalNotFound, Conflict."""
    row = connection.execute(_SELECT + "where id = ?", (word,)).fetchone()
    if row is not None:
        return _approval(row)
    rows = connection.execute(_SELECT + "where state = 'pending' and substr(id, 1, ?) = ?", (len(word), word)).fetchall()
    if not rows or not word:
        raise _missing(word)
    if len(rows) > 1:
        raise Conflict(f"{word!r} fits several approvals", ", ".join(str(row[0]) for row in rows[:4]), "opagent approvals")
    return _approval(rows[0])


def called(connection: sqlite3.Connection, word: str) -> Approval | None:
    """By the whole id or a beginning that only one has, decided ones too; None where there is none. Raises Conflict."""
    where = "where id = ?1 or substr(id, 1, length(?1)) = ?1 order by id = ?1 desc, id limit 5"
    found = _approvals(connection.execute(_SELECT + where, (word,))) if word else []
    if len(found) > 1 and found[0].id != word:
        raise Conflict(f"{word!r} fits several approvals", ", ".join(each.id for each in found[:4]), "opagent approvals list -a")
    return found[0] if found else None


def answer(connection: sqlite3.Connection, approval: str, said: Answer) -> Approval:
    """The decided approval. Raises ApprovalNotFound, AlreadyDecided when somebody was first."""
    if said.state is ApprovalState.PENDING:
        raise Bug("an answer decides")
    stored = get(connection, approval)
    if stored.state is not ApprovalState.PENDING:
        who = f"{stored.state.value} by {stored.answered_by} at {stored.answered_at}"
        raise AlreadyDecided(f"{approval} was decided before", who, "opagent approvals")
    query = """update approval set state=?, answer=?, answered_by=?, answered_at=?, reason=?, rule=ifnull(?, rule)
      where id = ? and state = 'pending'"""
    connection.execute(query, (said.state.value, said.option, said.by, said.at, said.reason, said.rule, approval))
    return replace(
        stored,
        state=said.state,
        answer=said.option,
        answered_by=said.by,
        answered_at=said.at,
        reason=said.reason,
        rule=said.rule or stored.rule,
    )


def listed(
    connection: sqlite3.Connection, conversation: ConversationId | None = None, *, decided: bool = False, limit: int = 1000
) -> list[Approval]:
    """Pending ones, oldest first; `decided`: the decided ones too."""
    where = "where (?1 or state = 'pending') and (?2 is null or conversation = ?2) order by asked_at, rowid limit ?3"
    return _approvals(connection.execute(_SELECT + where, (decided, conversation, limit)))


def void(connection: sqlite3.Connection, at: str, reason: str, process: ProcessId | None = None) -> list[Approval]:
    """End what is pending of one process, or of all: nobody is left who could hear the answer. Not what we ask ourselves."""
    where = "where state = 'pending' and (?1 is null or process = ?1) and process <> ?2 order by asked_at, rowid"
    pending = _approvals(connection.execute(_SELECT + where, (process, OURS)))
    said = Answer(ApprovalState.VOID, at, "daemon", reason=reason)
    return [answer(connection, approval.id, said) for approval in pending]


def take_back(connection: sqlite3.Connection, approval: str, reason: str) -> Approval:
    """A person's answer that did not reach the agent is void. Raises ApprovalNotFound, AlreadyDecided where there is none."""
    stored = get(connection, approval)
    if stored.state not in (ApprovalState.ALLOWED, ApprovalState.DENIED):
        raise AlreadyDecided(f"{approval} has no answer of a person", f"it is {stored.state.value}", "opagent approvals")
    why = f"{stored.state.value} by {stored.answered_by}, but not known to have reached the agent: {reason}"
    connection.execute("update approval set state = 'void', reason = ? where id = ?", (why, approval))
    return replace(stored, state=ApprovalState.VOID, reason=why)


def undelivered(connection: sqlite3.Connection, turn: Turn) -> list[Approval]:
    """The answers of people to questions of a turn of which the journal does not say that the agent has them."""
    where = """where conversation = ?1 and turn = ?2 and process <> 'opagent' and state in ('allowed', 'denied') and id not in (
      select ifnull(json_extract(cast(body as text), '$.delivered'), '') from journal
      where conversation = ?1 and kind = 'turn_state') order by asked_at, rowid"""
    return _approvals(connection.execute(_SELECT + where, (turn.conversation, turn.id)))


def _approvals(rows: Iterable[Sequence[Any]]) -> list[Approval]:
    return [_approval(row) for row in rows]


def _approval(row: Sequence[Any]) -> Approval:
    name, conversation, turn, process, rpc_id, kind, subject, digest, options, asked_at, expires_at, state, *answered = row
    option, by, at, reason, rule = answered
    return Approval(
        id=ApprovalId(name),
        conversation=ConversationId(conversation),
        turn=TurnId(turn) if turn else None,
        process=ProcessId(process),
        rpc_id=rpc_id,
        kind=kind,
        subject=subject,
        digest=digest,
        options=tuple(json.loads(options)),
        asked_at=asked_at,
        expires_at=expires_at,
        state=ApprovalState(state),
        answer=option,
        answered_by=by,
        answered_at=at,
        reason=reason,
        rule=rule,
    )


def _missing(word: str) -> ApprovalNotFound:
    return ApprovalNotFound(f"there is no approval {word}", hint="opagent approvals")
