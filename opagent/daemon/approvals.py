"""The questions of agents to people: committed before anybody sees them, answered once, void when the agent is gone."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from opagent.acp import elicitation
from opagent.acp.connection import Asked
from opagent.daemon import inbox, recording
from opagent.daemon.asking import Pause, Question, Said, nobody
from opagent.errors import AlreadyDecided, ApprovalNotFound, OpAgentError, StoreFailed, Usage
from opagent.model import (
    OURS,
    QUESTION,
    Approval,
    ApprovalId,
    ApprovalState,
    ConversationId,
    Decision,
    Effect,
    Event,
    Kind,
    ProcessId,
    Turn,
    TurnState,
)
from opagent.policy import remembering
from opagent.store import approvals as rows
from opagent.store import remembered as remembered_rows
from opagent.store import turns as turn_rows
from opagent.store.events import AuditKind, Draft, timestamp
from opagent.store.remembered import Remembered

if TYPE_CHECKING:
    from opagent.daemon.conversation import Conversation
    from opagent.daemon.shared import Shared

_AGAIN = 5.0  # seconds until an expiry is tried again that the store did not take


@dataclass(slots=True)
class _Open:
    """A question that waits in this daemon."""

    conversation: Conversation
    question: Question
    binding: str  # the digest of what decided, when it was asked
    body: Mapping[str, Any]  # as it was logged
    timer: asyncio.TimerHandle | None = None
    pause: Pause | None = None


def voided(approval: Approval) -> Draft:
    """The event of one that became void, whoever had answered it."""
    said = {"id": approval.id, "state": "void", "answered_by": "opagent", "via": "daemon"}
    return Draft(Kind.APPROVAL_ANSWERED, approval.turn, {**said, "reason": approval.reason or "", "subject": approval.subject})


class Approvals:
    """One inbox per host."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._open: dict[ApprovalId, _Open] = {}
        self.asked: Callable[[Conversation, Mapping[str, Any]], None] = lambda conversation, body: None  # committed just now

    async def ask(self, conversation: Conversation, turn: Turn, request: Asked, question: Question) -> Approval:
        """Commit the question and the waiting turn; announced by the commit itself."""
        question = conversation.redaction.question(question)
        approval = _pending(ApprovalId(self._shared.new_id("approval", rows.get)), conversation, turn, request, question)
        body = question.body(approval, conversation)
        drafts = [
            Draft(
                Kind.APPROVAL_ASKED, turn.id, body, {"agent": conversation.role}, {"decision": _decided(question, approval.id)}
            ),
            Draft(Kind.TURN_STATE, turn.id, {"state": "waiting", "message": turn.message}),
        ]

        def change(db: Any) -> None:
            rows.insert(db, approval)
            turn_rows.update(db, replace(turn, state=TurnState.WAITING))

        waiting = _Open(conversation, question, conversation.workspace.deciding, body)
        self._open[approval.id] = waiting  # before anybody can answer
        try:
            events = await conversation.append(drafts, barrier=True, also=change)
        except OpAgentError:
            self._forget(approval.id)
            raise
        waiting.body = next((event.body for event in events or () if event.kind is Kind.APPROVAL_ASKED), body)
        wait, keep = conversation.workspace.approval_timeout()
        if not keep and approval.id in self._open:
            expire = lambda: self._shared.spawn(self._expire(approval.id), f"expire-{approval.id}")  # noqa: E731
            waiting.timer = asyncio.get_running_loop().call_later(wait, expire)
        self.asked(conversation, waiting.body)
        return approval

    async def pose(self, conversation: Conversation, turn: Turn, question: Question, pause: Pause) -> Approval:
        """Commit a question of ours about a turn that is about to end; it does not expire."""
        ident = ApprovalId(self._shared.new_id("approval", rows.get))
        said = (question.kind, question.subject, question.digest, question.options, timestamp(), None)
        approval = Approval(ident, conversation.record.id, turn.id, OURS, json.dumps(ident), *said, rule=question.decision.rule)
        body = question.body(approval, conversation) | {"agent": "OpAgent", "pause": pause.as_json()}
        self.reopen(conversation, approval, body, pause)
        try:
            draft = Draft(Kind.APPROVAL_ASKED, turn.id, body, facts={"decision": _decided(question, ident)})
            await conversation.append([draft], barrier=True, also=lambda db: rows.insert(db, approval))
        except OpAgentError:
            self._forget(ident)
            raise
        self.asked(conversation, body)
        return approval

    def reopen(self, conversation: Conversation, approval: Approval, body: Mapping[str, Any], pause: Pause) -> None:
        """A question of ours waits; perhaps since an earlier daemon."""
        decision = Decision(Effect.ASK, approval.rule or "", pause.reason, "proxy")
        question = Question(approval.kind, approval.subject, approval.digest, approval.options, decision)
        self._open[approval.id] = _Open(conversation, question, "", body, pause=pause)

    def posed(self, key: str) -> ApprovalId | None:
        """The question of ours about this that waits."""
        return next((ident for ident, each in self._open.items() if each.pause is not None and each.pause.key == key), None)

    def posed_in(self, conversation: ConversationId) -> tuple[ApprovalId, ...]:
        """The questions of ours that wait in one conversation."""
        return tuple(ident for ident in self.waiting_for(conversation) if self._open[ident].pause is not None)

    async def answer(self, ident: str, said: Said) -> Approval:
        """A person's answer; the first committed one wins, and what is to be remembered is committed with it.

        Raises ApprovalNotFound, AlreadyDecided, Usage.
        """
        approval = self.find(ident)
        if said.allow and approval.kind == QUESTION:
            pause = self._open[approval.id].pause if approval.id in self._open else None
            try:
                words = pause.chosen(said.words) if pause is not None else elicitation.chosen(approval.options, said.words)
                said = replace(said, words=words)
            except ValueError as error:
                raise Usage(
                    f"that is no answer to {approval.id}", str(error), f"opagent allow {approval.id} --answer TEXT"
                ) from None
        keep = self._kept(approval, said)
        approval = await self._decide(approval, ApprovalState.ALLOWED if said.allow else ApprovalState.DENIED, said, keep)
        self._tell(approval)
        return approval

    def _kept(self, approval: Approval, said: Said) -> Remembered | None:
        """What is to be remembered of an answer. Raises Usage where it never is."""
        if said.scope == "once" and not said.wider:
            return None
        waiting = self._open.get(approval.id)
        if waiting is None:
            return None  # it was decided before, as whoever answers will hear
        pattern = waiting.question.pattern
        if said.wider and pattern:
            pattern = remembering.wider(pattern)
        if not pattern or said.scope == "once":
            what = "there is no wider pattern for it" if waiting.question.pattern else "such an answer counts once"
            why = "with --conversation or --binding only" if said.scope == "once" else what
            raise Usage(f"the answer to {approval.id} cannot be remembered like that", why, f"opagent allow {approval.id}")
        conversation = waiting.conversation
        return Remembered(
            waiting.binding, approval.conversation if said.scope == "conversation" else None, conversation.role, approval.kind,
            remembering.key(pattern), Effect.ALLOW if said.allow else Effect.DENY, timestamp(), said.by, approval.id,
            conversation.workspace.path, conversation.redaction.hide(remembering.shown(pattern)),
        )  # fmt: skip

    def find(self, ident: str) -> Approval:
        """Raises ApprovalNotFound, Conflict."""
        return self._shared.database.read(lambda db: rows.find(db, ident))

    def logged(self, ident: ApprovalId) -> Mapping[str, Any] | None:
        """What was logged when it was asked; None unless it waits here for an answer."""
        waiting = self._open.get(ident)
        return waiting.body if waiting else None

    async def settle(self, ident: ApprovalId, state: ApprovalState, reason: str) -> None:
        """An end that nobody chose: cancelled, expired or void. Where a person was faster, the agent never hears it: void."""
        try:
            await self._decide(self.find(ident), state, nobody(reason))
        except AlreadyDecided:
            with contextlib.suppress(AlreadyDecided):
                await self._take_back(ident, reason)
        except ApprovalNotFound:
            pass
        finally:
            self._forget(ident)

    async def void(self, process: ProcessId, reason: str) -> None:
        """The process that asked is gone: its questions can no longer be answered."""
        pending = self._shared.database.read(lambda db: rows.listed(db))
        for approval in pending:
            if approval.process == process:
                await self.settle(approval.id, ApprovalState.VOID, reason)

    def waiting_for(self, conversation: ConversationId) -> tuple[ApprovalId, ...]:
        """The open questions of one conversation."""
        return tuple(ident for ident, waiting in self._open.items() if waiting.conversation.record.id == conversation)

    def remembered(self, conversation: Conversation, kind: str, pattern: str) -> Remembered | None:
        """A person's earlier answer that counts for this, too; while what decides is what it was then."""
        if not (patterns := remembering.keys(pattern)):
            return None
        key = (conversation.workspace.deciding, conversation.role, kind, patterns, conversation.record.id)
        return self._shared.database.read(lambda db: remembered_rows.find(db, *key))

    async def forget(self, idents: Sequence[str], by: str) -> list[Remembered]:
        """From now on it is asked again. Raises ApprovalNotFound; then all of them stay."""

        def change(db: Any) -> list[Remembered]:
            gone = [remembered_rows.forget(db, ident) for ident in idents]
            for each in gone:
                facts = {"obj": {"path": each.workspace}, "decision": {"approval": each.approval, "rule": each.shown}}
                self._shared.journal.put(db, None, [Draft(AuditKind.APPROVAL_VOID, who={"human": by}, facts=facts)])
            return gone

        return await self._shared.database.write(change, barrier=True)

    async def void_answer(self, conversation: Conversation, ident: ApprovalId, reason: str) -> None:
        """An answer that does not fit any more what would be done: it is as if nobody had given it."""
        await self._take_back(ident, reason, conversation)

    async def _decide(self, approval: Approval, state: ApprovalState, said: Said, keep: Remembered | None = None) -> Approval:
        body = {
            "id": approval.id, "state": state.value, "answered_by": said.by, "via": said.via, "scope": said.scope,
            "reason": said.reason, "subject": approval.subject, **({"answer": said.words} if said.words else {}),
            **({"where": dict(said.where)} if said.where else {}), **({"same": keep.shown} if keep else {}),
        }  # fmt: skip
        answer = rows.Answer(state, timestamp(), said.by, option=said.words or None, reason=said.reason)
        waiting = self._open.get(approval.id)

        def change(db: Any) -> None:
            rows.answer(db, approval.id, answer)
            if keep is not None:
                remembered_rows.put(db, keep)
            if waiting is not None and waiting.pause is not None and state is ApprovalState.ALLOWED:
                waiting.pause.commit(db, self._shared.journal, approval, said)

        who = {"human": said.by, "uid": said.where.get("uid"), "via": [said.via]} if said.where else {}
        ended = recording.approval_ended(replace(approval, state=state, reason=said.reason))
        drafts = [Draft(Kind.APPROVAL_ANSWERED, approval.turn, body, who), *ended]
        events = await self._shared.journal.append(approval.conversation, drafts, barrier=True, also=change)
        if waiting is not None:
            waiting.conversation.file.take(events)
        return self.find(approval.id)

    async def _take_back(self, ident: ApprovalId, reason: str, conversation: Conversation | None = None) -> None:
        def change(db: Any) -> list[Event]:
            taken = rows.take_back(db, ident, reason)
            return self._shared.journal.put(db, taken.conversation, [voided(taken), *recording.approval_ended(taken)])

        events = await self._shared.database.write(change, barrier=True)
        waiting = self._open.get(ident)
        if owner := conversation or (waiting and waiting.conversation):
            owner.file.take(events)

    async def _expire(self, ident: ApprovalId) -> None:
        try:
            approval = await self._decide(self.find(ident), ApprovalState.EXPIRED, nobody("nobody answered in time"))
        except StoreFailed:
            asyncio.get_running_loop().call_later(_AGAIN, lambda: self._shared.spawn(self._expire(ident), f"expire-{ident}"))
            return
        except OpAgentError:
            return
        self._tell(approval)

    def _tell(self, approval: Approval) -> None:
        waiting = self._open.get(approval.id)
        self._forget(approval.id)
        if waiting is not None:
            waiting.conversation.post(inbox.Answered(approval, waiting.pause))

    def _forget(self, ident: str) -> None:
        waiting = self._open.pop(ApprovalId(ident), None)
        if waiting is not None and waiting.timer is not None:
            waiting.timer.cancel()


def _pending(ident: ApprovalId, conversation: Conversation, turn: Turn, request: Asked, question: Question) -> Approval:
    assert conversation.agent is not None
    wait, keep = conversation.workspace.approval_timeout()
    return Approval(
        id=ident,
        conversation=conversation.record.id,
        turn=turn.id,
        process=conversation.agent.id,
        rpc_id=json.dumps([request.number, request.id, *([question.again] if question.again else [])]),
        kind=question.kind,
        subject=question.subject,
        digest=question.digest,
        options=question.options,
        asked_at=timestamp(),
        expires_at=None if keep else (datetime.now(UTC) + timedelta(seconds=wait)).isoformat(timespec="seconds"),
        rule=question.decision.rule,
    )


def _decided(question: Question, ident: ApprovalId) -> dict[str, Any]:
    """The decision that asks, as the head of a row of the journal tells it."""
    said = question.decision
    told = {"effect": said.effect.word, "rule": said.rule, "layer": said.layer, "enforcement": said.enforcement}
    return {**told, "approval": ident}
