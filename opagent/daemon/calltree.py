"""Calls between agents as values: who called whom, under what, and how each ended; starts nothing and decides nothing.

A tree has one root, the turn of a person. Each call knows the call that its caller works for; what binds a callee is the caller's
own rights and whatever bound the caller, so it only narrows from the root down.
"""

from __future__ import annotations

import asyncio
import enum
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from opagent.model import Capabilities, ConversationId, TurnId
from opagent.policy.budget import Limit
from opagent.policy.loops import Pairs


class End(enum.StrEnum):
    """How a call ended; the words of `mcp/tools.py`."""

    ANSWER = "answer"
    REFUSED = "refused"  # it never began
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    BUDGET = "budget"


@dataclass(frozen=True, slots=True)
class Spot:
    """An agent of a directory of a machine: what a cycle is recognised by."""

    host: str
    workspace: str
    role: str

    def __str__(self) -> str:
        return f"{self.host}:{self.workspace}#{self.role}"


@dataclass(frozen=True, slots=True)
class Under:
    """What binds a callee beside its own binding. `strict`: a caller is held by a box of mounts, so it is, too."""

    capabilities: tuple[Capabilities, ...] = ()
    strict: bool = False
    limits: tuple[Limit, ...] = ()
    kin: frozenset[str] = frozenset()  # the turns that called it, as `policy/budget.py` names turns


NOTHING = Under()


@dataclass(frozen=True, slots=True)
class There:
    """The callee's side on another machine, as that machine told it: shown, and never used as something of here."""

    machine: str
    conversation: str = ""
    turn: str = ""
    file: str = ""
    call: str = ""  # its id there


@dataclass(slots=True)
class Tree:
    """What the calls of one root have in common."""

    trace: str = field(default_factory=lambda: secrets.token_hex(16))
    pairs: Pairs = field(default_factory=Pairs)


@dataclass(frozen=True, slots=True)
class Outcome:
    """`text`: the answer, or why there is none. `reason` of the callee's turn, where it had one."""

    end: End
    text: str
    reason: str = ""
    hint: str = ""
    usage: Mapping[str, Any] = field(default_factory=dict)


@dataclass(eq=False, slots=True)
class Call:
    """One call. `conversation` and `turn` are the callee's, once it has them; `caller` and `working` those of who called.

    `parent`: the call that the caller itself works for. `waits`: the approval that the callee, or one below it, waits for.
    """

    id: str
    tree: Tree
    by: Spot
    caller: ConversationId
    working: TurnId
    parent: Call | None = None
    under: Under = NOTHING
    to: Spot | None = None
    conversation: ConversationId | None = None
    turn: TurnId | None = None
    file: str = ""
    before: tuple[Spot, ...] = ()  # of one from another machine: who works for whom there, the root first
    key: str = ""  # of one from another machine: its id there
    machine: str = ""  # and how that machine calls itself
    there: There | None = None  # of one to another machine, instead of those three
    heard: Callable[[], None] = lambda: None  # told of each change; for the machine that it came from
    waits: str = ""
    span: str = field(default_factory=lambda: secrets.token_hex(8))
    begun: bool = False  # something is made for it that must not be left half
    left: bool = False  # the turn that called has ended: nobody goes on in the callee's conversation in it
    end: End | None = None
    unwanted: End | None = None  # it is being ended, as what
    why: str = ""
    task: asyncio.Task[None] | None = None
    over: asyncio.Future[Outcome] = field(default_factory=asyncio.Future)

    @property
    def depth(self) -> int:
        return len(self.chain)

    @property
    def chain(self) -> tuple[Spot, ...]:
        """Who works for whom, the root first, up to the caller."""
        return (*(self.parent.chain if self.parent is not None else self.before), self.by)

    def line(self) -> Iterator[Call]:
        """It and all that it works for."""
        call: Call | None = self
        while call is not None:
            yield call
            call = call.parent

    @property
    def trace(self) -> dict[str, str]:
        """For the head of a row of the record."""
        return {"tid": self.tree.trace, "sid": self.span}

    def as_json(self) -> dict[str, Any]:
        """How it stands, as `call/result` and the tools give it."""
        said: dict[str, Any] = {"call": self.id, "outcome": "running"}
        if self.over.done() and not self.over.cancelled():
            outcome = self.over.result()
            said |= {"outcome": outcome.end.value, "text": outcome.text}
            said |= {"usage": dict(outcome.usage)} if outcome.usage else {}
            said |= {key: value for key, value in (("reason", outcome.reason), ("hint", outcome.hint)) if value}
        known = {
            "agent": self.to.role if self.to else "",
            "conversation": self.conversation,
            "turn": self.turn,
            "file": self.file,
        }
        if self.there is not None:
            known |= {key: getattr(self.there, key) for key in ("machine", "conversation", "turn", "file")}
        return said | {key: value for key, value in (known | {"waits_for": self.waits}).items() if value}
