"""What a daemon that ended in the middle left: agents are ended, turns interrupted, effects unknown; the queue goes on.

Called once, before anybody is served.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from opagent import paths
from opagent.daemon import effects, inbox, pauses, recording
from opagent.daemon.approvals import voided
from opagent.errors import OpAgentError
from opagent.model import ConversationId, Kind, Turn, TurnState
from opagent.process import probe, tree
from opagent.store import processes as process_rows
from opagent.store import recovery
from opagent.store import turns as turn_rows
from opagent.store.events import AuditKind, Draft, timestamp

if TYPE_CHECKING:
    from opagent.daemon.host import Host

log = logging.getLogger(__name__)


async def recover(host: Host) -> None:
    """The agents that were left are ended, and what waited goes on. Raises StoreFailed."""
    await asyncio.to_thread(shutil.rmtree, paths.agent_gits(), ignore_errors=True)
    live = host.database.read(process_rows.live)
    for row in live:
        await tree.kill_leftover(row.pid, int(row.started), row.boot)
    commands = host.database.read(effects.commands)
    await tree.sweep([*(row.id for row in live if row.boot == host.boot), *commands, probe.mark()])
    await asyncio.to_thread(shutil.rmtree, paths.landlock_home(""), ignore_errors=True)
    behind = await host.database.write(lambda db: _settle(host, db), barrier=True)
    pauses.reopen(host)
    queued = host.database.read(lambda db: turn_rows.unfinished(db))
    for ident in dict.fromkeys([*behind, *(turn.conversation for turn in queued)]):
        try:
            conversation = host.conversation(ident)
            conversation.post(inbox.Project())
            conversation.post(inbox.Look())
        except (OpAgentError, OSError) as error:  # its directory is gone, its binding broken: the others go on
            log.warning("conversation %s cannot go on: %s", ident, error)
            for turn in queued:
                if turn.conversation == ident:
                    await _refuse_left(host, turn, error)


async def _refuse_left(host: Host, turn: Turn, error: Exception) -> None:
    """A turn that waited when the daemon ended, in a conversation that cannot be opened any more."""
    failed = replace(turn, state=TurnState.FAILED, ended_at=timestamp(), reason=getattr(error, "code", "not_found"))
    body = {"state": failed.state.value, "message": turn.message, "reason": failed.reason, "sentence": str(error)}
    draft = Draft(Kind.TURN_STATE, turn.id, body)
    await host.journal.append(turn.conversation, [draft], barrier=True, also=lambda db: turn_rows.update(db, failed))


def _settle(host: Host, db: Any) -> list[ConversationId]:
    """Rows and events together: a turn is never interrupted without its event. Gives whose files may be behind."""
    behind = recovery.left_open(db)
    lost = effects.lost(host.journal, db)
    found = recovery.recover(db, timestamp())
    effects.tell(host.journal, db, lost)
    for turn in found.turns:
        body = {"state": turn.state.value, "message": turn.message, "reason": "daemon", "sentence": "the daemon stopped"}
        host.journal.put(db, turn.conversation, [Draft(Kind.TURN_STATE, turn.id, body)])
    for approval in found.approvals:
        host.journal.put(db, approval.conversation, [voided(approval), *recording.approval_ended(approval)])
    for process in found.processes:
        host.journal.put(db, process.conversation, [recording.left(process)])
    host.journal.put(db, None, [Draft(AuditKind.DAEMON_START)])
    return list(dict.fromkeys([*behind, *(turn.conversation for turn in found.turns)]))
