"""What can happen to a conversation: every kind of item that its one inbox takes, and nothing else.

Replies, updates, answers, exits and deadlines pass through the same queue in the order in which they happened; one
consumer (`daemon/conversation.py`) takes them out and never waits for a person or for another conversation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from opagent.acp.connection import Incoming
from opagent.errors import OpAgentError
from opagent.model import Approval, Decision, ExitReport, ProcessId, Turn, TurnId

if TYPE_CHECKING:
    from opagent.daemon.asking import Pause, Question, Waiting
    from opagent.daemon.conversation import Conversation
    from opagent.daemon.turns import Prompt
    from opagent.store.events import Draft

UNREAD = (
    2  # reads of an agent's stdout that may lie in the inbox; then its reader waits and reads more at once, and so does the agent
)


@dataclass(frozen=True, slots=True)
class Look:
    """Something may be startable: a turn was queued, a back-off is over."""


@dataclass(frozen=True, slots=True)
class FromAgent:
    """What one read of the agent's stdout completed. `generation` tells a dead agent's words from the present one's."""

    generation: int
    incoming: tuple[Incoming, ...]


@dataclass(frozen=True, slots=True)
class Failed:
    """The agent could not be started or spoken to."""

    generation: int
    error: OpAgentError


@dataclass(frozen=True, slots=True)
class Exited:
    """The agent's process and its tree are gone."""

    generation: int
    report: ExitReport


@dataclass(frozen=True, slots=True)
class Deadline:
    """The time for `what` is over; ignored when it has happened meanwhile."""

    generation: int
    what: str


@dataclass(frozen=True, slots=True)
class Answered:
    """A person's answer, already committed. `pause`: the question was ours."""

    approval: Approval
    pause: Pause | None = None


@dataclass(frozen=True, slots=True)
class Connects:
    """The agent, or a server of its tools, wants to connect to `request` (`host:port`): a person has to say whether it may."""

    generation: int
    request: str
    decision: Decision
    guest: ProcessId


@dataclass(frozen=True, slots=True)
class ConnectGone:
    """Nobody waits any more for the answer to that question."""

    generation: int
    request: str
    guest: ProcessId


@dataclass(frozen=True, slots=True)
class Asks:
    """A tool that the agent called through us has to be put to a person."""

    generation: int
    request: Waiting
    question: Question


@dataclass(frozen=True, slots=True)
class AsksNoMore:
    """Nobody waits any more for the answer to the question of that number."""

    generation: int
    number: int


@dataclass(frozen=True, slots=True)
class Tells:
    """Rows of the log about the turn, from outside the consumer; left out where it runs no longer."""

    turn: TurnId
    drafts: tuple[Draft, ...]


@dataclass(frozen=True, slots=True)
class Notes:
    """A note for the person, from outside the consumer, whether or not a turn runs."""

    generation: int
    text: str
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Cancel:
    """Cancel the turn (None: the running one); `done` gets the turn's id, or an error."""

    turn: TurnId | None
    reason: str
    done: asyncio.Future[TurnId] | None = None


@dataclass(frozen=True, slots=True)
class StopAgent:
    """Stop the agent's process; `again` starts it anew and forgets a crash loop."""

    again: bool
    force: bool
    done: asyncio.Future[None] | None = None
    idle: bool = False  # only if nothing runs and nothing waits


@dataclass(frozen=True, slots=True)
class Project:
    """Bring the file to what the log says: after a crash of the daemon, or (`anew`) the whole of it, as a person asked.

    `done` gets the path under which the bytes that were there are kept, or None.
    """

    anew: bool = False
    done: asyncio.Future[str | None] | None = None


@dataclass(frozen=True, slots=True)
class Changed:
    """Somebody saved the file, or it was merged and not acted on. `watched`: the save was noticed as it happened."""

    watched: bool = False


@dataclass(frozen=True, slots=True)
class SendDraft:
    """Send the draft of the file, whatever its gesture and where it came from: a person said so elsewhere.

    `prompt`: who did; its text is empty.
    """

    prompt: Prompt
    steer: bool
    done: asyncio.Future[Turn]


@dataclass(frozen=True, slots=True)
class Foreign:
    """A save of the file's mirror on another machine. `done` gets what stands in the file now, and what a person has to know.

    `base`: the version that it was made of, empty where nobody knows; `brought`: its gestures do not count.
    """

    content: bytes
    base: bytes
    brought: bool
    done: asyncio.Future[tuple[bytes, str]]


@dataclass(frozen=True, slots=True)
class Do:
    """What a method wants done in order with all else. `done` gets its end or its error, and nothing else hears of that."""

    work: Callable[[Conversation], Awaitable[None]]
    done: asyncio.Future[None]


@dataclass(frozen=True, slots=True)
class Tick:
    """A few seconds went by: look at the clocks, write what is due."""


Item: TypeAlias = (
    Look
    | FromAgent
    | Failed
    | Exited
    | Deadline
    | Answered
    | Connects
    | ConnectGone
    | Asks
    | AsksNoMore
    | Tells
    | Notes
    | Cancel
    | StopAgent
    | Project
    | Tick
    | Changed
    | SendDraft
    | Foreign
    | Do
)
