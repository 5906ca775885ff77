"""One request of an agent to connect: the policy's word, a person's where it says ask, and its record; carries no byte.

`decided` is called by the network for every request, outside the conversation's consumer. A question goes through the inbox:
the consumer's part is in `daemon/reaching.py`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from opagent.acp.connection import Asked
from opagent.daemon import inbox
from opagent.daemon import workspace as workspaces
from opagent.daemon.effects import Act
from opagent.daemon.keys import Key
from opagent.model import Approval, ApprovalState, Decision, Effect, ProcessId, TurnId
from opagent.policy import address, remembering, rules
from opagent.policy.decide import named_addresses
from opagent.store.effects import State
from opagent.store.events import AuditKind, Draft

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opagent.daemon.conversation import Conversation

CONNECT = "network/connect"  # stands for a request of the agent in a question
MOST_REFUSALS, REFUSALS_WITHIN = 60, 60.0  # records of one agent in so many seconds


@dataclass(eq=False, slots=True)
class Wanted:
    """A connection that an agent wants. With `key` the proxy puts that secret in; `mark` is its fingerprint."""

    agent: ProcessId
    host: str
    port: int
    key: Key | None = None
    mark: str = ""
    decision: Decision | None = None
    turn: TurnId | None = None
    act: Act | None = None  # as it is recorded
    effect: int = 0

    @property
    def request(self) -> str:
        return address.shown(self.host, self.port)


@dataclass(frozen=True, slots=True)
class Verdict:
    """`named`: private addresses that the user's own configuration names, as `address:port`; `*`: wherever the name leads."""

    allow: bool
    why: str
    named: tuple[str, ...] = ()


@dataclass(slots=True)
class Refusals:
    """How many an agent's record shows: one that is refused over and over must not fill the journal."""

    told: int = 0
    left_out: int = 0
    since: float = 0.0

    def counts(self, now: float) -> int | None:
        """Whether this one is recorded: then how many were left out since the last one that was; else None."""
        if now - self.since > REFUSALS_WITHIN:
            self.since, self.told = now, 0
        if self.told >= MOST_REFUSALS:
            self.left_out += 1
            return None
        self.told += 1
        before, self.left_out = self.left_out, 0
        return before


@dataclass(slots=True)
class Answers:
    """What people said to one agent's questions about hosts. An answer counts for the turn: a program opens many connections."""

    refusals: Refusals = field(default_factory=Refusals)
    _said: dict[str, tuple[str, bool, str]] = field(default_factory=dict)
    _waiting: dict[str, tuple[asyncio.Future[tuple[bool, str]], int]] = field(default_factory=dict)

    def of(self, request: str, turn: str) -> tuple[bool, str] | None:
        found = self._said.get(request)
        return found[1:] if found is not None and found[0] == turn else None

    async def wait(self, request: str) -> tuple[bool, str] | None:
        """Together with whoever else waits for the same. None: it is the first, and has to ask; then it waits, too."""
        future, count = self._waiting[request]
        self._waiting[request] = future, count + 1
        try:
            return await asyncio.shield(future)
        finally:
            future, count = self._waiting[request]
            self._waiting[request] = future, count - 1

    def first(self, request: str) -> bool:
        """Whether nobody waits for an answer to this yet."""
        if request in self._waiting and not self._waiting[request][0].done():
            return False
        self._waiting[request] = asyncio.get_running_loop().create_future(), 0
        return True

    def nobody(self, request: str) -> bool:
        future, count = self._waiting[request]
        return count == 0 and not future.done()

    def put(self, request: str, turn: str, allow: bool, why: str) -> None:
        self._said[request] = turn, allow, why
        if request in self._waiting and not (future := self._waiting[request][0]).done():
            future.set_result((allow, why))

    def end(self) -> None:
        for future, _ in self._waiting.values():
            if not future.done():
                future.set_result((False, "the agent ended"))


async def decided(c: Conversation, wanted: Wanted, answers: Answers) -> Verdict:
    """Whether it may, after the record of it is on the disk. Raises StoreFailed: then it does not happen."""
    wanted.turn = c.current.turn.id if c.current is not None else None
    decision = wanted.decision = _by_rule(c, wanted)
    allow, why = decision.effect is Effect.ALLOW, f"{wanted.request} is denied by {decision.rule}"
    if decision.effect is Effect.ASK:
        allow, why = await _by_person(c, wanted, decision, answers)
    if not allow:
        said = {"agent": wanted.agent, "host": wanted.host, "port": wanted.port, "why": why}
        await refused(c, answers.refusals, said, decision)
        return Verdict(False, why)
    await _record(c, wanted)
    capabilities = c.workspace.binding.capabilities
    lifted = rules.is_private(wanted.request) and not address.is_numeric(wanted.host)
    return Verdict(True, "", ("*",) if lifted else tuple(named_addresses(capabilities, wanted.port)))


def _by_rule(c: Conversation, wanted: Wanted) -> Decision:
    """The host of a secret was agreed to with the secret; what denies it still does."""
    decision = c.workspace.decide("network", wanted.request)
    decision = replace(decision, enforcement="proxy")
    if decision.effect is not Effect.ASK:
        return decision
    if wanted.key is not None:
        return Decision(Effect.ALLOW, wanted.key.origin, f"the host of {wanted.key.name}", "proxy")
    earlier = c.shared.approvals.remembered(c, "network", remembering.literal("network", wanted.request))
    return decision if earlier is None else replace(workspaces.earlier(earlier), enforcement="proxy")


async def _by_person(c: Conversation, wanted: Wanted, decision: Decision, answers: Answers) -> tuple[bool, str]:
    request, turn = wanted.request, wanted.turn
    if turn is None:
        return False, f"{request} has to be asked for by {decision.rule}, and nobody can be asked outside a turn"
    if (said := answers.of(request, turn)) is not None:
        return said
    if answers.first(request):
        c.post(inbox.Connects(c.generation, request, decision, wanted.agent))
    try:
        return await answers.wait(request) or (False, "")
    except asyncio.CancelledError:
        if answers.nobody(request):
            c.post(inbox.ConnectGone(c.generation, request, wanted.agent))
        raise


def answered(c: Conversation, approval: Approval, asked: Asked) -> None:
    allow = approval.state is ApprovalState.ALLOWED
    who = approval.reason if approval.answered_by == "opagent" else f"by {approval.answered_by}"
    why = "" if allow else f"{asked.params['host']} is {approval.state.value}: {who or ''}"
    c.shared.network.answered(asked.params["guest"], asked.params["host"], approval.turn or "", allow, why)


def cancelled(c: Conversation, asked: Asked) -> None:
    turn = c.current.turn.id if c.current is not None else ""
    c.shared.network.answered(asked.params["guest"], asked.params["host"], turn, False, "the turn was cancelled")


# ---- records: host, port and bytes, never a path or a body ---------------------------------------------------------------------


async def _record(c: Conversation, wanted: Wanted) -> None:
    """Before it happens. Raises StoreFailed."""
    assert wanted.decision is not None
    decision = replace(wanted.decision, effect=Effect.ALLOW)
    wanted.act = _act(c, AuditKind.NET_CONNECT, wanted.agent, {"host": wanted.host, "port": wanted.port}, decision)
    before = []
    if wanted.key is not None:
        used = {"name": wanted.key.name, "host": wanted.request, "hmac": wanted.mark}
        facts = replace(wanted.act, obj=used).facts
        before.append(Draft(AuditKind.SECRET_USE, wanted.turn, who=wanted.act.who, facts=facts))
    wanted.effect = await c.shared.effects.begin(wanted.act, before)


async def over(c: Conversation, wanted: Wanted, said: Mapping[str, Any]) -> None:
    """How a connection ended."""
    assert wanted.act is not None
    error = str(said["error"] or "")[:200]
    adds = {"sent": said["sent"], "received": said["received"]}
    await c.shared.effects.end(wanted.effect, wanted.act, State.FAILED if error else State.DONE, adds, error)


async def refused(c: Conversation, refusals: Refusals, said: Mapping[str, Any], decision: Decision | None = None) -> None:
    if (left_out := refusals.counts(c.shared.clock())) is None:
        return
    denied = replace(decision, effect=Effect.DENY, enforcement="proxy") if decision is not None else None
    obj = {"host": said["host"], "port": said["port"], **({"left_out": left_out} if left_out else {})}
    await c.shared.effects.denied(_act(c, AuditKind.NET_DENY, said["agent"], obj, denied), str(said["why"])[:200])


def _act(c: Conversation, kind: AuditKind, agent: ProcessId, obj: Mapping[str, Any], decision: Decision | None) -> Act:
    turn = c.current.turn.id if c.current is not None else None
    return Act(kind, obj, decision=decision, conversation=c.record.id, turn=turn, agent=c.role, process=agent)
