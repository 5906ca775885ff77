"""Rows of the table `conversation`: functions of a connection, used inside a change or a read; the journal is not touched."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from opagent.errors import Conflict, ConversationNotFound
from opagent.model import Conversation, ConversationId

_SELECT = """select id, workspace, path, agent, title, created, acp_session, state,
  (select ifnull(max(n), 0) + 1 from journal where conversation = conversation.id) from conversation """


def insert(connection: sqlite3.Connection, conversation: Conversation) -> None:
    """Raises Conflict when the id is taken: draw another."""
    values = (
        conversation.id,
        conversation.workspace,
        conversation.path,
        conversation.agent,
        conversation.title,
        conversation.created,
        conversation.acp_session,
        conversation.state,
    )
    try:
        connection.execute("insert into conversation values(?, ?, ?, ?, ?, ?, ?, ?)", values)
    except sqlite3.IntegrityError as error:
        raise Conflict(f"a conversation {conversation.id} exists already") from error


def update(connection: sqlite3.Connection, conversation: Conversation) -> None:
    """Everything but the id and `next_seq`, which is the journal's. Raises ConversationNotFound."""
    query = "update conversation set workspace=?, path=?, agent=?, title=?, created=?, acp_session=?, state=? where id=?"
    values = (
        conversation.workspace,
        conversation.path,
        conversation.agent,
        conversation.title,
        conversation.created,
        conversation.acp_session,
        conversation.state,
        conversation.id,
    )
    if connection.execute(query, values).rowcount == 0:
        raise _missing(conversation.id)


def get(connection: sqlite3.Connection, conversation: ConversationId) -> Conversation:
    """Raises ConversationNotFound."""
    row = connection.execute(_SELECT + "where id = ?", (conversation,)).fetchone()
    if row is None:
        raise _missing(conversation)
    return _conversation(row)


def find(connection: sqlite3.Connection, word: str) -> Conversation:
    """By the whole id, a unique beginning of it, the absolute path of the file, or the file's name.

    Raises ConversationNotFound, Conflict when several fit.
    """
    for clause in ("id = ?", "path = ?", "id glob ? || '*'", "path glob '*/' || ?", "path glob '*/' || ? || '.md'"):
        literal = _unglobbed(word) if "glob" in clause else word
        rows = connection.execute(_SELECT + f"where {clause} order by created desc, rowid desc", (literal,)).fetchall()
        if len(rows) == 1 or (rows and clause == "path = ?"):  # the newest of those that were at this path
            return _conversation(rows[0])
        if rows:
            found = ", ".join(str(row[0]) for row in rows[:4])
            raise Conflict(f"{word!r} fits several conversations", found, "opagent conversations")
    raise _missing(word)


def at_path(connection: sqlite3.Connection, path: str) -> Conversation | None:
    """The newest conversation whose file is at this absolute path."""
    row = connection.execute(_SELECT + "where path = ? order by created desc, rowid desc limit 1", (path,)).fetchone()
    return _conversation(row) if row else None


def listed(
    connection: sqlite3.Connection, workspace: str | None = None, state: str | None = None, limit: int = 1000
) -> list[Conversation]:
    """Newest first; of one workspace, in one state, or all."""
    where = "where (?1 is null or workspace = ?1) and (?2 is null or state = ?2) order by created desc, rowid desc limit ?3"
    return [_conversation(row) for row in connection.execute(_SELECT + where, (workspace, state, limit))]


def _conversation(row: Sequence[Any]) -> Conversation:
    return Conversation(ConversationId(row[0]), *row[1:])


def _unglobbed(word: str) -> str:
    """The word with glob's own characters taken literally."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in word)


def _missing(word: str) -> ConversationNotFound:
    return ConversationNotFound(f"there is no conversation {word}", hint="opagent conversations")
