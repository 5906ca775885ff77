"""Rows of the table `remembered`: answers that hold for a conversation or a binding digest; decides nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from opagent.errors import ApprovalNotFound
from opagent.model import ConversationId, Effect

_COLUMNS = "binding, conversation, agent, kind, pattern, effect, at, by, approval, workspace, shown"
_SELECT = f"select number, {_COLUMNS} from remembered "  # noqa: S608  constants


@dataclass(frozen=True, slots=True)
class Remembered:
    """The key is (binding digest, agent, kind, the pattern that was shown). `conversation` None: for the whole binding.

    `shown` is how the pattern reads, `approval` the question that it answers, `number` the row's own.
    """

    binding: str
    conversation: ConversationId | None
    agent: str
    kind: str
    pattern: str
    effect: Effect
    at: str
    by: str
    approval: str | None = None
    workspace: str = ""
    shown: str = ""
    number: int = 0

    @property
    def id(self) -> str:
        return f"r{self.number}"


def put(connection: sqlite3.Connection, answer: Remembered) -> None:
    """The later answer for one key replaces the earlier."""
    query = f"insert or replace into remembered({_COLUMNS}) values(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    key = (answer.binding, answer.conversation, answer.agent, answer.kind, answer.pattern)
    more = (answer.effect.word, answer.at, answer.by, answer.approval, answer.workspace, answer.shown)
    connection.execute(query, (*key, *more))


def find(
    connection: sqlite3.Connection, binding: str, agent: str, kind: str, patterns: Sequence[str], conversation: ConversationId
) -> Remembered | None:
    """The strictest answer that was given for one of these patterns, for the binding or for this conversation."""
    marks = ", ".join("?" * len(patterns))
    query = f"""where binding = ? and agent = ? and kind = ? and (conversation is null or conversation = ?)
      and pattern in ({marks}) order by number"""
    rows = connection.execute(_SELECT + query, (binding, agent, kind, conversation, *patterns)).fetchall()
    return max(map(_remembered, rows), key=lambda each: (each.effect, each.number), default=None)


def listed(connection: sqlite3.Connection, workspace: str | None = None) -> list[Remembered]:
    """All of them, or those of one directory, oldest first."""
    rows = connection.execute(_SELECT + "where ?1 is null or workspace = ?1 order by number", (workspace,)).fetchall()
    return [_remembered(row) for row in rows]


def forget(connection: sqlite3.Connection, ident: str) -> Remembered:
    """Take one away, by its id (r12). Raises ApprovalNotFound."""
    number = ident.removeprefix("r")
    row = connection.execute(_SELECT + "where number = ?", (int(number) if number.isdecimal() else -1,)).fetchone()
    if row is None:
        raise ApprovalNotFound(f"there is no remembered answer {ident}", hint="opagent approvals list --remembered")
    connection.execute("delete from remembered where number = ?", (row[0],))
    return _remembered(row)


def _remembered(row: Sequence[Any]) -> Remembered:
    number, binding, conversation, agent, kind, pattern, effect, at, by, approval, workspace, shown = row
    owner = ConversationId(conversation) if conversation else None
    said = Effect[effect.upper()]
    return Remembered(binding, owner, agent, kind, pattern, said, at, by, approval, workspace, shown, number)
