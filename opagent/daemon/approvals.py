"""The questions of agents to people: committed before anybody sees them, answered once, void when the agent is gone."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from opagent.acp import elicitation
from opagent.acp.connection import Asked
from opagent.acp.messages import as_dict, as_text
from opagent.acp.permission import Permission
from opagent.daemon import filerights, inbox, recording
from opagent.document.approval import Does
from opagent.errors import AlreadyDecided, ApprovalNotFound, OpAgentError, StoreFailed, Usage
from opagent.model import (
    QUESTION,
    Approval,
    ApprovalId,
    ApprovalState,
    ConversationId,
    Effect,
    Event,
    Kind,
    ProcessId,
    Turn,
    TurnState,
)
from opagent.store import approvals as rows
from opagent.store import turns as turn_rows
from opagent.store.events import Draft, timestamp

if TYPE_CHECKING:
    from opagent.daemon.conversation import Conversation
    from opagent.daemon.shared import Shared

_AGAIN = 5.0  # seconds until an expiry is tried again that the store did not take


@dataclass(frozen=True, slots=True)
class Question:
    """What a person is asked. `pattern` is what "the same again" means; without one an answer is never remembered."""

    kind: str
    subject: str
    digest: str
    options: tuple[Mapping[str, str], ...]
    rule: str
    pattern: str = ""
    shown: Mapping[str, Any] = field(default_factory=dict)  # more for the block in the file: action, content, where

    @classmethod
    def of(cls, permission: Permission, rule: str) -> Question:
        shown: dict[str, Any] = {}
        if permission.changes:
            shown = {"action": permission.action, "content": permission.changes}
        if permission.kind == "execute":
            shown["where"] = as_text(as_dict(permission.tool_call.get("rawInput")).get("cwd"))
        said = (permission.kind, permission.subject, permission.digest, permission.options)
        return cls(*said, rule, permission.pattern, shown)

    @property
    def offers(self) -> list[str]:
        """What a person may do, by the words of `document/approval.py`."""
        if self.kind == QUESTION:
            return [Does.ANSWER, Does.DECLINE]
        return [Does.ONCE, *([Does.CONVERSATION] if self.pattern else []), Does.DENY]


@dataclass(frozen=True, slots=True)
class Said:
    """A person's answer. `words`: of a question; an option's id or name, or any text where it has no options."""

    allow: bool
    by: str  # human:UID
    via: str
    reason: str | None = None
    scope: str = "once"  # or conversation
    words: str = ""


@dataclass(slots=True)
class _Open:
    """A question that waits in this daemon."""

    conversation: Conversation
    pattern: str
    body: Mapping[str, Any]  # as it was logged
    timer: asyncio.TimerHandle | None = None


def voided(approval: Approval) -> Draft:
    """The event of one that became void, whoever had answered it."""
    said = {"id": approval.id, "state": "void", "answered_by": "opagent", "via": "daemon"}
    return Draft(Kind.APPROVAL_ANSWERED, approval.turn, {**said, "reason": approval.reason or "", "subject": approval.subject})


class Approvals:
    """One inbox per host."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._open: dict[ApprovalId, _Open] = {}
        self._remembered: dict[tuple[ConversationId, str], Effect] = {}  # while the daemon lives

    async def ask(self, conversation: Conversation, turn: Turn, request: Asked, question: Question) -> Approval:
        """Commit the question and the waiting turn; announced by the commit itself."""
        question = conversation.redaction.question(question)
        approval = _pending(ApprovalId(self._shared.new_id("approval", rows.get)), conversation, turn, request, question)
        body = _body(approval, question, conversation)
        drafts = [
            Draft(Kind.APPROVAL_ASKED, turn.id, body),
            Draft(Kind.TURN_STATE, turn.id, {"state": "waiting", "message": turn.message}),
        ]

        def change(db: Any) -> None:
            rows.insert(db, approval)
            turn_rows.update(db, replace(turn, state=TurnState.WAITING))

        self._open[approval.id] = waiting = _Open(conversation, question.pattern, body)  # before anybody can answer
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
        return approval

    async def answer(self, ident: str, said: Said) -> Approval:
        """A person's answer; the first committed one wins. Raises ApprovalNotFound, AlreadyDecided, Usage."""
        approval = self.find(ident)
        if said.allow and approval.kind == QUESTION:
            try:
                said = replace(said, words=elicitation.chosen(approval.options, said.words))
            except ValueError as error:
                raise Usage(
                    f"that is no answer to {approval.id}", str(error), f"opagent allow {approval.id} --answer TEXT"
                ) from None
        pattern = waiting.pattern if (waiting := self._open.get(approval.id)) else ""
        approval = await self._decide(approval, ApprovalState.ALLOWED if said.allow else ApprovalState.DENIED, said)
        if said.scope == "conversation" and pattern:
            self._remembered[approval.conversation, pattern] = Effect.ALLOW if said.allow else Effect.DENY
        self._tell(approval)
        return approval

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
            await self._decide(self.find(ident), state, _nobody(reason))
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

    def remembered(self, conversation: ConversationId, permission: Permission) -> Effect | None:
        return self._remembered.get((conversation, permission.pattern))

    async def _decide(self, approval: Approval, state: ApprovalState, said: Said) -> Approval:
        body = {
            "id": approval.id, "state": state.value, "answered_by": said.by, "via": said.via, "scope": said.scope,
            "reason": said.reason, "subject": approval.subject, **({"answer": said.words} if said.words else {}),
        }  # fmt: skip
        answer = rows.Answer(state, timestamp(), said.by, option=said.words or None, reason=said.reason)
        waiting = self._open.get(approval.id)

        def change(db: Any) -> None:
            rows.answer(db, approval.id, answer)

        ended = recording.approval_ended(replace(approval, state=state, reason=said.reason))
        drafts = [Draft(Kind.APPROVAL_ANSWERED, approval.turn, body), *ended]
        events = await self._shared.journal.append(approval.conversation, drafts, barrier=True, also=change)
        if waiting is not None:
            waiting.conversation.file.take(events)
        return self.find(approval.id)

    async def _take_back(self, ident: ApprovalId, reason: str) -> None:
        def change(db: Any) -> list[Event]:
            taken = rows.take_back(db, ident, reason)
            return self._shared.journal.put(db, taken.conversation, [voided(taken), *recording.approval_ended(taken)])

        events = await self._shared.database.write(change, barrier=True)
        if (waiting := self._open.get(ident)) is not None:
            waiting.conversation.file.take(events)

    async def _expire(self, ident: ApprovalId) -> None:
        try:
            approval = await self._decide(self.find(ident), ApprovalState.EXPIRED, _nobody("nobody answered in time"))
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
            waiting.conversation.post(inbox.Answered(approval))

    def _forget(self, ident: str) -> None:
        waiting = self._open.pop(ApprovalId(ident), None)
        if waiting is not None and waiting.timer is not None:
            waiting.timer.cancel()


def _nobody(reason: str) -> Said:
    return Said(False, "opagent", "daemon", reason)


def _pending(ident: ApprovalId, conversation: Conversation, turn: Turn, request: Asked, question: Question) -> Approval:
    assert conversation.agent is not None
    wait, keep = conversation.workspace.approval_timeout()
    return Approval(
        id=ident,
        conversation=conversation.record.id,
        turn=turn.id,
        process=conversation.agent.id,
        rpc_id=json.dumps([request.number, request.id]),
        kind=question.kind,
        subject=question.subject,
        digest=question.digest,
        options=question.options,
        asked_at=timestamp(),
        expires_at=None if keep else (datetime.now(UTC) + timedelta(seconds=wait)).isoformat(timespec="seconds"),
        rule=question.rule,
    )


def _body(approval: Approval, question: Question, conversation: Conversation) -> dict[str, Any]:
    """Of the event that asks: what `document/approval.py` shows."""
    shown = dict(question.shown)
    if question.kind == "execute":
        shown["where"] = shown.get("where") or os.path.basename(conversation.workspace.path) + "/"
    return {
        "id": approval.id, "kind": approval.kind, "subject": approval.subject, "expires_at": approval.expires_at,
        "rule": approval.rule, "options": [dict(option) for option in approval.options], "agent": conversation.role,
        "offers": question.offers, "in_file": filerights.now(conversation).ticks, **shown,
    }  # fmt: skip
