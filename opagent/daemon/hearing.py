"""What the agent says, in wire order: updates go to the log, replies and requests to whom they concern; used by the consumer."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from opagent.acp import messages
from opagent.acp.connection import Asked, Closed, Incoming, Noise, Refusal, Reply, Told, Update, Withdrawn
from opagent.daemon import granted, preparing, questions, recording, stopping, turns
from opagent.errors import AgentFailed
from opagent.model import Kind, ProcessState
from opagent.process.states import Happening
from opagent.store.events import Draft

if TYPE_CHECKING:
    from opagent.daemon.agent import Agent
    from opagent.daemon.conversation import Conversation

log = logging.getLogger(__name__)

EARLY, EARLY_BYTES = 256, 65_536  # updates kept until the next turn, and how large one of them may be


async def heard(c: Conversation, incoming: tuple[Incoming, ...]) -> None:
    """Take what one read of the agent's stdout completed, in its order."""
    updates: list[Update] = []
    for message in incoming:
        if isinstance(message, Update):
            if c.agent is not None and not c.agent.speaks_of(message.session):
                log.debug("%s: an update of another session", c.record.id)
            elif c.current is None:
                await _keep_early(c, message)
            else:
                updates.append(message)
            continue
        await _keep(c, updates)  # order: what came before this message is in the log before it acts
        await _message(c, message)
    await _keep(c, updates)


async def _keep(c: Conversation, updates: list[Update]) -> None:
    """Into the log; `updates` is empty afterwards."""
    if updates and c.current is not None and (drafts := turns.collect(c.current, updates)):
        await c.append(drafts)
        if c.current.reported:
            await granted.reported(c, c.current)
    if updates and c.current is not None:
        for verdict in c.current.verdicts:
            await stopping.circles(c, verdict)  # the first that stops it counts
        if c.current is not None:
            c.current.verdicts.clear()
        await stopping.look(c)
    updates.clear()


async def _message(c: Conversation, message: Incoming) -> None:
    agent = c.agent
    if agent is None:
        return  # it was ended by what came before in the same read
    match message:
        case Reply(number, "session/prompt", result):
            await turns.ended(c, number, result)
        case Refusal(number, "session/prompt"):
            await turns.refused(c, number, message)
        case Reply() | Refusal() if message.number in c.settings.sent:
            await preparing.told(c, message)
        case Reply():
            agent.on_reply(message)
            await _maybe_ready(c, agent)
        case Refusal():
            if note := agent.on_refusal(message):
                await c.note(note)
            await _maybe_ready(c, agent)
        case Asked():
            await questions.asked(c, message)
        case Withdrawn(ident):
            await questions.taken_back(c, ident)
        case Noise(sentence, fatal, answer):
            if sentence:
                await c.note(sentence)
            if answer:
                agent.say(answer)
            if fatal:
                raise AgentFailed(f"{agent.role.runtime} does not speak the protocol", sentence, f"opagent logs {agent.id}")
        case Told(method):
            log.debug("%s: notification %s", c.record.id, method)
        case Closed():
            pass  # the exit follows


async def _keep_early(c: Conversation, update: Update) -> None:
    read = messages.read_update(update.update)
    if read is not None and read[0] is Kind.AGENT_STATE:  # of the session, not of a turn: whoever follows it shows it at once
        await c.append([Draft(Kind.AGENT_STATE, None, read[1])])
        return
    replay = c.agent is not None and c.agent.replaying  # of what stands in the file already
    if len(c.early) < EARLY and not replay and len(repr(update.update)) < EARLY_BYTES:
        c.early.append(update)


async def _maybe_ready(c: Conversation, agent: Agent) -> None:
    if not agent.ready or c.process_state is not ProcessState.STARTING:
        return
    await c.move(Happening.REPLIED)
    await preparing.ready(c, agent)
    for draft in recording.ready(c, agent):
        c.shared.record(draft, c.record.id)
    await c.look()
