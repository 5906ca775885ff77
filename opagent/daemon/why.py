"""What `opagent why ID` tells: from what somebody did back to the prompt, and on to what followed; changes nothing.

A kind of thing that can be asked about is a row of `FINDERS`: it gives the `Why` of an id that is its own, else None.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from opagent.errors import NotFound
from opagent.model import Approval, ApprovalState, ConversationId, Event, Kind, TurnState
from opagent.store import approvals as rows
from opagent.store import conversations as conversation_rows
from opagent.store import remembered as remembered_rows
from opagent.store.remembered import Remembered

if TYPE_CHECKING:
    from opagent.daemon.shared import Shared

_TOLD = (Kind.APPROVAL_ASKED, Kind.APPROVAL_ANSWERED, Kind.TURN_STATE, Kind.TOOL_CALL, Kind.NOTE)
_LONG = 300  # characters of a prompt and of an action in one step


@dataclass(frozen=True, slots=True)
class Step:
    """`what` is one word of prompt, called, asked, rule, answered, told, done, void, ended, remembered.

    `there`: where it goes on, on another machine: `{host or machine, call}`.
    """

    at: str
    what: str
    text: str
    there: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        said = {"at": self.at, "what": self.what, "text": self.text}
        return said | ({"there": dict(self.there)} if self.there else {})


@dataclass(frozen=True, slots=True)
class Why:
    """`title`: what it was. `steps` in the order in which they happened."""

    id: str
    kind: str
    state: str
    title: str
    steps: tuple[Step, ...]

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "steps": [step.as_json() for step in self.steps]}


def told(shared: Shared, word: str, *others: Finder) -> Why:
    """Raises NotFound, Conflict where the beginning of an id fits several."""
    for find in (*others, *FINDERS):
        if (found := find(shared, word)) is not None:
            return found
    raise NotFound(f"nothing is known as {word!r}", "", "opagent audit list")


def _approval(shared: Shared, word: str) -> Why | None:
    approval = shared.database.read(lambda db: rows.called(db, word))
    if approval is None:
        return None
    steps = sorted(_steps(shared, approval), key=lambda step: step.at)
    return Why(approval.id, "approval", approval.state.value, approval.subject, tuple(steps))


def _answer(shared: Shared, word: str) -> Why | None:
    """Of a remembered answer, r12: the question that it answered, and for what else it counts."""
    if not re.fullmatch(r"r\d+", word):
        return None
    found = [each for each in shared.database.read(lambda db: remembered_rows.listed(db)) if each.id == word]
    if not found:
        return None
    asked = _approval(shared, found[0].approval or "")
    steps = asked.steps if asked is not None else (Step(found[0].at, "remembered", kept(found[0])),)
    return Why(word, "remembered", found[0].effect.word, found[0].shown, steps)


Finder = Callable[["Shared", str], Why | None]
FINDERS: tuple[Finder, ...] = (_approval, _answer)


def _steps(shared: Shared, approval: Approval) -> Iterator[Step]:
    events = shared.journal.of_kinds(approval.conversation, _TOLD)
    events = [event for event in events if event.turn == approval.turn]
    body = next((event.body for event in events if _is(event, Kind.APPROVAL_ASKED, approval.id)), {})
    yield from prompt(events, shared)
    record = shared.database.read(lambda db: conversation_rows.get(db, approval.conversation))
    who = f"{body.get('agent') or record.agent} ({approval.process}) in {record.workspace}, {record.path}"
    yield Step(approval.asked_at, "asked", f"by {who}: {short(approval.subject)}")
    yield Step(approval.asked_at, "rule", str(approval.rule or "none"))
    for event in events:
        yield from _followed(event, approval, str(body.get("call") or ""))
    yield from _remembered(shared, approval)


def prompt(events: list[Event], shared: Shared) -> Iterator[Step]:
    """What was said first; where an agent said it, also what that one was told, up to the person."""
    queued = next((event for event in events if _queued(event)), None)
    if queued is not None:
        said = queued.body
        if isinstance(call := said.get("call"), Mapping):
            yield from called(queued.at, call, shared)
        yield Step(queued.at, "prompt", f"by {said.get('author')} via {said.get('via')}: {short(str(said.get('text') or ''))}")


def called(at: str, call: Mapping[str, Any], shared: Shared) -> Iterator[Step]:
    caller, turn = ConversationId(str(call["conversation"])), call["turn"]
    text = f"call {call['id']} by {call['by']} in {caller}, turn {turn}"
    if host := call.get("host"):
        where = f"{text}, on {call.get('machine') or 'another machine'} ({host}); type there: opagent why {call['call']}"
        yield Step(at, "called", where, {"host": str(host), "call": str(call["call"])})
        return
    above = [each for each in shared.journal.of_kinds(caller, (Kind.TURN_STATE,)) if each.turn == turn]
    yield from prompt(above, shared)
    yield Step(at, "called", text)


def _queued(event: Event) -> bool:
    return event.kind is Kind.TURN_STATE and event.body.get("state") == TurnState.QUEUED.value


def _followed(event: Event, approval: Approval, call: str) -> Iterator[Step]:
    """What one event of the turn says of it."""
    body = event.body
    if _is(event, Kind.APPROVAL_ANSWERED, approval.id):
        yield Step(event.at, *answered(body))
    elif event.kind is Kind.NOTE and body.get("approval") == approval.id:
        yield Step(event.at, "done", short(str(body.get("text") or "")))
    elif event.kind is Kind.TOOL_CALL and call and body.get("id") == call and body.get("status") in ("completed", "failed"):
        yield Step(event.at, "done", f"the agent reports its tool call {call}: {body['status']}")
    elif body.get("delivered") == approval.id and approval.state is not ApprovalState.VOID:
        yield Step(event.at, "told", "the agent has the answer")
    else:
        yield from turn_ended(event, approval.turn)


def turn_ended(event: Event, turn: str | None) -> Iterator[Step]:
    if event.kind is Kind.TURN_STATE and event.body.get("state") in {state.value for state in TurnState if state.final}:
        yield Step(event.at, "ended", f"the turn {turn}: {event.body['state']}" + _reason(event.body))


def answered(body: Mapping[str, Any]) -> tuple[str, str]:
    if body.get("state") == "void":
        return "void", f"the answer does not count{_reason(body)}"
    where = body.get("where") or {}
    place = ", ".join(f"{key} {where[key]}" for key in ("uid", "pid", "tty") if where.get(key) not in (None, ""))
    scope = f", for {body['scope']}: {body['same']}" if body.get("same") else ""
    words = f": {short(str(body['answer']))}" if body.get("answer") else _reason(body)
    by = f"{body.get('state')} by {body.get('answered_by')} via {body.get('via')}"
    return "answered", by + (f" ({place})" if place else "") + scope + words


def _remembered(shared: Shared, approval: Approval) -> Iterator[Step]:
    for each in shared.database.read(lambda db: remembered_rows.listed(db)):
        if each.approval == approval.id:
            yield Step(each.at, "remembered", kept(each))


def kept(answer: Remembered) -> str:
    """Of a remembered answer: for what it counts, where, by whom, until when, and how it is taken back."""
    where = f"in {answer.conversation}" if answer.conversation else f"in {answer.workspace}"
    for_whom = f"for {answer.agent} {where}, as long as the same rules decide"
    return f"{answer.id}: {answer.effect.word} {answer.shown}, {for_whom}; by {answer.by}; opagent approvals forget {answer.id}"


def earlier(shared: Shared, decision: Mapping[str, Any], at: str) -> Iterator[Step]:
    """What decided was an answer that was remembered: whose, to which question, and whether it still counts."""
    named = re.search(r"\((\w+)\)$", str(decision.get("rule") or ""))
    if decision.get("layer") != "remembered" or named is None:
        return
    known = shared.database.read(lambda db: remembered_rows.listed(db))
    found = next((each for each in known if named[1] in (each.approval, each.id)), None)
    if found is not None:
        yield Step(found.at, "remembered", f"{kept(found)}; opagent why {named[1]}")
        return
    yield Step(at, "remembered", f"the answer to {named[1]}, which is forgotten since; opagent why {named[1]}")


def _is(event: Event, kind: Kind, ident: str) -> bool:
    return event.kind is kind and event.body.get("id") == ident


def _reason(body: Mapping[str, Any]) -> str:
    return f" ({body['reason']})" if body.get("reason") else ""


def short(text: str) -> str:
    line = " / ".join(text.strip().splitlines())
    return line if len(line) <= _LONG else line[:_LONG] + " ..."
