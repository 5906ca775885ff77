"""Stopping a turn at a budget's end, in a loop, in a full directory; going on when a person says so. Called by the consumer only.

A turn that runs is cancelled and, where the agent does not obey, its process is ended (`turns.cancel`). One that has not begun is
not sent. What is asked about it is in `daemon/pauses.py`, and `overgrown.py`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from opagent.daemon import inbox, limits, pauses, spending, standing, turns
from opagent.daemon.asking import Pause
from opagent.daemon.pauses import Circle, OverBudget
from opagent.model import Approval, ApprovalState, Turn, TurnState
from opagent.policy.budget import Answer, Refusal
from opagent.policy.loops import Kind, Verdict
from opagent.store import turns as turn_rows
from opagent.store.events import AuditKind, Draft

if TYPE_CHECKING:
    from opagent.daemon.conversation import Conversation

BUSY = "Waits: what is left of the budget is reserved by turns that run"


async def may_begin(c: Conversation, turn: Turn) -> bool:
    """Whether the next turn may begin now. It ends where the budget is used up, and waits where others have the rest of it."""
    refusal = spending.gate(c, turn)
    busy = refusal is not None and refusal.answer is Answer.BUSY
    if busy != (c.stuck == BUSY):
        c.stuck = BUSY if busy else ""
        await standing.tell(c)
    if busy:
        c.shared.accounts.wait(c)
        return False
    if refusal is not None:
        pause = OverBudget(refusal.limit, refusal.used, limits.currency(limits.binding(c)), sent=False)
        await _refuse(c, turn, pause, [_audit(turn, refusal, c.role_of(turn))])
        return False
    if (grown := await c.shared.overgrown(c)) is not None:
        await _refuse(c, turn, replace(grown, sent=False), [])
        return False
    return True


async def _refuse(c: Conversation, turn: Turn, pause: Pause, audit: list[Draft]) -> None:
    await c.file.open_turn(turn)
    await c.append(audit)
    sentence, hint = await pauses.put(c, turn, pause)
    await turns.end_queued(c, turn, TurnState.CANCELLED, pause.reason, sentence, hint)
    c.queue.remove(turn)  # not before it is committed
    c.post(inbox.Look())


async def look(c: Conversation) -> None:
    """Stop the running turn where it went beyond its budget."""
    hit, running = await spending.look(c), c.current
    if hit is None or running is None or running.cancel_reason is not None:
        return
    running.pause = OverBudget(hit.limit, hit.used, limits.currency(limits.binding(c)))
    await c.append([_audit(running.turn, hit, c.role)])
    await turns.cancel(c, pauses.BUDGET)


def _audit(turn: Turn, hit: Refusal, agent: str) -> Draft:
    return Draft(AuditKind.BUDGET_HIT, turn.id, limits.as_json(hit.limit) | {"used": hit.used}, who={"agent": agent})


async def circles(c: Conversation, verdict: Verdict) -> None:
    """Say that the turn looks like a loop, or stop it."""
    running = c.current
    if running is None or running.cancel_reason is not None:
        return
    if verdict.kind is Kind.NOTICE:
        await c.note(f"this looks like a loop: {verdict.why}", {"severity": "warning", "loop": verdict.why})
        return
    running.pause = Circle(verdict.why, f"{c.record.id}/{running.turn.id}")
    await turns.cancel(c, pauses.LOOP)


async def answered(c: Conversation, approval: Approval, pause: Pause) -> None:
    """A person's answer, committed: what it raised is raised."""
    assert approval.turn is not None
    await c.file.show_again(approval.turn)
    if approval.state is not ApprovalState.ALLOWED:
        return
    if isinstance(pause, OverBudget):
        c.shared.accounts.raised(pause.limit.key, pause.added(approval.answer or ""))
    ident = approval.turn
    turn = c.shared.database.read(lambda db: turn_rows.get(db, c.record.id, ident))
    if words := pause.next_words(approval.answer or "", turn):
        prompt = turns.Prompt(words, approval.answered_by or turn.author, f"answer to {approval.id}", None, turn.agent)
        await c.enqueue(prompt)
