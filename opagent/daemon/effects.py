"""What OpAgent does or grants: recorded before it happens, and how it ended; decides nothing and does nothing itself.

    async with shared.effects.of(act) as doing:       # `pending` is on the disk, or StoreFailed and nothing happens
        doing.adds = {"size": write(...)}             # -> `done` with this; what it raises -> `failed`

Where the end comes in another task: `ident = await effects.begin(act)`, later `await effects.end(ident, act, State.DONE)`.
An effect whose end nobody recorded is `unknown` after the next start (`lost`); it is shown and never repeated.
(Security.md, "Audit and journal".)
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from opagent.errors import StoreFailed
from opagent.model import ConversationId, Decision, Kind, TurnId
from opagent.store import effects as rows
from opagent.store.effects import Effect, State
from opagent.store.events import AuditKind, Draft, Journal, timestamp

if TYPE_CHECKING:
    from opagent.daemon.redaction import Known
    from opagent.model import ProcessId
    from opagent.store.database import Database

log = logging.getLogger(__name__)

_NAMED = 5  # effects that a note names
_AGAIN = 5.0  # seconds until an end is written again that the store did not take
_ENDS = {AuditKind.EXEC_START: AuditKind.EXEC_END, AuditKind.CALL_START: AuditKind.CALL_END}
_OUTLIVE = (AuditKind.EXEC_START, AuditKind.AGENT_SPAWN)  # that of a server of tools is open for as long as it runs
_WORDS = {
    AuditKind.FS_WRITE: "a change of", AuditKind.FS_READ: "a look at", AuditKind.EXEC_START: "the command", AuditKind.NET_CONNECT:
    "a connection to", AuditKind.AGENT_SPAWN: "the start of the agent", AuditKind.MCP_CALL: "the call of the tool",
    AuditKind.SECRET_USE: "the use of the secret", AuditKind.CALL_START: "the call",
}  # fmt: skip

Also = Callable[[Any], None]


@dataclass(frozen=True, slots=True)
class Act:
    """What is about to happen. `obj`: what the head says for good: `path` (absolute), digests and sizes `before` and `after`.

    `body`: the content (a command's words), which may be purged. `call`: the agent's tool call.
    """

    kind: AuditKind
    obj: Mapping[str, Any] = field(default_factory=dict)
    body: Mapping[str, Any] = field(default_factory=dict)
    decision: Decision | None = None
    approval: str | None = None
    conversation: ConversationId | None = None
    turn: TurnId | None = None
    agent: str | None = None
    process: ProcessId | None = None
    call: str | None = None
    trace: Mapping[str, str] = field(default_factory=dict)  # of a tree of calls

    @property
    def facts(self) -> dict[str, Any]:
        """For the head of a row."""
        said: dict[str, Any] = {"obj": dict(self.obj)} if self.obj else {}
        decided = self.decision
        if decided is not None:
            decision = {"effect": decided.effect.word, "rule": decided.rule, "layer": decided.layer}
            said["decision"] = {**decision, "enforcement": decided.enforcement}
        if self.trace:
            said["trace"] = dict(self.trace)
        if self.approval is not None:
            said["decision"] = {**said.get("decision", {}), "approval": self.approval}
        return said

    @property
    def who(self) -> dict[str, Any]:
        said = {"agent": self.agent, "process": self.process, "call": self.call}
        return {name: value for name, value in said.items() if value is not None} or {"daemon": os.getpid()}

    @property
    def sentence(self) -> str:
        """What it was, in a line for people."""
        what = self.body.get("command") or self.obj.get("path") or self.obj.get("host") or self.obj.get("name") or self.call or ""
        what = " ".join(map(str, what)) if isinstance(what, list) else str(what)
        return f"{_WORDS.get(self.kind, self.kind.value)} {what.splitlines()[0][:200] if what else ''}".strip()


@dataclass(slots=True)
class Doing:
    """An effect that is under way. `adds`: what is known of it only now, for `obj` of its end."""

    seq: int
    adds: dict[str, Any] = field(default_factory=dict)


class Effects:
    """One per host."""

    def __init__(self, journal: Journal, database: Database, known: Known) -> None:
        self._journal, self._database, self._known = journal, database, known
        self._begun: dict[int, float] = {}  # monotonic

    @asynccontextmanager
    async def of(self, act: Act) -> AsyncIterator[Doing]:
        """Around what happens. Raises StoreFailed before it where the record cannot be written."""
        doing = Doing(await self.begin(act))
        try:
            yield doing
        except asyncio.CancelledError:
            raise  # the daemon ends: what became of it is not known here
        except BaseException as error:
            await self.end(doing.seq, act, State.FAILED, doing.adds, _words(error))
            raise
        await self.end(doing.seq, act, State.DONE, doing.adds)

    async def begin(self, act: Act, before: Sequence[Draft] = (), also: Also | None = None) -> int:
        """`pending`, on the disk; the number of the record. `before` and `also`: in its transaction. Raises StoreFailed."""
        draft = self._draft(act, act.kind, State.PENDING)

        def change(db: Any) -> int:
            if also is not None:
                also(db)
            self._journal.put(db, act.conversation, before)
            return self.insert(db, act, draft, State.PENDING)

        seq = await self._database.write(change, barrier=True)
        self._begun[seq] = time.monotonic()
        return seq

    async def end(
        self, seq: int, act: Act, state: State, adds: Mapping[str, Any] | None = None, error: str = "", also: Also | None = None
    ) -> None:
        """How it ended. Raises nothing: what the store does not take is tried again, and is `unknown` until then."""
        facts: dict[str, Any] = {"ref": seq, "ms": round((time.monotonic() - self._begun.pop(seq, time.monotonic())) * 1000, 1)}
        draft = self._draft(act, _ENDS.get(act.kind, act.kind), state, {**facts, **({"error": error} if error else {})}, adds)
        try:
            await self._database.write(lambda db: self._ended(db, seq, act, state, draft, also))
        except StoreFailed as problem:
            log.warning("the end of the effect %d is not recorded: %s", seq, problem)
            loop = asyncio.get_running_loop()
            loop.call_later(_AGAIN, lambda: loop.create_task(self._end_again(seq, act, state, draft, also)))

    async def _end_again(self, seq: int, act: Act, state: State, draft: Draft, also: Also | None) -> None:
        try:
            await self._database.write(lambda db: self._ended(db, seq, act, state, draft, also))
        except StoreFailed as problem:
            log.warning("the end of the effect %d is lost: %s", seq, problem)

    def _ended(self, db: Any, seq: int, act: Act, state: State, draft: Draft, also: Also | None) -> None:
        rows.end(db, seq, state, self._journal.record(db, act.conversation, draft))
        if also is not None:
            also(db)

    async def denied(self, act: Act, reason: str) -> None:
        """Something that was asked for and is not done."""
        draft = self._draft(act, act.kind, State.DENIED, {"error": reason})
        await self._database.write(lambda db: self.insert(db, act, draft, State.DENIED))

    def insert(self, db: Any, act: Act, draft: Draft, state: State) -> int:
        """Record and row, inside a change."""
        seq = self._journal.record(db, act.conversation, draft)
        self._row(db, act, seq, state, str(act.obj["path"]) if "path" in act.obj else None)
        return seq

    def seen(self, db: Any, act: Act, about: Iterable[str]) -> None:
        """A change that was found afterwards, inside a change of the store; `about`: the paths that one record is of."""
        seq = self._journal.record(db, act.conversation, self._draft(act, act.kind, State.SEEN))
        for path in about:
            self._row(db, act, seq, State.SEEN, path)

    def _row(self, db: Any, act: Act, seq: int, state: State, path: str | None) -> None:
        hidden = self._known.hide(path) if path is not None else None
        names = (act.conversation, act.turn, act.agent, act.process, hidden, act.call, act.approval, timestamp())
        rows.insert(db, Effect(seq, act.kind.value, state, *names))

    def _draft(
        self,
        act: Act,
        kind: AuditKind,
        state: State,
        more: Mapping[str, Any] | None = None,
        adds: Mapping[str, Any] | None = None,
    ) -> Draft:
        """Without what is secret; a content is said once, by the first record."""
        facts = act.facts | dict(more or {}) | {"state": state.value}
        if adds:
            facts["obj"] = {**facts.get("obj", {}), **adds}
        body = act.body if more is None or "ref" not in more else {}
        said = self._known.hidden([facts, body])
        return Draft(kind, act.turn, said[1], act.who, said[0])


def lost(journal: Journal, db: Any) -> list[Effect]:
    """What a daemon that ended in the middle had begun: `unknown`, inside the change that recovers. Gives each once."""
    found = rows.pending(db)
    for effect in found:
        kind = AuditKind(effect.kind)
        conversation = ConversationId(effect.conversation) if effect.conversation else None
        facts = {"state": State.UNKNOWN.value, "ref": effect.seq, "error": "the daemon ended before it was known"}
        draft = Draft(_ENDS.get(kind, kind), TurnId(effect.turn) if effect.turn else None, who=_again(effect), facts=facts)
        rows.end(db, effect.seq, State.UNKNOWN, journal.record(db, conversation, draft))
    return found


def commands(db: Any) -> list[str]:
    """The process ids of commands and servers that ran for agents when a daemon ended in the middle: they outlive it."""
    return [each.process for each in rows.pending(db) if each.process is not None and each.kind in _OUTLIVE]


def tell(journal: Journal, db: Any, effects: Iterable[Effect]) -> None:
    """In the conversations, at the place of their turns: what is not known to have happened, inside the change that recovers."""
    turns: dict[tuple[str, str | None], list[Effect]] = {}
    for effect in effects:
        if effect.conversation is not None and effect.kind != AuditKind.AGENT_SPAWN:  # the agent that was started is gone
            turns.setdefault((effect.conversation, effect.turn), []).append(effect)
    for (conversation, turn), found in turns.items():
        named = [f"{_WORDS.get(AuditKind(each.kind), each.kind)} {each.path or each.call or ''}".strip() for each in found]
        more = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
        text = f"It is not known whether this happened: {'; '.join(named[:_NAMED])}{more}. It is not done again by itself."
        body = {"text": text, "severity": "warning", "effects": [each.seq for each in found]}
        draft = Draft(Kind.NOTE, TurnId(turn) if turn else None, body)
        journal.put(db, ConversationId(conversation), [draft])


def _again(effect: Effect) -> dict[str, Any]:
    return {name: value for name, value in (("agent", effect.agent), ("call", effect.call)) if value is not None}


def _words(error: BaseException) -> str:
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__)[:300]
