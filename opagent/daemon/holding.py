"""Holds agents to the limits that no call of the kernel sets: memory, processes, ports of a tree, growth of a directory.

`Holding.run` looks four times a second while a turn runs, else once: too much memory, too many processes or ports end the tree,
too much growth cancels the turn. What was hit is recorded (`limit.hit`) and said in the turn. (Design: "Resource limits".)
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from opagent.daemon import aftercare, inbox, overgrown
from opagent.daemon.growth import Growth, size
from opagent.daemon.overgrown import Overgrown
from opagent.daemon.walltime import Walltime
from opagent.errors import OpAgentError
from opagent.model import Origin
from opagent.process import bounds, tree, weighing
from opagent.process.bounds import Hit
from opagent.process.landlock import Landlock
from opagent.store.events import AuditKind, Draft

if TYPE_CHECKING:
    from opagent.daemon.agent import Agent
    from opagent.daemon.conversation import Conversation
    from opagent.daemon.host import Host

log = logging.getLogger(__name__)

IN_A_TURN, IDLE = 0.25, 1.0  # seconds; a hog of 512 MiB was found at 1.3-1.5 times that, once a second at 1.7-3.1 times
COUNTED_WITHIN = 0.05  # seconds
BEYOND = 1.25  # times its limit of growth: then it does not heed the cancel


class Holding:
    """One per daemon."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._began = asyncio.Event()
        self._growth = Growth()
        self._walltime = Walltime()
        host.shared.turn_begins = self.turn_begins
        host.shared.overgrown = self.overgrown

    async def run(self) -> None:
        """For ever."""
        while True:
            busy = any(c.current is not None for c in self._host.conversations.values())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._began.wait(), IN_A_TURN if busy else IDLE)
            self._began.clear()
            await _again(self._look())
            if seconds := self._walltime.jumped():
                self._host.shared.record(Draft(AuditKind.CLOCK_JUMP, None, {"seconds": seconds}))

    async def turn_begins(self, c: Conversation) -> None:
        """Before its prompt is sent: what is there now is not of this turn. A large directory is not waited for."""
        await asyncio.wait({asyncio.create_task(_again(self._grown(c)), name=f"growth-{c.record.id}")}, timeout=COUNTED_WITHIN)
        self._began.set()

    async def overgrown(self, c: Conversation) -> Overgrown | None:
        """Before a turn: whether earlier ones left more than is allowed, and it is still there."""
        allowed = bounds.of(c.workspace.binding.limits).disk
        grown = await self._growth.earlier(c.record.id, c.workspace.path, allowed)
        return overgrown.too_much(c, grown) if allowed else None

    async def _look(self) -> None:
        conversations = list(self._host.conversations.values())
        held = {agent: c for c in conversations if (agent := c.agent) is not None and not agent.hit and _runs(agent)}
        for agent in held:
            if not agent.stale and aftercare.look(agent):
                agent.hit = "a file that is hidden from it was replaced, and the new one lies open to it"
                self._host.shared.spawn(_killed(agent, "bare"), f"bare-{agent.id}")
        for c in conversations:
            await self._grown(c)
        if held:
            await self._weigh(held)

    async def _weigh(self, held: dict[Agent, Conversation]) -> None:
        allowed = {agent: bounds.of(c.workspace.binding.limits, agent.needed) for agent, c in held.items()}
        asked = {family: allowed[agent] for agent in held if (family := _family(agent)) is not None}
        weights = await asyncio.to_thread(weighing.weigh, asked)
        for agent, c in held.items():
            weight = weights.get(agent.id)
            hit = bounds.over(weight.memory, weight.processes, weight.ports, allowed[agent]) if weight is not None else None
            if hit := hit or await _kept(c, agent, allowed[agent].tmp):
                self._end(c, agent, hit)
                await self._record(c, hit)

    def _end(self, c: Conversation, agent: Agent, hit: Hit) -> None:
        """At once; the reader of its stdout tells the conversation."""
        assert agent.process is not None
        agent.hit = hit.sentence(_origin(c, hit))
        log.warning("%s is ended: %s", agent.id, agent.hit)
        self._host.shared.spawn(_killed(agent, hit.what), f"limit-{agent.id}")

    async def _grown(self, c: Conversation) -> None:
        running = c.current
        allowed = bounds.of(c.workspace.binding.limits).disk
        grown = await self._growth.of(c.record.id, c.workspace.path, running.turn.id if running else None, allowed)
        if running is None or not allowed or grown <= allowed or (found := overgrown.too_much(c, grown)) is None:
            return
        if running.cancel_reason is None:
            running.pause = found
            c.post(inbox.Cancel(running.turn.id, overgrown.DISK))
            await self._record(c, Hit(overgrown.DISK, grown, found.most))
        elif grown > BEYOND * found.most and c.agent is not None and not c.agent.hit and _runs(c.agent):
            if running.cancel_reason == overgrown.DISK:
                running.pause = found  # by so much more has it to be raised
            self._end(c, c.agent, Hit(overgrown.DISK, grown, found.most))

    async def _record(self, c: Conversation, hit: Hit) -> None:
        turn = c.current.turn.id if c.current is not None else None
        body = {"limit": hit.what, "used": hit.used, "allowed": hit.allowed, "rule": _origin(c, hit)}
        await self._host.journal.append(c.record.id, [Draft(AuditKind.LIMIT_HIT, turn, body, who={"agent": c.role})])


async def _again(look: Coroutine[Any, Any, None]) -> None:
    """No descriptors left, no room for the record: the next look tries again."""
    try:
        await look
    except (OpAgentError, OSError) as error:
        log.warning("limits are not looked at: %s", error)


def _runs(agent: Agent) -> bool:
    return agent.process is not None and not agent.process.ended


def _family(agent: Agent) -> tree.Family | None:
    return agent.process.family if agent.process is not None else None


async def _kept(c: Conversation, agent: Agent, allowed: int) -> Hit | None:
    """Its home where that is a directory like any other: mounts have a size of their own."""
    if c.current is None or not allowed or not isinstance(agent.box, Landlock):
        return None
    used = await asyncio.to_thread(size, agent.box.private)
    return Hit("tmp", used, allowed) if used > allowed else None


async def _killed(agent: Agent, why: str) -> None:
    assert agent.process is not None
    await agent.process.stop(stdin=0.0, term=0.0, reason=why)


def _origin(c: Conversation, hit: Hit) -> str:
    return str(c.workspace.binding.origins.get(f"limits.{hit.what}", Origin("built-in")))
