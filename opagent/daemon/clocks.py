"""What happens to a conversation because time went by: deadlines, a silent agent, writes that are due; called by the consumer.

API: `late`, `ticked`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from opagent.daemon import inbox, lifecycle, stopping, turns
from opagent.errors import AgentStuck
from opagent.model import Kind, ProcessState, TurnState
from opagent.process.states import Happening
from opagent.store.events import Draft

if TYPE_CHECKING:
    from opagent.daemon.conversation import Conversation

STALLED_AFTER = 300.0  # seconds without a byte in a turn: shown
GIVEN_UP_AFTER = 1800.0  # seconds without a byte in a turn: cancelled


async def late(c: Conversation, what: str) -> None:
    """The time for `what` is over. Raises AgentStuck."""
    if what == "back-off":
        if c.process_state is ProcessState.BACKOFF:
            await (lifecycle.start(c) if c.queue else c.move(Happening.STOP))
        return
    agent = c.agent
    if agent is None or not agent.due(what):
        return
    if what == "cancel":
        if c.current is not None:
            await turns.finish(c, TurnState.CANCELLED, c.current.cancel_reason or "cancelled", c.current.cancel_sentence)
            await lifecycle.stop(c, inbox.StopAgent(again=False, force=False))
        return
    raise AgentStuck(f"{agent.role.runtime} did not answer {what} in time", "", f"opagent logs {agent.id}")


async def ticked(c: Conversation) -> None:
    """A moment went by: due writes of the file, the clock of a silent agent."""
    await c.file.write_if_due()
    if not c.busy:
        c.file.rest()
    agent, running = c.agent, c.current
    if running is None or agent is None:
        return
    await stopping.look(c)
    silent = asyncio.get_running_loop().time() - agent.last_heard
    if running.pending or c.shared.calls.wait_for(c.record.id, running.turn.id):
        silent = 0.0  # it waits for a person, or for another agent
    if silent > GIVEN_UP_AFTER:
        await turns.cancel(c, "stalled")
    elif silent > STALLED_AFTER and not running.stalled:
        running.stalled = True
        await c.append([Draft(Kind.AGENT_STATE, running.turn.id, {"state": "stalled", "seconds": int(silent)})])
    c.tick()
