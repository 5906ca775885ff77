"""What `opagent why PATH`, `why SEQ` and `why CALL` tell: from any effect back to the prompt; changes nothing.

file -> record -> tool call -> approval and rule -> turn -> message and its author. Where nobody knows who made a change, it says
what could have: the calls of that turn that name the file, its commands, the other conversations that worked there.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from opagent.daemon.why import Step, Why, answered, called, earlier, prompt, short, turn_ended
from opagent.errors import NotFound
from opagent.model import ConversationId, Event, Kind
from opagent.store import effects as rows
from opagent.store import records
from opagent.store.effects import Effect, State
from opagent.store.events import AuditKind

if TYPE_CHECKING:
    from opagent.daemon.shared import Shared

_TOLD = (Kind.APPROVAL_ASKED, Kind.APPROVAL_ANSWERED, Kind.TURN_STATE, Kind.TOOL_CALL)
_LOOKED = 200  # effects on one path
_EARLIER = 5
_DIGITS = 12  # of a digest


def change(shared: Shared, word: str) -> Why | None:
    """Of a number of the record, or of a path: its last change, or where none is known the last look at it."""
    if word.isdigit():
        return _why(shared, shared.database.read(lambda db: rows.at(db, int(word))), ())
    if not os.path.isabs(word):
        return None
    found = shared.database.read(lambda db: rows.of_path(db, os.path.normpath(word), _LOOKED))
    if not found:
        raise NotFound(f"nothing is known of {word}", "no record is about it", "opagent audit")
    changed = [each for each in found if each.kind == AuditKind.FS_WRITE and each.state is not State.DENIED] or found
    return _why(shared, changed[0], changed[1:])


def call(shared: Shared, word: str) -> Why | None:
    """Of a call between agents: who called, and where the callee's side of it is."""
    found = shared.database.read(lambda db: rows.call(db, word))
    return _why(shared, found, ()) if found is not None else None


def _why(shared: Shared, effect: Effect, earlier: list[Effect] | tuple[()]) -> Why:
    steps = [*_steps(shared, effect), *_before(effect, earlier)]
    title = f"{effect.kind} {effect.path or effect.call or ''}".strip()
    return Why(str(effect.seq), "effect", effect.state.value, title, tuple(sorted(steps, key=lambda step: step.at)))


def _steps(shared: Shared, effect: Effect) -> Iterator[Step]:
    events: list[Event] = []
    beside: list[Effect] = []
    if effect.kind == AuditKind.CALL_START:
        yield from _from_elsewhere(shared, effect)
    if effect.conversation is not None and effect.turn is not None:
        conversation, turn = ConversationId(effect.conversation), effect.turn
        events = [each for each in shared.journal.of_kinds(conversation, _TOLD) if each.turn == turn]
        beside = shared.database.read(lambda db: rows.of_turn(db, conversation, turn))
    yield from prompt(events, shared)
    seen = effect.state is State.SEEN
    same = [each for each in beside if each.path == effect.path and each.path is not None] or [effect]
    for each in same:
        yield from _recorded(shared, each, events)
    for event in events:
        yield from _call(event, effect)
        yield from _callee(event, effect)
        yield from turn_ended(event, effect.turn)
    for each in beside if seen else ():
        if each.kind == AuditKind.EXEC_START:
            yield Step(each.at, "ran", f"record {each.seq}: a command, {each.state.value}, may have made it")


def _recorded(shared: Shared, effect: Effect, events: list[Event]) -> Iterator[Step]:
    """One effect: what decided it, who said yes, how it ended."""
    first = _record(shared, effect.seq)
    decision = first.get("decision") or {}
    if decision.get("rule"):
        yield Step(first["at"], "rule", f"{decision['rule']} ({', '.join(_said(decision))})")
        yield from earlier(shared, decision, first["at"])
    for event in events:
        if event.kind is Kind.APPROVAL_ANSWERED and effect.approval and event.body.get("id") == effect.approval:
            what, text = answered(event.body)
            yield Step(event.at, what, f"{effect.approval}: {text}")
    who = ", ".join(filter(None, [effect.agent, effect.conversation and f"in {effect.conversation}"])) or "opagent"
    if effect.state is State.SEEN:
        beside = (first.get("body") or {}).get("beside") or []
        more = f"; meanwhile worked there: {', '.join(beside)}" if beside else ""
        text = f"record {effect.seq}:{_object(_of(first, effect))}; found after a turn of {who}{more}"
        yield Step(first["at"], "seen", text)
        return
    yield Step(first["at"], "begun" if effect.ended else effect.state.value, f"record {effect.seq}: by {who};{_object(first)}")
    if effect.ended is not None:
        last = _record(shared, effect.ended)
        error = f": {last['error']}" if last.get("error") else ""
        yield Step(last["at"], effect.state.value, f"record {effect.ended}{_object(last)}{error}")


def _of(record: dict[str, Any], effect: Effect) -> dict[str, Any]:
    """Of a record that is about many files, what it says of this one."""
    changes = (record.get("body") or {}).get("changes") or []
    one = next((each for each in changes if each.get("path") == effect.path), None)
    return record if one is None else {**record, "obj": one}


def _object(record: dict[str, Any]) -> str:
    obj, command = record.get("obj") or {}, (record.get("body") or {}).get("command")
    words = " ".join(map(str, command)) if isinstance(command, list) else command
    digests = f"{_digest(obj.get('before'))} -> {_digest(obj.get('after'))}" if "after" in obj or "before" in obj else ""
    size = f"{obj['size']} bytes" if "size" in obj else ""
    code = f"exit status {obj['code']}" if obj.get("code") is not None else ""
    said = "; ".join(filter(None, [obj.get("how"), short(str(words)) if words else "", digests, size, code]))
    return f" {said}" if said else ""


def _digest(value: Any) -> str:
    return str(value)[:_DIGITS] if value else "-"


def _said(decision: dict[str, Any]) -> Iterator[str]:
    for name in ("effect", "layer", "enforcement"):
        if decision.get(name):
            yield str(decision[name]) if name != "enforcement" else f"enforced: {decision[name]}"


def _call(event: Event, effect: Effect) -> Iterator[Step]:
    """A tool call of the agent that is this one or names the file."""
    if event.kind is not Kind.TOOL_CALL:
        return
    body = event.body
    name = os.path.basename(effect.path) if effect.path else ""
    if body.get("id") == effect.call or (name and json.dumps(name)[1:-1] in json.dumps(dict(body))):
        said = ", ".join(str(body[key]) for key in ("title", "kind", "status") if body.get(key))
        yield Step(event.at, "call", f"the agent's tool call {body.get('id')}: {short(said)}")


def _callee(event: Event, effect: Effect) -> Iterator[Step]:
    """Of the call that this one is: the callee's side, once it is known."""
    said = event.body.get("call")
    if event.kind is not Kind.TOOL_CALL or not isinstance(said, Mapping) or said.get("id") != effect.call:
        return
    conversation, machine, there = (str(said.get(key) or "") for key in ("conversation", "machine", "there"))
    if conversation and not machine:
        yield Step(event.at, "callee", f"{said.get('agent')} in {conversation}, {said.get('file')}")
    elif conversation and event.body.get("status") == "in_progress":
        where = f"{conversation}, turn {said.get('turn')}, in {said.get('place')}"
        hint = f"opagent why --host {machine} {there}" if re.fullmatch(r"\w+", there) else "nothing more is known"
        yield Step(event.at, "callee", f"{said.get('agent')}: {where}; {hint}", {"machine": machine, "call": there})


def _from_elsewhere(shared: Shared, effect: Effect) -> Iterator[Step]:
    """Of a call that came from another machine: who called there."""
    record = _record(shared, effect.seq)
    said = (record.get("obj") or {}).get("from") or {}
    if said.get("host"):
        by = {"id": effect.call, "by": effect.agent, **said}
        yield from called(record["at"], by, shared)


def _before(effect: Effect, others: list[Effect] | tuple[()]) -> Iterator[Step]:
    told = [each for each in others if (each.conversation, each.turn) != (effect.conversation, effect.turn)]
    for each in told[:_EARLIER]:
        yield Step(
            each.at, "earlier", f"record {each.seq}: {each.state.value} by {each.agent or 'opagent'}; opagent why {each.seq}"
        )


def _record(shared: Shared, seq: int) -> dict[str, Any]:
    return shared.database.read(lambda db: records.one(db, shared.database.blobs, seq))
