"""The questions of agents to people: committed before anybody sees them, answered once, void when the agent is gone."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

from opagent.acp import elicitation
from opagent.acp.connection import Asked
from opagent.acp.messages import as_dict, as_text
from opagent.acp.permission import Permission
from opagent.daemon import filerights, inbox
from opagent.document.approval import Does
from opagent.errors import AlreadyDecided, ApprovalNotFound, OpAgentError, StoreFailed, Usage
from opagent.model import (
    OURS,
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
from opagent.store.events import Draft, Journal, timestamp

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


class Pause(Protocol):
    """A question of ours about a turn that was stopped; `daemon/pauses.py` has them."""

    @property
    def key(self) -> str:
        """What it is about: the same is not asked twice at a time."""

    @property
    def sentence(self) -> str:
        """What happened."""

    @property
    def options(self) -> tuple[Mapping[str, str], ...]: ...

    def chosen(self, words: str) -> str:
        """The answer that a person's words are. Raises ValueError."""

    def commit(self, db: Any, journal: Journal, approval: Approval, said: Said) -> None:
        """What a yes does, in its transaction."""

    def next_words(self, answer: str, turn: Turn) -> str:
        """What the agent is told then, empty for nothing."""

    def as_json(self) -> dict[str, Any]:
        """For the log."""


@dataclass(slots=True)
class _Open:
    """A question that waits in this daemon."""

    conversation: Conversation
    pattern: str
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

    async def pose(self, conversation: Conversation, turn: Turn, question: Question, pause: Pause) -> Approval:
        """Commit a question of ours about a turn that is about to end; it does not expire."""
        ident = ApprovalId(self._shared.new_id("approval", rows.get))
        said = (question.kind, question.subject, question.digest, question.options, timestamp(), None)
        approval = Approval(ident, conversation.record.id, turn.id, OURS, json.dumps(ident), *said, rule=question.rule)
        body = _body(approval, question, conversation) | {"agent": "OpAgent", "pause": pause.as_json()}
        self.reopen(conversation, approval, body, pause)
        try:
            draft = Draft(Kind.APPROVAL_ASKED, turn.id, body)
            await conversation.append([draft], barrier=True, also=lambda db: rows.insert(db, approval))
        except OpAgentError:
            self._forget(ident)
            raise
        return approval

    def reopen(self, conversation: Conversation, approval: Approval, body: Mapping[str, Any], pause: Pause) -> None:
        """A question of ours waits; perhaps since an earlier daemon."""
        self._open[approval.id] = _Open(conversation, "", body, pause=pause)

    def posed(self, key: str) -> ApprovalId | None:
        """The question of ours about this that waits."""
        return next((ident for ident, each in self._open.items() if each.pause is not None and each.pause.key == key), None)

    def posed_in(self, conversation: ConversationId) -> tuple[ApprovalId, ...]:
        """The questions of ours that wait in one conversation."""
        return tuple(ident for ident in self.waiting_for(conversation) if self._open[ident].pause is not None)

    async def answer(self, ident: str, said: Said) -> Approval:
        """A person's answer; the first committed one wins. Raises ApprovalNotFound, AlreadyDecided, Usage."""
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
            if waiting is not None and waiting.pause is not None and state is ApprovalState.ALLOWED:
                waiting.pause.commit(db, self._shared.journal, approval, said)

        drafts = [Draft(Kind.APPROVAL_ANSWERED, approval.turn, body)]
        events = await self._shared.journal.append(approval.conversation, drafts, barrier=True, also=change)
        if waiting is not None:
            waiting.conversation.file.take(events)
        return self.find(approval.id)

    async def _take_back(self, ident: ApprovalId, reason: str) -> None:
        def change(db: Any) -> list[Event]:
            taken = rows.take_back(db, ident, reason)
            return self._shared.journal.put(db, taken.conversation, [voided(taken)])

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
            waiting.conversation.post(inbox.Answered(approval, waiting.pause))

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
