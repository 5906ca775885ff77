"""What was said in another program -> a conversation file; believes nothing of its form, and draws ids from chance passed in.

API: `hidden`, `talk`, `Talk`, `Turn`, `written`, `Names`.

Records are objects with one of the keys `session`, `user`, `text`, `tool`, `end` (docs/guides/bring-conversations.md).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, tzinfo
from typing import Any

from opagent.document import edit
from opagent.document.excerpt import one_line
from opagent.document.names import new_id
from opagent.document.notices import moment
from opagent.document.parse import Region
from opagent.document.render import Look, Reply
from opagent.model import ConversationId, Event, Kind, TurnId, TurnState

LIMIT = 12 << 20  # bytes of a file with what was imported: there is room for more below 16 MiB
TURNS = 20_000  # ids have four digits
TITLE = 80  # characters
_NAME = 100  # of the name of a model
_OUTPUT_LINES, _OUTPUT = 18, 1900  # of a tool's output that is shown; the rest stays in the session it came from
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?Z")
_STATES = {"cancelled": TurnState.CANCELLED, "failed": TurnState.FAILED}
_STATUS = ("pending", "in_progress", "completed", "failed", "stopped")


@dataclass(slots=True)
class Turn:
    """A message and what followed it. `steps`: (kind of event, body, time)."""

    words: list[str]
    sent: str
    model: str = ""
    steps: list[tuple[Kind, dict[str, Any], str]] = field(default_factory=list)
    changes: set[str] = field(default_factory=set)  # ids of calls that say what they change
    state: TurnState = TurnState.DONE
    why: str = ""

    @property
    def text(self) -> str:
        return "\n\n".join(self.words)

    @property
    def ended(self) -> str:
        return self.steps[-1][2] if self.steps else self.sent


@dataclass(frozen=True, slots=True)
class Talk:
    """`passed_over`: records that could not be read."""

    turns: tuple[Turn, ...]
    title: str = ""
    passed_over: int = 0


def hidden(records: Iterable[Mapping[str, Any]], hide: Callable[[str], str]) -> Iterator[dict[str, Any]]:
    """The records with what `hide` makes of every text that an agent or a tool said; a person's stays as typed."""

    def changed(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: changed(each) for key, each in value.items()}
        return [changed(each) for each in value] if isinstance(value, list) else hide(value) if isinstance(value, str) else value

    for record in records:
        yield {key: changed(value) if key in ("text", "tool", "why") else value for key, value in record.items()}


def talk(records: Iterable[Mapping[str, Any]], folder: str = "") -> Talk:
    """Two messages in a row are one; what was said before any message belongs to an empty one.

    Paths below `folder` are shown as seen from there.
    """
    turns: list[Turn] = []
    title, passed_over, at = "", 0, ""
    for record in records:
        if _TIME.fullmatch(said := _text(record, "at")) and moment(said)[0]:
            at = said  # without a time: that of what came before
        session = record.get("session")
        if isinstance(session, Mapping):
            title = one_line(_text(session, "title"), TITLE) or title
        elif user := _text(record, "user"):
            if turns and not turns[-1].steps and turns[-1].state is TurnState.DONE:
                turns[-1].words.append(user)
            else:
                turns.append(Turn([user], at))
        elif isinstance(count := record.get("passed_over"), int):
            passed_over += count
        else:
            turns = turns or [Turn([], at)]
            _take(turns[-1], record, at, folder)
    if turns and not turns[-1].steps and turns[-1].state is TurnState.DONE:
        turns[-1].state = TurnState.INTERRUPTED
    return Talk(tuple(turns[-TURNS:]), title, passed_over)


def _text(record: Mapping[str, Any], key: str) -> str:
    value = record.get(key)
    return value if isinstance(value, str) else ""


def _take(turn: Turn, record: Mapping[str, Any], at: str, folder: str) -> None:
    turn.model = _text(record, "model")[:_NAME] or turn.model
    call = record.get("tool")
    if text := _text(record, "text"):
        apart = "\n\n" if turn.steps and turn.steps[-1][0] is Kind.TEXT else ""
        turn.steps.append((Kind.TEXT, {"text": apart + text.strip("\n")}, at))
    elif isinstance(call, Mapping):
        turn.steps.append((Kind.TOOL_CALL, _call(call, turn, folder), at))
    elif end := _text(record, "end"):
        turn.state, turn.why = _STATES.get(end, TurnState.FAILED), _text(record, "why")


def _call(call: Mapping[str, Any], turn: Turn, folder: str) -> dict[str, Any]:
    """The fields of a tool call as the log has them; what is not there stays as an earlier record of the call said it."""
    body: dict[str, Any] = {key: value for key in ("id", "title", "kind") if (value := _text(call, key))}
    status = _text(call, "status")
    body["status"] = status if status in _STATUS else "stopped"
    below = f"{folder}/" if folder.strip("/") else ""
    if path := _text(call, "path").removeprefix(below):
        body["locations"] = [{"path": path}]
    listed = call.get("diffs")
    content: list[dict[str, Any]] = [
        {
            "type": "diff", "path": _text(each, "path").removeprefix(below),
            "oldText": _text(each, "old"), "newText": _text(each, "new"),
        }
        for each in (listed if isinstance(listed, list) else ())
        if isinstance(each, Mapping)
    ]  # fmt: skip
    patch, output, ident = _text(call, "patch"), _text(call, "output"), str(body.get("id"))
    if content or patch:
        turn.changes.add(ident)
    if patch or (output and (status != "completed" or ident not in turn.changes)):  # a change is shown, not that it was made
        content.append({"type": "content", "content": {"type": "text", "text": _shortened(patch or output)}})
    return body | ({"content": content} if content else {})


def _shortened(text: str) -> str:
    text = text.rstrip("\n")
    lines = text.split("\n")
    shown = "\n".join(lines[:_OUTPUT_LINES]).encode("utf-8", "replace")[:_OUTPUT].decode("utf-8", "ignore")
    return shown if shown == text else f"{shown}\n… {len(lines)} lines"


@dataclass(frozen=True, slots=True)
class Names:
    """Whose names stand above the turns: a login, and the role or program that answered."""

    person: str
    agent: str
    zone: tzinfo = UTC


def written(turns: Iterable[Turn], header: Mapping[str, str], names: Names, chance: Callable[[int], bytes]) -> tuple[bytes, int]:
    """The file, and how many of the oldest turns are not in it because it would grow too large.

    `header`: keys of the front matter, `conversation` among them. `chance` gives so many random bytes.
    """
    document = edit.new(header, names.person, names.zone)
    known: set[str] = set()
    pairs: list[tuple[Region, Region]] = []
    previous = document.regions[0]
    for turn in turns:
        ids = tuple(_drawn(kind, known, chance) for kind in ("message", "reply"))
        pairs.append(_regions(document, turn, ids, names, previous))
        previous = pairs[-1][1]
    sizes = [len(message.raw) + len(reply.raw) for message, reply in pairs]
    left_out = 0
    while sum(sizes[left_out:]) > LIMIT:
        left_out += max(1, len(sizes[left_out:]) // 20)
    regions = [region for pair in pairs[left_out:] for region in pair]
    grown = replace(document, regions=(document.regions[0], *regions, *document.regions[1:])).pointed()
    return grown.content(), left_out


def _drawn(kind: str, known: set[str], chance: Callable[[int], bytes]) -> str:
    while (name := new_id(kind, chance(4))) in known:
        pass
    known.add(name)
    return name


def _regions(document: edit.Document, turn: Turn, ids: tuple[str, ...], names: Names, previous: Region) -> tuple[Region, Region]:
    """Message and reply of one turn, made in a document of their own: a large one would be gone through for each."""
    message, name = ids
    opening = edit.Opening(
        message, name, names.person, turn.text, names.agent, turn.sent, turn.sent, via="import", model=turn.model
    )
    reply = Reply(document.tag, edit.title(names.agent), Look(zone=names.zone))
    ending = (Kind.TURN_STATE, {"state": turn.state.value, "error": turn.why}, turn.ended)
    for number, (kind, body, at) in enumerate((*turn.steps, ending), 1):
        reply.apply(Event(ConversationId(document.tag), number, number, TurnId(name), kind, at, body))
    small = replace(document, regions=(previous, document.message(opening, [previous]), document.reply(opening)))
    _, said, answered = small.put(name, reply.body(), reply.end()).regions
    return said, answered
