"""One call of a tool of an MCP server: the rule's word, a person's where it says ask, and its record; speaks no MCP.

verdict = await decided(c, agent, "github", wanted)     # `pending` is on the disk where it may happen
await ended(c, verdict, answered)
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from opagent.binding.question import visible
from opagent.daemon import inbox, wanting
from opagent.daemon import workspace as workspaces
from opagent.daemon.asking import Question
from opagent.daemon.connecting import Refusals
from opagent.daemon.effects import Act
from opagent.mcp.out import Answered, Wanted
from opagent.model import Approval, ApprovalId, ApprovalState, Decision, Effect, ProcessId
from opagent.policy import remembering
from opagent.store.effects import State
from opagent.store.events import AuditKind

if TYPE_CHECKING:
    from opagent.daemon.conversation import Conversation

SHOWN = 4_000  # characters of the arguments that a question shows


@dataclass(frozen=True, slots=True)
class Verdict:
    """`why`: what the agent reads where it may not. `effect`: the record of a call that may happen."""

    allow: bool
    why: str = ""
    act: Act | None = None
    effect: int = 0
    approval: ApprovalId | None = None


def rule(c: Conversation, server: str, name: str) -> Decision:
    return replace(c.workspace.decide("mcp", f"{server}/{name}"), enforcement="proxy")


async def decided(c: Conversation, agent: ProcessId, server: str, wanted: Wanted, refusals: Refusals) -> Verdict:
    """Raises StoreFailed: then it does not happen."""
    what = f"{server}/{wanted.name}"
    decision, approval, why = rule(c, server, wanted.name), None, ""
    if decision.effect is Effect.DENY:
        why = f"{what} is denied by {decision.rule}"
    elif decision.effect is Effect.ASK:
        decision, approval, why = await _asked(c, what, wanted, decision)
    act = _act(c, agent, what, wanted, replace(decision, effect=Effect.DENY if why else Effect.ALLOW), approval)
    if why:
        if (left_out := refusals.counts(c.shared.clock())) is not None:
            obj = {**act.obj, **({"left_out": left_out} if left_out else {})}
            await c.shared.effects.denied(replace(act, obj=obj), why)
        return Verdict(False, why)
    effect = await c.shared.effects.begin(act)
    if c.current is not None and c.current.account is not None:
        c.current.account.meter.passed += 1
        c.post(inbox.Tick())
    return Verdict(True, "", act, effect, approval)


async def _asked(c: Conversation, what: str, wanted: Wanted, decision: Decision) -> tuple[Decision, ApprovalId | None, str]:
    """What a person said before, or says now; and why it may not happen, "" where it may."""
    pattern = remembering.literal("mcp", what)
    earlier = c.shared.approvals.remembered(c, "mcp", pattern)
    if earlier is not None:
        said = replace(workspaces.earlier(earlier), enforcement="proxy")
        return said, None, "" if said.effect is Effect.ALLOW else f"{what} is denied by {said.rule}"
    answer = await wanting.person(c, Question("mcp", subject(what, wanted.arguments), wanted.digest, (), decision, pattern))
    if not isinstance(answer, Approval):
        return decision, None, f"{what} has to be asked for by {decision.rule}: {answer}"
    if answer.state is ApprovalState.ALLOWED:
        return decision, answer.id, ""
    why = f": {answer.reason}" if answer.reason else ""
    return decision, answer.id, f"{what} is {answer.state.value} by {answer.answered_by}{why} (asked by {decision.rule})"


def subject(what: str, arguments: Any) -> str:
    """The exact call, for a person: nothing in it is invisible, and what is left out is said."""
    text = json.dumps(arguments, ensure_ascii=False, sort_keys=True, indent=1) if arguments else ""
    lines = "\n".join(visible(line) for line in text[:SHOWN].split("\n"))
    more = f"\n... and {len(text) - SHOWN} more characters" if len(text) > SHOWN else ""
    return f"call {what}\n{lines}{more}".rstrip()


async def ended(c: Conversation, verdict: Verdict, how: Answered) -> None:
    """A call that was allowed is over, or nobody knows what became of it."""
    assert verdict.act is not None
    state = State.UNKNOWN if how.lost else State.FAILED if how.error else State.DONE
    adds = {"after": how.digest, "size": how.size} if how.digest else None
    await c.shared.effects.end(verdict.effect, verdict.act, state, adds, how.error[:300])


def _act(
    c: Conversation, agent: ProcessId, what: str, wanted: Wanted, decision: Decision, approval: ApprovalId | None
) -> Act:  # fmt: skip
    turn = c.current.turn.id if c.current is not None else None
    obj: dict[str, Any] = {"name": what, "before": wanted.digest}
    said = (obj, {"arguments": wanted.arguments}, decision, approval, c.record.id, turn, c.role)
    return Act(AuditKind.MCP_CALL, *said, process=agent)
