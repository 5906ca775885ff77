"""What a daemon that ended in the middle left in the tables, brought to rest in one change; ends no process, sends nothing."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, replace

from opagent.model import Approval, ConversationId, Turn, TurnState
from opagent.store import approvals, ledger, processes, turns
from opagent.store.chain import AuditKind
from opagent.store.processes import ProcessRecord

AGENT = "agent:"  # begins the author of a turn that an agent called for
_LOOKED_BACK = 20_000  # rows of the journal


@dataclass(frozen=True, slots=True)
class Recovered:
    """Rows as they are afterwards. `processes` may still live: same (pid, started, boot) -> the supervisor ends them."""

    turns: tuple[Turn, ...]
    approvals: tuple[Approval, ...]
    processes: tuple[ProcessRecord, ...]


def recover(connection: sqlite3.Connection, at: str, reason: str = "the daemon ended") -> Recovered:
    """Running and waiting turns -> interrupted, pending approvals -> void, live processes -> stopped. Queued turns stay queued.

    But for those that an agent called for: its own turn has ended, nobody waits for them any more. They are cancelled.
    Void is also an answer that a person gave and of which the journal does not say that the agent has it (K11, K12).
    Twice gives the same as once. Security.md, "Supervision": an interrupted turn is never sent again by itself.
    """
    stopped = []
    for turn in turns.unfinished(connection):
        queued = turn.state is TurnState.QUEUED
        if not queued or turn.author.startswith(AGENT):
            state = TurnState.CANCELLED if queued else TurnState.INTERRUPTED
            stopped.append(replace(turn, state=state, ended_at=at, reason=reason))
            turns.update(connection, stopped[-1])
    ledger.recover(connection, at)
    lost = [each for turn in stopped for each in approvals.undelivered(connection, turn)]
    voided = [approvals.take_back(connection, each.id, reason) for each in lost] + approvals.void(connection, at, reason)
    return Recovered(tuple(stopped), tuple(voided), tuple(processes.end_all(connection, at, reason)))


def left_open(connection: sqlite3.Connection) -> list[ConversationId]:
    """The conversations that the last daemon worked on, unless it stopped in order: their files may be behind the journal.

    Looks at the last 20,000 rows; a file follows its log within seconds.
    """
    first = "(select max(seq) from journal) - ?"
    marks = f"select seq, kind from journal where seq > {first} and kind in (?, ?) order by seq desc limit 1"  # noqa: S608
    kinds = (AuditKind.DAEMON_START.value, AuditKind.DAEMON_STOP.value)
    seq, kind = connection.execute(marks, (_LOOKED_BACK, *kinds)).fetchone() or (0, "")
    if kind == AuditKind.DAEMON_STOP.value:
        return []
    query = f"select distinct conversation from journal where seq > max(?, {first}) and conversation is not null"  # noqa: S608
    return [ConversationId(row[0]) for row in connection.execute(query, (seq, _LOOKED_BACK))]
