"""The agent process of one conversation: started, ended, failed, stopped. Called by the consumer only."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
from dataclasses import replace
from typing import TYPE_CHECKING

from opagent.daemon import aftercare, confinement, gestures, inbox, preparing, recording, standing, toolservers, turns
from opagent.daemon.agent import Agent
from opagent.daemon.services import Services
from opagent.errors import Conflict, OpAgentError, StoreFailed
from opagent.model import ExitReport, ProcessState, Turn, TurnState
from opagent.process.states import GiveUp, Happening, Restart, Stay, after_exit
from opagent.store.effects import State

if TYPE_CHECKING:
    from opagent.daemon.conversation import Conversation

STUCK = (
    "Waits for an `opagent open` or `opagent send` in this directory: since OpAgent was started anew, it does not know where your"
    " programs are"
)
AGAIN = 2.0  # seconds until something is tried again that the store did not take


def outdated(c: Conversation, agent: Agent, turn: Turn) -> bool:
    """Whether a turn needs another process: another agent's, with another model, or with a session of its own."""
    bound = c.shared.calls.under(c.record.id, turn)
    other = turn.agent != c.guest or (bound.capabilities, bound.strict) != (c.under.capabilities, c.under.strict)
    return bool(c.retold and not agent.fresh) or agent.stale or other or c.model != c.file.subject.settings.model


async def start_for(c: Conversation, turn: Turn) -> None:
    """Spawn the agent that takes this turn, unless it has to be waited for. Raises as `start`."""
    c.guest, c.under = turn.agent, c.shared.calls.under(c.record.id, turn)
    waits = c.workspace.path not in c.shared.environments and not c.workspace.comes_with_us(c.role)
    if c.stuck != (stuck := STUCK if waits else ""):
        c.stuck = stuck
        await standing.tell(c)
    if not waits and c.process_state is not ProcessState.BACKOFF:
        c.aftermath.begin(turn.id)  # while it comes up; and what it does there by then is told with the turn
        await start(c)


async def start(c: Conversation) -> None:
    """Spawn the agent and begin the handshake. Raises NotTrusted, RuntimeNotInstalled, AgentFailed and their like."""
    await _bury(c)
    if c.shared.closing:
        raise Conflict("the daemon is stopping", "", "opagent daemon status")
    c.generation += 1
    await c.move(Happening.START)
    speaker = c.record if c.guest is None else replace(c.record, agent=c.guest, acp_session=None)
    found = c.shared.look_again(speaker)  # the binding, and whether it may act, at this moment
    c.see(found.narrowed(c.under.capabilities, c.under.strict))
    ident = c.shared.new_process()
    launch, role = c.workspace.launch(ident, speaker)
    plan = await asyncio.to_thread(confinement.plan, c.workspace, speaker.agent)
    spec = c.workspace.runtime(speaker.agent)
    confined = await asyncio.to_thread(confinement.confined, plan, launch, c.workspace, spec)
    launch = await c.shared.lines.attach(c, await c.shared.network.attach(c, confined.launch))
    model, chosen = role.model or await gestures.model(c) or None, c.settings.kept(c.guest)
    role = replace(role, model=model, chosen=chosen, servers=toolservers.servers(c, launch))
    launch = replace(launch, secrets=c.shared.known.learn(launch.env))
    agent = c.agent = Agent(launch, c.generation, role, c.post, plan)
    agent.git, agent.scripts, agent.notices = confined.git, confined.scripts, confined.said
    agent.needed = confinement.needed(spec)
    c.shared.running.add(agent)
    act = recording.spawn(c, agent, launch, speaker.agent)
    spawn = await c.shared.process_starts(agent, speaker, act, recording.under(c, c.workspace))
    c.starts.append(c.shared.clock())
    try:
        await agent.start(speaker.acp_session, c.shared)
    except OpAgentError as error:
        await c.shared.effects.end(spawn, act, State.FAILED, error=str(error))
        raise
    c.services = Services(c, agent) if role.services else None
    await c.shared.process_started(agent, act, spawn)


async def exited(c: Conversation, report: ExitReport) -> None:
    """The agent ended by itself: the turn is marked, the rule says whether and when it starts again."""
    runtime, hit = (c.agent.role.runtime, c.agent.hit) if c.agent else (c.role, "")
    await _forget(c, report)
    said = (report.stderr_tail.strip().splitlines() or [""])[-1][:300]
    sentence = f"{runtime} ended: {report.sentence()}" + (f"; it said: {said}" if said else "")
    if hit:
        sentence = f"{runtime} was ended: {hit}"
    match after_exit(report, c.starts, c.shared.clock(), c.workspace.restart_policy, c.shared.chance()):
        case Restart(delay, history):
            c.restarts += 1
            c.starts = list(history)
            await c.move(Happening.RESTARTING, f"{sentence}; it can start again in {delay:.1f} s")
            asyncio.get_running_loop().call_later(delay, c.post, inbox.Deadline(c.generation, "back-off"))
        case GiveUp(reason):
            c.given_up = True
            await c.move(Happening.GAVE_UP, f"{sentence}; {reason}")
        case Stay():
            await c.move(Happening.ENDED, sentence)
    if c.current is not None and c.current.pause is not None:  # it was told to stop, and ended: what is asked is asked
        await turns.finish(c, TurnState.CANCELLED, c.current.pause.reason, sentence)
    elif c.current is not None:
        reason, hint = (report.reason, f"opagent explain {shlex.quote(c.workspace.path)}") if hit else ("crashed", "")
        await turns.finish(c, TurnState.INTERRUPTED, reason, sentence, hint or f"opagent logs {c.record.id}")
    c.post(inbox.Look())


async def fail(c: Conversation, error: OpAgentError) -> None:
    """The agent cannot be used: end it, and the turn that ran or waited for it. The next turn tries again.

    May be called again after StoreFailed. When it is the store that failed, what waits goes on waiting.
    """
    if c.agent is not None:
        report = await c.agent.stop(force=True)
        await _forget(c, report)
    await _bury(c)
    if c.process_state not in (ProcessState.STOPPED, ProcessState.FAILED, ProcessState.BACKOFF):
        await c.move(Happening.GAVE_UP, str(error), {"code": error.code, "hint": error.hint})
    if c.current is not None:
        try:
            await turns.finish(c, TurnState.FAILED, error.code, str(error), error.hint)
        except Conflict:
            c.current = None  # its end was in the store already
            c.shared.accounts.ended(c.record.id)
    elif isinstance(error, StoreFailed):
        asyncio.get_running_loop().call_later(AGAIN, c.post, inbox.Look())
        return
    elif c.queue:
        await _fail_waiting(c, c.queue[0], error.code, str(error), error.hint)
    c.post(inbox.Look())


async def fail_queue(c: Conversation) -> None:
    """Nothing starts this agent any more but a person: what waits for it fails."""
    while c.queue:
        await _fail_waiting(c, c.queue[0], "crash_loop", c.sentence, f"opagent restart {c.record.id}")


async def _fail_waiting(c: Conversation, turn: Turn, reason: str, sentence: str, hint: str) -> None:
    await turns.end_queued(c, turn, TurnState.FAILED, reason, sentence, hint)
    c.queue.remove(turn)  # not before it is committed


async def stop(c: Conversation, item: inbox.StopAgent) -> None:
    """End the process because somebody says so; `again` starts it anew and forgets a crash loop."""
    if item.idle and c.busy:
        return
    try:
        if c.process_state is not ProcessState.STOPPED:
            await c.move(Happening.STOP)
        if c.agent is not None:
            if c.current is not None:
                await turns.finish(c, TurnState.CANCELLED, "stopped", "the agent was stopped")
            report = await c.agent.stop(force=item.force)
            await _forget(c, report)
            await c.move(Happening.ENDED)
        c.starts.clear()  # somebody wanted this end
        if item.again:
            c.given_up = False
            await start(c)
    except Exception as error:  # whoever waits hears of it, whatever it is
        if item.done and not item.done.done():
            item.done.set_exception(error)
        raise
    if item.done and not item.done.done():
        item.done.set_result(None)
    c.post(inbox.Look())


async def _forget(c: Conversation, report: ExitReport | None) -> None:
    """Nothing of the process counts any more: its questions are void, what it still says is not heard."""
    if c.current is not None:  # it ends in the middle of a turn
        with contextlib.suppress(OpAgentError):
            await aftercare.after(c)
    agent, c.agent = c.agent, None
    c.generation += 1
    await preparing.unheard(c)
    c.early.clear()
    if c.services is not None:
        await c.services.close()
        c.services = None
    if agent is not None:
        agent.forget()
        c.shared.network.detach(agent.id)
        c.shared.lines.detach(agent.id)
        await c.shared.tooling.ended(agent.id)
        c.shared.running.discard(agent)
        await asyncio.to_thread(aftercare.forget, agent)
        c.gone.append((agent, report))
    await _bury(c)


async def _bury(c: Conversation) -> None:
    """Record the ends of processes; what the store does not take now is tried again."""
    while c.gone:
        agent, report = c.gone[0]
        await c.shared.approvals.void(agent.id, "agent ended")
        await c.shared.process_ended(agent, report, recording.exited(agent, c.role, report), c.record.id)
        c.gone.pop(0)
