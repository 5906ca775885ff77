"""What a daemon does at this moment that a stop would cut off, and a stop that waits for the end of it."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from opagent.model import OURS, ConversationId
from opagent.store import approvals

if TYPE_CHECKING:
    from opagent.daemon.host import Host

log = logging.getLogger(__name__)

_LOOK = 0.25  # seconds


def doing(host: Host) -> list[dict[str, Any]]:
    """Conversations where a turn runs or waits, a draft waits, or a question is open: {conversation, workspace, agent, state}."""
    open_ = host.database.read(lambda db: approvals.listed(db, None, decided=False))
    asked = {approval.conversation for approval in open_ if approval.process != OURS}  # ours outlives the daemon
    found = {ident: _state(host, ident, ident in asked) for ident in (*host.conversations, *asked)}
    return [state for state in found.values() if state is not None]


def _state(host: Host, ident: ConversationId, asked: bool) -> dict[str, Any] | None:
    known = host.conversations.get(ident)
    if known is None or not (known.busy or known.standing.waits or asked):
        return None
    state = "waiting for an answer" if asked else "working" if known.current is not None else "queued"
    return {"conversation": ident, "workspace": known.record.workspace, "agent": known.record.agent, "state": state}


class Leaving:
    """One per daemon."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self.when_idle = False

    def now(self) -> None:
        asyncio.get_running_loop().call_soon(self._host.stopping.set)

    def once_idle(self) -> None:
        """New turns are taken until then. Harmless twice."""
        if not self.when_idle:
            self.when_idle = True
            self._host.shared.spawn(self._wait(), "stop when idle")

    async def _wait(self) -> None:
        while doing(self._host):  # noqa: ASYNC110  (several things end, none tells of all)
            await asyncio.sleep(_LOOK)
        log.info("nothing is going on: stopped as asked")
        self._host.stopping.set()
