"""Rows of the table `remembered`: answers that hold for a conversation or a binding digest; decides nothing."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from opagent.model import ConversationId, Effect


@dataclass(frozen=True, slots=True)
class Remembered:
    """The key is (binding digest, agent, kind, the pattern that was shown). `conversation` None: for the whole binding."""

    binding: str
    conversation: ConversationId | None
    agent: str
    kind: str
    pattern: str
    effect: Effect
    at: str
    by: str


def put(connection: sqlite3.Connection, answer: Remembered) -> None:
    """The later answer for one key replaces the earlier."""
    query = """insert or replace into remembered(binding, conversation, agent, kind, pattern, effect, at, by)
      values(?, ?, ?, ?, ?, ?, ?, ?)"""
    key = (answer.binding, answer.conversation, answer.agent, answer.kind, answer.pattern)
    connection.execute(query, (*key, answer.effect.word, answer.at, answer.by))


def of(connection: sqlite3.Connection, binding: str, agent: str, conversation: ConversationId | None) -> list[Remembered]:
    """What holds for an agent of this binding in this conversation, oldest first."""
    query = """select binding, conversation, agent, kind, pattern, effect, at, by from remembered
      where binding = ? and agent = ? and (conversation is null or conversation = ?) order by number"""
    rows = connection.execute(query, (binding, agent, conversation)).fetchall()
    return [_remembered(row) for row in rows]


def revoke(connection: sqlite3.Connection, binding: str, conversation: ConversationId | None = None) -> int:
    """Forget the answers of a binding, or only those of one of its conversations; how many."""
    query = "delete from remembered where binding = ?1 and (?2 is null or conversation = ?2)"
    return connection.execute(query, (binding, conversation)).rowcount


def _remembered(row: tuple[str, str | None, str, str, str, str, str, str]) -> Remembered:
    binding, conversation, agent, kind, pattern, effect, at, by = row
    owner = ConversationId(conversation) if conversation else None
    return Remembered(binding, owner, agent, kind, pattern, Effect[effect.upper()], at, by)
