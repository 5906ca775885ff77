"""The memory of a conversation's file, from the log and the bytes on disk, when a daemon needs it first; writes nothing.

Where the file holds the last version that the log knows, only what happened since is shown anew. Else the memory is built from
the log alone, and the file is merged into it as a save. (Design: "Restart and crash".)
"""

from __future__ import annotations

import getpass
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from opagent.document import draft, edit, frontmatter
from opagent.document.history import retold
from opagent.document.memory import Memory
from opagent.document.merge import Merged, merge
from opagent.document.parse import Part, scan
from opagent.document.rebuild import Logged, continued, logged, rebuild
from opagent.document.records import Fact, file_digest
from opagent.document.render import Reply
from opagent.errors import NotFound
from opagent.model import ConversationId, Event, Kind, Turn, TurnId, TurnState
from opagent.store import turns as turn_rows
from opagent.store.events import Draft, Journal

if TYPE_CHECKING:
    from opagent.daemon.shared import Shared
    from opagent.daemon.subject import Subject

_PAGE = 5000  # events
_OURS = (Kind.DOCUMENT, Kind.TURN_STATE)
_FINAL = {state.value for state in TurnState if state.final}


@dataclass(frozen=True, slots=True)
class Recalled:
    """`merged`: what the file says that the log does not know; `retold`: whether what was said before is another by that.

    `seq`: of the last event of the conversation. `draft`: the body of the last one that says how the draft stands.
    """

    memory: Memory
    seq: int
    draft: Mapping[str, Any]
    merged: Merged | None = None
    retold: bool = False


def recall(subject: Subject, disk: bytes | None, brought: bool) -> Recalled:
    """`brought`: git did so. Raises StoreFailed."""
    journal, ident = subject.shared.journal, subject.record.id
    seq, facts = journal.last_seq(ident), journal.of_kinds(ident, _OURS)
    versions = [event.body for event in facts if event.body.get("what") == "version"]
    known = bool(disk is not None and versions and versions[-1].get("digest") == file_digest(disk))
    start = disk if known and disk is not None else edit.new(subject.header(), subject.person, subject.zone).content()
    memory = Memory.of(start, subject.tag, subject.person, subject.zone, imported=False)
    _order(memory, facts)
    gone = _gone(facts)
    shown = int(versions[-1].get("seq") or 0) if known else 0
    said = [*facts, *journal.of_kinds(ident, (Kind.APPROVAL_ANSWERED,))]  # an answer may come after the end of its turn
    told = {event.turn for event in said if event.kind is not Kind.DOCUMENT and event.seq > shown}
    late = told - {None} - gone
    if late:
        since = min(event.seq for event in facts if event.turn in late)
        _show(subject, memory, [event for event in _events(journal, ident, since) if event.turn in late])
    _fold(memory, facts, known)
    if not versions and disk is not None:  # a file from elsewhere: its notes are those of another daemon
        memory.records.notices = draft.notes(disk)
    stood = next((event.body for event in reversed(facts) if event.body.get("what") == "draft"), {})
    if disk is None or known:
        memory.unnoted()
        return Recalled(memory, seq, stood)
    memory.remind(disk)
    before = memory.content()
    merged = merge(memory, disk, git=brought)
    changed = bool(merged.facts) and not merged.stop and retold(before, merged.content, subject.tag)
    return Recalled(memory, seq, stood, merged, changed)


def beyond(subject: Subject, disk: bytes) -> list[Draft]:
    """After a power cut the file may have more of a reply that ran than the log: text for the log."""
    journal, ident = subject.shared.journal, subject.record.id
    open_ = [region.id for region in scan(disk, subject.tag) if region.part is Part.REPLY and not region.finished]
    found = []
    for turn in logged(_of(_events(journal, ident, 0), open_), subject.person) if open_ else []:
        states = [event for event in turn.events if event.kind is Kind.TURN_STATE and event.body.get("state") in _FINAL]
        reply = _replayed(subject, replace(turn, events=tuple(event for event in turn.events if event not in states)))
        text = continued(disk, subject.tag, turn.opening.reply, reply.unclosed()) if states else ""
        if text:
            found.append(Draft(Kind.TEXT, TurnId(turn.opening.reply), {"text": text}))
    return found


def _of(events: Iterable[Event], turns: Sequence[str]) -> Iterable[Event]:
    return (event for event in events if event.turn in turns)


def _fold(memory: Memory, facts: Iterable[Event], known: bool) -> None:
    """What was remembered of the file, out of the log. `known`: the memory is made of the last version."""
    for event in facts:
        body = event.body
        if event.kind is Kind.TURN_STATE:
            _told(memory, event)
        elif body.get("what") == "version":
            memory.restore(body)
        elif body.get("region"):
            fact = fact_of(body)
            region = memory.document.region(fact.region)
            if not known or (region is not None and region.body == fact.body):
                memory.recall(fact)


def _order(memory: Memory, events: Iterable[Event]) -> None:
    """In which order turns came into the file."""
    for event in events:
        if event.kind is Kind.TURN_STATE and event.turn is not None and event.body.get("state") != TurnState.QUEUED.value:
            memory.records.begins(str(event.body.get("message")), event.turn)


def _told(memory: Memory, event: Event) -> None:
    """The draft that a message was: an editor may show it still. And whether a reply goes on."""
    if raw := raw_of(event.body):
        memory.told(str(event.body.get("message")), raw)
    if event.turn is not None and (kept := memory.kept.get(event.turn)):
        kept.running = event.body.get("state") not in _FINAL


def rebuilt(subject: Subject, present: bytes | None, damaged: bool) -> Memory:
    """The memory as the log has it; of the present file the head, the draft and the margin notes stay.

    `damaged`: nothing can be told from the draft; what stands nowhere else is that.
    """
    events = list(_events(subject.shared.journal, subject.record.id, 0))
    kept = present[: frontmatter.end(present)] if present and damaged else present
    content = rebuild(events, kept, subject.header(), subject.look(), subject.person)
    memory = Memory.of(content, subject.tag, subject.person, subject.zone, imported=False)
    _order(memory, events)
    for event in events:
        if event.body.get("what") == "version":
            memory.restore(event.body)
        elif event.kind is Kind.TURN_STATE:
            _told(memory, event)
    if damaged and present:
        memory.rescue(present)
    return memory


# ---- turns ---------------------------------------------------------------------------------------------------------------


def queued(subject: Subject, turn: TurnId) -> Mapping[str, Any]:
    """What was logged when a turn was queued; an earlier daemon may have done so."""
    states = subject.shared.journal.of_kinds(subject.record.id, (Kind.TURN_STATE,))
    return next((event.body for event in states if event.turn == turn), {})


def raw_of(body: Mapping[str, Any]) -> bytes:
    """The draft that a queued message was, byte for byte; empty for one from elsewhere."""
    return str(body.get("raw") or "").encode("latin-1")


def opening(subject: Subject, turn: Turn, body: Mapping[str, Any]) -> edit.Opening:
    """How a turn begins in the file; `body`: what was logged when it was queued. A draft goes in as it was typed."""
    raw = raw_of(body)
    text = draft.read(raw).text.decode("utf-8", "surrogateescape") if raw else turn.text
    author = turn.author if turn.author.startswith("agent:") else subject.person
    return edit.Opening(
        message=turn.message, reply=turn.id, author=author, text=text, agent=turn.agent or subject.record.agent,
        sent=turn.queued_at, started=subject.shared.now(), via="" if raw else str(body.get("via") or "cli"),
    )  # fmt: skip


def _show(subject: Subject, memory: Memory, events: Iterable[Event]) -> None:
    for turn in logged(events, subject.person):
        memory.begin(turn.opening, turn.raw)
        reply = _replayed(subject, turn)
        memory.put(turn.opening.reply, reply.body(), reply.end(), running=not reply.state.final)


def told(subject: Subject, turn: TurnId) -> Reply | None:
    """The reply of a turn as the log has it by now."""
    states = subject.shared.journal.of_kinds(subject.record.id, (Kind.TURN_STATE,))
    first = next((event.seq for event in states if event.turn == turn), None)
    if first is None:
        return None
    events = [event for event in _events(subject.shared.journal, subject.record.id, first) if event.turn == turn]
    return next((_replayed(subject, each) for each in logged(events, subject.person)), None)


def _replayed(subject: Subject, turn: Logged) -> Reply:
    reply = Reply(subject.tag, edit.title(turn.opening.agent), subject.look())
    for event in turn.events:
        reply.apply(event)
    return reply


def _events(journal: Journal, ident: ConversationId, since: int) -> Iterable[Event]:
    after = max(0, since - 1)
    while page := journal.after(ident, after, _PAGE):
        yield from map(named, page)
        after = page[-1].seq


def _gone(facts: Sequence[Event]) -> set[str]:
    """Turns that a person took out of the file, or that moved to a part."""
    gone: set[str] = set()
    for event in facts:
        match event.body.get("what"):
            case "deleted" | "reverted" if not fact_of(event.body).body:  # a reverted one may stand there as it once was
                gone.add(str(event.body.get("region")))
            case "part":
                gone.update(map(str, event.body.get("regions") or ()))
            case "restored":
                gone.discard(str(event.body.get("region")))
    return gone


def named(event: Event) -> Event:
    """Who answered, by name: the log knows the uid only."""
    by = str(event.body.get("answered_by") or "")
    return (
        replace(event, body={**event.body, "answered_by": getpass.getuser()}, encoded=b"") if by.startswith("human:") else event
    )


# ---- facts ---------------------------------------------------------------------------------------------------------------


def fact_body(fact: Fact) -> dict[str, Any]:
    """As the log keeps it; bytes that are no UTF-8 as Latin-1, so that every one comes back."""
    body: dict[str, Any] = {"what": fact.what}
    if fact.region:
        body["region"] = fact.region
    if fact.after:
        body["after"] = fact.after
    if fact.body:
        try:
            body["body"] = fact.body.decode()
        except UnicodeDecodeError:
            body["latin1"] = fact.body.decode("latin-1")
    return body


def fact_of(body: Mapping[str, Any]) -> Fact:
    content = str(body["latin1"]).encode("latin-1") if "latin1" in body else str(body.get("body") or "").encode()
    return Fact(str(body.get("what")), str(body.get("region") or ""), content, str(body.get("after") or ""))


def happened_here(shared: Shared, conversation: ConversationId, turn: str) -> bool:
    """Whether the log of this host has the turn: as one of this conversation, or of one that it was forked from here."""
    try:
        shared.database.read(lambda db: turn_rows.get(db, conversation, TurnId(turn)))
        return True
    except NotFound:
        facts = [event.body for event in shared.journal.of_kinds(conversation, (Kind.DOCUMENT,))]
        origins = [str(body.get("from")).partition("#")[0] for body in facts if body.get("what") == "forked" and body.get("here")]
        return any(happened_here(shared, ConversationId(origin), turn) for origin in origins)
