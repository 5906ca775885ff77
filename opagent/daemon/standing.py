"""How the draft of a conversation's file stands: it waits, or does not count, and the note that says so; sends nothing.

API: `Standing`, `wait`, `refuse`, `settle`, `tell`. Waiting and refused outlive the daemon: they are events
`document` with `what: draft`. (Design: "The draft and sending", "While a turn runs".)
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from opagent.document.records import file_digest
from opagent.errors import OpAgentError

if TYPE_CHECKING:
    from opagent.daemon.conversation import Conversation

_WAITS, _REFUSED, _SETTLED = "waiting", "refused", "settled"


@dataclass(slots=True)
class Standing:
    """`since`: when the gesture was seen first, of a draft that waits. `refused`: why a gesture does not count."""

    since: str = ""
    behind: frozenset[str] = frozenset()  # the turns before it: it goes when none of them is left
    refused: str = ""
    digest: str = ""  # of the draft that was refused
    said: tuple[str, ...] = ()  # what the last save asked for and did not get

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Standing:
        """As an earlier daemon left it: `body` of the last event that says so."""
        match body.get("state"):
            case "waiting":
                return cls(since=str(body.get("since")), behind=frozenset(body.get("behind") or ()))
            case "refused":
                return cls(refused=str(body.get("text")), digest=str(body.get("draft")))
        return cls()

    @property
    def waits(self) -> bool:
        return bool(self.since)


def wait(c: Conversation, now: str) -> None:
    """The draft is to be sent when what runs and waits at this moment has ended; a draft that waits already keeps its place."""
    stand = c.standing
    stand.refused = stand.digest = ""
    if not stand.waits:
        stand.since, stand.behind = now, frozenset(turn.id for turn in c.ahead())
        _log(c, state=_WAITS, since=now, behind=sorted(stand.behind))


def refuse(c: Conversation, why: str, draft: bytes) -> None:
    """Its gesture does not count."""
    stand = c.standing
    stand.since, stand.behind = "", frozenset()
    if (stand.refused, stand.digest) != (why, file_digest(draft)):
        stand.refused, stand.digest = why, file_digest(draft)
        _log(c, state=_REFUSED, text=why, draft=stand.digest)


def settle(c: Conversation) -> None:
    """It is a draft and nothing else, or it was sent."""
    stand = c.standing
    if stand.waits or stand.refused:
        _log(c, state=_SETTLED)
    stand.since, stand.behind, stand.refused, stand.digest = "", frozenset(), "", ""


def _log(c: Conversation, **body: Any) -> None:
    c.file.subject.log({"what": "draft", **body})


async def tell(c: Conversation) -> None:
    """Bring the note in the draft up to date; the next write shows it. Where the file cannot be read, that write says why."""
    try:
        memory = await c.versions.ready()
    except (OSError, OpAgentError):
        return
    note = " ".join(f"{sentence.rstrip('.')}." for sentence in (*c.standing.said, *_sentences(c)))
    if note != memory.notice:
        memory.note(note)
        c.versions.behind = True


def _sentences(c: Conversation) -> list[str]:
    stand, found = c.standing, []
    if stand.refused:
        path = os.path.relpath(c.record.path, c.workspace.path)
        command = stand.refused.startswith("`/")
        found.append(stand.refused if command else f"Not sent: {stand.refused}. `opagent send {shlex.quote(path)}` sends it")
    elif stand.waits:
        before = sum(turn.id in stand.behind for turn in c.ahead())
        found.append(f"Sent when what runs has ended; {before} before it. Take the mark away to keep it")
    return [*found, *filter(None, (c.retold, c.stuck))]
