"""The question about a turn that its budget or a loop stopped: what is asked, and what an answer does; stops nothing itself.

The one about a directory that grew by too much is in `overgrown.py`. A question outlives its turn, and the daemon, and does not
expire: nobody is held up by it. An answer raises the budget in the transaction that takes it. Called by the consumer, but for
`raise_now`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from opagent.acp import elicitation
from opagent.daemon import limits, overgrown
from opagent.daemon.asking import Pause, Question, Said
from opagent.daemon.overgrown import GO_ON, Overgrown
from opagent.errors import AlreadyDecided, OpAgentError, Usage
from opagent.model import OURS, QUESTION, Approval, ApprovalState, Decision, Effect, Kind, Turn
from opagent.policy import budget
from opagent.policy.budget import Limit, Per
from opagent.store import approvals as approval_rows
from opagent.store import ledger
from opagent.store.events import AuditKind, Draft, Journal, timestamp

if TYPE_CHECKING:
    from opagent.daemon.conversation import Conversation
    from opagent.daemon.host import Host
    from opagent.daemon.shared import Shared

BUDGET, LOOP = "budget", "loop"  # reasons of a turn's end
_QUARTER, _WHOLE = 4, 1  # what is offered, as parts of the limit
_STOP, _CONTINUE, _RAISE, _DOUBLE = "stop", "continue", "raise", "double"
_AGAIN_OR_STOP: tuple[Mapping[str, str], ...] = (
    {"id": _CONTINUE, "name": "Continue", "kind": ""}, {"id": _STOP, "name": "Stop", "kind": ""},
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class OverBudget:
    """The question about one limit. `used` of it, in `currency` where it is a cost. `sent`: whether the agent had the prompt."""

    limit: Limit
    used: int
    currency: str = ""
    sent: bool = True

    reason = BUDGET

    @property
    def key(self) -> str:
        scope = self.limit.scope
        return hashlib.sha256(json.dumps([scope.per, scope.name, scope.window, self.limit.metric]).encode()).hexdigest()

    @property
    def sentence(self) -> str:
        most = budget.said(self.limit.metric, self.limit.most, self.currency)
        used = budget.number(self.limit.metric, self.used)
        return f"The budget is used up {budget.window(self.limit.scope)}: {used} of {most} ({self.limit.origin})."

    @property
    def options(self) -> tuple[Mapping[str, str], ...]:
        if self.limit.scope.per is Per.TURN:
            return _AGAIN_OR_STOP
        if self.limit.fixed:
            return ({"id": _STOP, "name": "Stop", "kind": ""},)
        named = ((_RAISE, _QUARTER), (_DOUBLE, _WHOLE))
        found = [{"id": ident, "name": f"Raise it by {self._more(parts)} and go on", "kind": ""} for ident, parts in named]
        return (*found, {"id": _STOP, "name": "Stop", "kind": ""})

    def _more(self, parts: int) -> str:
        return budget.said(self.limit.metric, budget.raised_by(self.limit, self.used, parts), self.currency)

    def chosen(self, words: str) -> str:
        """An option, or an amount: `500k`. Raises ValueError."""
        try:
            return elicitation.chosen(self.options, words)
        except ValueError:
            if self.limit.fixed or self.limit.scope.per is Per.TURN:
                raise
        try:
            limits.amount(self.limit.metric, words.removeprefix(_RAISE).strip())
        except Usage as error:
            raise ValueError(f"it asks for {_RAISE}, {_DOUBLE}, {_STOP} or an amount to add: {error.why}") from error
        return words

    def added(self, answer: str) -> int:
        """What an answer adds to the limit."""
        if answer in (_STOP, _CONTINUE) or self.limit.fixed:
            return 0
        if answer in (_RAISE, _DOUBLE):
            return budget.raised_by(self.limit, self.used, _QUARTER if answer == _RAISE else _WHOLE)
        return limits.amount(self.limit.metric, answer.removeprefix(_RAISE).strip())

    def commit(self, db: Any, journal: Journal, approval: Approval, said: Said) -> None:
        if more := self.added(said.words):
            raised(db, journal, approval, self.limit, more, said.by)

    def next_words(self, answer: str, turn: Turn) -> str:
        """What the agent is told, empty for nothing."""
        if not self.added(answer) and answer != _CONTINUE:
            return ""
        return GO_ON if self.sent else turn.text

    def as_json(self) -> dict[str, Any]:
        more = {"reason": self.reason, "used": self.used, "currency": self.currency, "sent": self.sent}
        return limits.as_json(self.limit) | more


@dataclass(frozen=True, slots=True)
class Circle:
    """The question about a loop; `key` is of the turn."""

    why: str
    key: str

    reason = LOOP

    @property
    def sentence(self) -> str:
        return f"This looks like a loop: {self.why}."

    @property
    def options(self) -> tuple[Mapping[str, str], ...]:
        return _AGAIN_OR_STOP

    def chosen(self, words: str) -> str:
        """An option, or what the agent is to be told."""
        try:
            return elicitation.chosen(self.options, words)
        except ValueError:
            if not words.strip() or len(words) > elicitation.ANSWER_LIMIT:
                raise
        return words.strip()

    def commit(self, db: Any, journal: Journal, approval: Approval, said: Said) -> None:
        """Nothing beside the answer."""

    def next_words(self, answer: str, turn: Turn) -> str:
        return {_STOP: "", _CONTINUE: GO_ON}.get(answer, answer)

    def as_json(self) -> dict[str, Any]:
        return {"reason": self.reason, "why": self.why, "key": self.key}


def of_log(said: Mapping[str, Any]) -> Pause:
    """The question of an event of an earlier daemon."""
    if said.get("reason") == LOOP:
        return Circle(str(said["why"]), str(said["key"]))
    if said.get("reason") == overgrown.DISK:
        return overgrown.of_log(said)
    return OverBudget(limits.from_json(said), int(said["used"]), str(said["currency"]), bool(said["sent"]))


def raised(db: Any, journal: Journal, about: Approval | None, limit: Limit, more: int, by: str) -> None:
    """Add to a limit, and record who did."""
    ledger.raise_(db, limit.key, more, timestamp(), by)
    body = limits.as_json(limit) | {"added": more, "approval": about.id if about is not None else None}
    draft = Draft(AuditKind.BUDGET_RAISE, about.turn if about is not None else None, body, who={"human": by})
    journal.put(db, about.conversation if about is not None else None, [draft])


# ---- asking --------------------------------------------------------------------------------------------------------------


async def put(c: Conversation, turn: Turn, pause: Pause) -> tuple[str, str]:
    """Ask, unless the same is asked already. What is said of the turn's end, and the command that answers.

    About a limit of a caller on another machine nobody is asked here: it is told, and asks there.
    """
    if isinstance(pause, OverBudget) and pause.limit.scope.per is Per.CALL:
        return pause.sentence, ""
    asked = c.shared.approvals.posed(pause.key)
    if asked is None:
        rule = "loop detection" if isinstance(pause, Circle) else _origin(pause)
        decision = Decision(Effect.ASK, rule, pause.reason, "proxy")
        question = Question(QUESTION, f"{pause.sentence} {_asks(pause)}", pause.key, pause.options, decision)
        asked = (await c.shared.approvals.pose(c, turn, question, pause)).id
    return pause.sentence, f"opagent allow {asked} --answer {pause.options[0]['id']}"


def _origin(pause: Pause) -> str:
    return pause.limit.origin if isinstance(pause, OverBudget) else pause.origin if isinstance(pause, Overgrown) else ""


def _asks(pause: Pause) -> str:
    if isinstance(pause, Circle):
        return "Continue, stop, or tell the agent what to do instead (--answer TEXT)?"
    if isinstance(pause, OverBudget) and pause.limit.scope.per is Per.TURN:
        return "Go on in another turn?"
    if (isinstance(pause, OverBudget) and pause.limit.fixed) or (isinstance(pause, Overgrown) and pause.fixed):
        return "The policy of this machine sets it: nobody may raise it here."
    return "Raise it and go on? Another amount to add can be answered as well."


async def withdraw(c: Conversation, why: str) -> None:
    """What was asked here is answered by what happened: the conversation goes on."""
    for ident in c.shared.approvals.posed_in(c.record.id):
        approval = c.shared.approvals.find(ident)
        await c.shared.approvals.settle(ident, ApprovalState.CANCELLED, why)
        if approval.turn is not None:
            await c.file.show_again(approval.turn)


def reopen(host: Host) -> None:
    """The questions that an earlier daemon asked wait on."""
    for approval in host.database.read(approval_rows.listed):
        if approval.process != OURS:
            continue
        try:
            conversation = host.conversation(approval.conversation)
        except (OpAgentError, OSError):  # its directory is gone: nobody can go on there
            continue
        asked = host.journal.of_kinds(approval.conversation, (Kind.APPROVAL_ASKED,))
        body = next((event.body for event in asked if event.body.get("id") == approval.id), {})
        if "pause" in body:
            host.shared.approvals.reopen(conversation, approval, body, of_log(body["pause"]))


async def raise_now(shared: Shared, found: Iterable[tuple[Limit, int]], by: str) -> None:
    """As a person says by a command; questions about these limits are answered by that."""
    wanted = list(found)

    def change(db: Any) -> None:
        for limit, more in wanted:
            raised(db, shared.journal, None, limit, more, by)

    await shared.database.write(change, barrier=True)
    for limit, more in wanted:
        shared.accounts.raised(limit.key, more)
        if (ident := shared.approvals.posed(OverBudget(limit, 0).key)) is not None:
            with contextlib.suppress(AlreadyDecided):
                await shared.approvals.answer(ident, Said(False, by, "cli", reason="the budget was raised"))
