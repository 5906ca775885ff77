"""What a call makes and reads on the callee's side: its conversation beneath the caller's, its answer, how it is shown there.

Decides nothing about a call; `daemon/calling.py` does.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opagent.daemon import callers, inbox
from opagent.daemon.calltree import Call, End, Outcome
from opagent.daemon.conversation import Conversation
from opagent.document.names import new_conversation
from opagent.document.relinked import relinked
from opagent.errors import Conflict, NotFound
from opagent.model import Conversation as Record
from opagent.model import ConversationId, Kind, Turn, TurnId, TurnState
from opagent.store import effects as effect_rows
from opagent.store.events import AuditKind, timestamp

if TYPE_CHECKING:
    from opagent.daemon.admitting import Target
    from opagent.daemon.calling import Wanted
    from opagent.daemon.host import Host

ANSWER = 256 * 1024  # characters of an answer that the caller gets; all of it is in the callee's file
_TITLE = 80
_TRIES = 20
REASONS = {"budget": End.BUDGET, "loop": End.BUDGET, End.TIMED_OUT.value: End.TIMED_OUT}


async def conversation(host: Host, c: Conversation, found: Target, wanted: Wanted) -> Conversation:
    """The one of an earlier call where it is named, else a new one. Raises NotFound, Conflict, FileRefused."""
    if wanted.conversation:
        return earlier(host, c.record.id, found, wanted.conversation)
    host.remember_for(found.workspace.path, c.workspace.path)
    assert c.current is not None
    named, turn = title(host, wanted.prompt), c.current.turn.id
    if found.spot.workspace != c.workspace.path:
        return await host.create(found.workspace, found.spot.role, named, parent=f"{_link(c.record, found)}#{turn}")
    return await _beneath(host, c.record, found, named, turn)


def title(host: Host, prompt: str) -> str:
    """The first words of what it shall do."""
    return host.shared.known.hide(next(iter(prompt.strip().splitlines()), ""))[:_TITLE]


def _link(caller: Record, found: Target) -> str:
    """The way back to the caller's file from one of another directory."""
    return os.path.relpath(caller.path, Path(found.workspace.path) / found.workspace.binding.conversations)


def earlier(host: Host, caller: ConversationId, found: Target, word: str) -> Conversation:
    """Raises NotFound for one that was not made by a call of the same caller."""
    known = host.conversation(word)
    mine = any(each.caller == caller and each.conversation == known.record.id for each in host.calls.all())
    if not mine or (known.record.workspace, known.record.agent) != (found.spot.workspace, found.spot.role):
        raise NotFound(f"{word} is no conversation of yours with {found.request}", "", "leave it out to begin a new one")
    return known


async def _beneath(host: Host, caller: Record, found: Target, title: str, turn: TurnId) -> Conversation:
    """`conversations/STEM-OF-THE-CALLER/ROLE-1.md`."""
    host.mirrors.refuse(found.workspace.path)
    host.shared.ownership.take(found.workspace.path)
    folder = Path(caller.path).with_suffix("")
    for _ in range(_TRIES):
        taken = {name.lower() for name in os.listdir(folder)} if folder.is_dir() else set()
        ident, path = new_conversation(secrets.token_bytes(16)), str(folder / _name(found.spot.role, taken))
        record = Record(ident, found.workspace.path, path, found.spot.role, title, timestamp())
        made = Conversation(record, found.workspace, host.shared)
        made.file.subject.parent = f"../{os.path.basename(caller.path)}#{turn}"
        try:
            return await host.enter(made)
        except Conflict:
            continue  # the name or the id was taken meanwhile
    raise Conflict("no free name for the conversation of a call", str(folder))


def _name(role: str, taken: set[str]) -> str:
    """`writer-1.md`, `writer-2.md`, ..."""
    number = 1
    while f"{role}-{number}.md".lower() in taken:
        number += 1
    return f"{role}-{number}.md"


def named(host: Host, call: Call) -> dict[str, Any]:
    """For the log of the callee: which call its turn is for, and who called from where."""
    said = {"id": call.id, "by": call.by.role, "trace": call.tree.trace, **callers.by(host, call)}
    return said | ({"machine": call.machine} if call.machine else {})


def answer(host: Host, call: Call, callee: Record, turn: TurnId, after: int) -> str:
    """What the callee said in the turn, with links that lead on from the caller's file. For a thread."""
    conversation = callee.id
    pieces: list[str] = []
    while page := host.journal.after(conversation, after):
        pieces += [str(event.body.get("text", "")) for event in page if event.kind is Kind.TEXT and event.turn == turn]
        after = page[-1].seq
    text = "".join(pieces).strip()
    if (caller := host.conversations.get(call.caller)) is not None:
        way = os.path.relpath(os.path.dirname(callee.path), os.path.dirname(caller.record.path))
        text = relinked(text, way) if way != "." else text
    return text if len(text) <= ANSWER else f"{text[:ANSWER]}\n[cut: {len(text)} characters]"


def changed_files(host: Host, turn: Turn) -> bool:
    found = host.database.read(lambda db: effect_rows.of_turn(db, turn.conversation, turn.id))
    return any(each.kind == AuditKind.FS_WRITE for each in found)


def outcome(call: Call, turn: Turn, sentence: str, text: str) -> Outcome:
    """Of a turn that has ended."""
    reason = turn.reason or ""
    usage = {key: turn.usage[key] for key in sorted(turn.usage)}
    if turn.state is TurnState.DONE:
        return Outcome(End.ANSWER, text or "(it said nothing)", usage=usage)
    if call.unwanted is not None:
        end, why = call.unwanted, call.why
    elif turn.state is TurnState.CANCELLED:
        end, why = REASONS.get(reason, End.CANCELLED), sentence or f"its turn was cancelled: {reason}"
    else:
        end, why = End.FAILED, sentence or f"its turn ended as {turn.state.value}: {reason}"
    said = f"{why}\n\nIt said until then:\n{text}" if text else why
    return Outcome(end, said, reason, f"opagent conversations show {turn.conversation}", usage)


def shown(call: Call, caller: Record) -> Mapping[str, Any]:
    """The call as a tool call of the caller's reply; `document/tools.py` shows it."""
    assert call.to is not None
    over = call.over.result() if call.over.done() and not call.over.cancelled() else None
    status = "in_progress" if over is None else "completed" if over.end is End.ANSWER else "failed"
    role = call.to.role or "the agent"
    where = role if call.to.workspace == caller.workspace else f"{role} in {call.to.workspace}"
    told: dict[str, Any] = {"agent": where, "id": call.id, "approval": call.waits}
    if call.file:
        told |= {"file": os.path.relpath(call.file, os.path.dirname(caller.path)), "conversation": call.conversation}
    if call.there is not None and call.there.file:
        told |= {"place": f"{call.there.machine}:{call.there.file}", "conversation": call.there.conversation}
        told |= {"machine": call.there.machine, "turn": call.there.turn, "there": call.there.call}
    if over is not None:
        told |= {"text": over.text if over.end is End.ANSWER else f"{over.end.value}: {over.text}", "outcome": over.end.value}
    return {"id": f"call-{call.id}", "title": f"call {where}", "kind": "other", "status": status, "call": told}


def give_back(host: Host, call: Call) -> None:
    """Nobody goes on with it in the turn that has ended: its process leaves, if nothing runs there."""
    callee = host.conversations.get(call.conversation) if call.conversation is not None else None
    if callee is not None and callee.agent is not None:
        callee.post(inbox.StopAgent(again=False, force=False, idle=True))
