"""A conversation file written again from the log: head, draft, margin notes and messages as the person has them are kept.

API: `rebuild`, `catch_up`, `continued`, `logged`.

Replies and their states come from the log, and so do messages that the file no longer holds. (Design: "Sources of truth".)
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from opagent.document import draft, frontmatter
from opagent.document.edit import Document, Opening, load, new, title
from opagent.document.markers import unescape
from opagent.document.parse import Part, Region, scan
from opagent.document.render import Look, Reply
from opagent.model import Event, Kind, TurnState

_HEADING = re.compile(r"\A\s*## [^\n]*\n\n?")
_UNFINISHED = {"", *(state.value for state in TurnState if not state.final)}


@dataclass(frozen=True, slots=True)
class Logged:
    """One turn as the log has it."""

    opening: Opening
    events: tuple[Event, ...]
    raw: bytes = b""  # the draft that the message was, if it stood in the file


def logged(events: Iterable[Event], person: str) -> list[Logged]:
    """The turns that have begun, in the order in which they did, and those that were a draft of the file.

    Another one cancelled in the queue was never in the file, unless its budget refused it.
    """
    turns: dict[str, list[Event]] = {}
    begun: dict[str, str] = {}  # reply -> when
    for event in events:
        if event.turn is None:
            continue
        turns.setdefault(event.turn, []).append(event)
        state = event.body.get("state") if event.kind is Kind.TURN_STATE else None
        refused = state == TurnState.CANCELLED.value and event.body.get("reason") == "budget"
        if state not in (None, TurnState.QUEUED.value, TurnState.CANCELLED.value) or refused or event.body.get("raw"):
            begun.setdefault(event.turn, event.at)
    return [_logged(reply, at, turns[reply], person) for reply, at in begun.items()]


def _logged(reply: str, started: str, events: Sequence[Event], person: str) -> Logged:
    raw = next((str(event.body["raw"]).encode("latin-1") for event in events if event.body.get("raw")), b"")
    opening = _opening(reply, started, events, person)
    if raw:
        opening = replace(opening, text=draft.read(raw).text.decode("utf-8", "surrogateescape"), via="")
    return Logged(opening, tuple(events), raw)


def _opening(reply: str, started: str, events: Sequence[Event], person: str) -> Opening:
    body: dict[str, str] = {}
    for event in events:
        if event.kind is Kind.TURN_STATE:
            body |= {key: str(value) for key, value in event.body.items() if value is not None and key not in body}
    author = body.get("author", person)
    return Opening(
        message=body.get("message", "u" + reply[1:]),
        reply=reply,
        author=author if author.startswith("agent:") else person,
        text=body.get("text", ""),
        agent=body.get("agent", "agent"),
        sent=events[0].at,
        started=started,
        via=body.get("via", "cli"),
        model=body.get("model", ""),
    )


def rebuild(events: Iterable[Event], present: bytes | None, header: Mapping[str, str], look: Look, person: str) -> bytes:
    """The whole file. `header`: keys of the front matter (`conversation` among them), used where there is none.

    `person` is the login that the log's `human:UID` stands for. Doing it twice changes nothing more. Turns that a `summary`
    of the present file covers stay in their part; turns that the log does not know stay where they are. The caller keeps
    the present bytes: what a person changed in a reply or deleted is taken back.
    """
    turns = logged(events, person)
    document = _present(present, header, look, turns, person)
    covered = _covered(document, turns)
    previous = ""
    for number, turn in enumerate(turns):
        if number > covered or _known(document, turn):
            document = _written(document, turn, previous, look)
            previous = turn.opening.reply
    return document.content()


def catch_up(events: Iterable[Event], present: bytes, header: Mapping[str, str], look: Look, person: str) -> bytes:
    """After a crash: only the replies that the file shows unfinished, and the turns that began after the last one in it.

    What a person edited or deleted among finished turns stays edited and deleted.
    """
    turns = logged(events, person)
    document = _present(present, header, look, turns, person)
    last = max((number for number, turn in enumerate(turns) if _known(document, turn)), default=_covered(document, turns))
    previous = ""
    for number, turn in enumerate(turns):
        reply = document.region(turn.opening.reply)
        if number > last or (reply is not None and reply.state in _UNFINISHED):
            document = _written(document, turn, previous, look)
        if _known(document, turn):
            previous = turn.opening.reply
    return document.content()


def continued(present: bytes, tag: str, reply: str, shown: str) -> str:
    """After a power cut: the text of a running reply that the file has beyond the log, to be logged.

    `shown`: what the log says, as `Reply.unclosed()`. Empty where the reply had ended or the file's does not begin like that.
    """
    region = next((region for region in scan(present, tag) if region.id == reply), None)
    if region is None or region.finished:
        return ""
    text = _HEADING.sub("", region.body.decode("utf-8", "replace").replace("\r\n", "\n"), count=1)
    return unescape(text).removeprefix(unescape(shown)).rstrip("\n") if text.startswith(shown) else ""


def _known(document: Document, turn: Logged) -> bool:
    return bool(document.region(turn.opening.reply) or document.region(turn.opening.message))


def _written(document: Document, turn: Logged, previous: str, look: Look) -> Document:
    """The turn as the log has it, both regions at their place."""
    document = _placed(document, turn.opening, previous)
    reply = Reply(document.tag, title(turn.opening.agent), look)
    for event in turn.events:
        reply.apply(event)
    before = document.region(turn.opening.reply)
    return _with_tail(document.put(turn.opening.reply, reply.body(), reply.end()), before)


def _present(present: bytes | None, header: Mapping[str, str], look: Look, turns: Sequence[Logged], person: str) -> Document:
    """The file as it is, or a new one; of a file that lost all its markers only the front matter."""
    fresh = new(header, person, look.zone)
    if not present or not present.strip():
        return fresh
    marks = {
        key: value for key, value in {"opagent": str(frontmatter.FORMAT), **header}.items() if key in ("opagent", "conversation")
    }
    document = load(present, look.zone, fresh.tag).adopt(marks)
    marked = any(region.part.turn or region.part is Part.SUMMARY for region in document.regions)
    if marked or not turns or b"op:" + fresh.tag.encode() + b" " not in present:
        return document.with_draft(person)
    front = document.content()[: frontmatter.end(document.content())]
    return replace(document, regions=(Region(Part.HEAD, body=front + document.eol), *fresh.regions[1:]))


def _covered(document: Document, turns: Sequence[Logged]) -> int:
    """The number of the last turn that a summary stands for, or -1."""
    last = {region.value("covers").split("..")[-1] for region in document.regions if region.part is Part.SUMMARY}
    return max((number for number, turn in enumerate(turns) if last & {turn.opening.message, turn.opening.reply}), default=-1)


def _placed(document: Document, opening: Opening, previous: str) -> Document:
    """With both regions of the turn: those that are missing are put after their predecessor."""
    message, reply = document.region(opening.message), document.region(opening.reply)
    if message is None and reply is None and not _turns_after(document, previous):
        return document.begin(opening)
    regions = list(document.regions)
    if message is None:
        place = regions.index(reply) if reply else _after(regions, previous)
        regions.insert(place, document.message(opening, regions[:place]))
    elif b"<!-- op:" + document.tag.encode() + b" /" in message.body:  # the start of its reply was deleted
        place = regions.index(message)
        regions[place] = document.message(opening, regions[:place])
    if reply is None:
        regions.insert(_after(regions, opening.message), document.reply(opening))
    return replace(document, regions=tuple(regions))


def _turns_after(document: Document, previous: str) -> bool:
    regions = list(document.regions)
    return any(region.part.turn for region in regions[_after(regions, previous) :])


def _after(regions: list[Region], identifier: str) -> int:
    """The place behind a region; for the first turn behind the head and what stands for older turns."""
    for place, region in enumerate(regions):
        if region.id == identifier and identifier:
            return place + 1
    return next((place for place, region in enumerate(regions) if place and region.part is not Part.SUMMARY), len(regions))


def _with_tail(document: Document, before: Region | None) -> Document:
    """What a person wrote behind a reply whose end marker is gone stands behind it again."""
    after = document.region(before.id) if before else None
    if before is None or after is None or before.close or not before.body.startswith(after.body):
        return document
    rest = before.body[len(after.body) :]
    if not rest.strip():
        return document
    regions = (replace(region, tail=document.eol + rest) if region is after else region for region in document.regions)
    return replace(document, regions=tuple(regions))
