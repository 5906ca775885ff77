"""The arithmetic of budgets: what may begin, what is reserved for it, what it used at last; reads no clock and no table. Pure.

Amounts are whole numbers, so that no order of adding gives another sum: tokens, turns, tool calls and messages as such, costs in
millionths of their currency, times in milliseconds. A `Limit` holds for a `Scope`; what a turn uses counts in every scope of its
chain: its own, and those of all turns that called it. (Design: security.md, "Budgets and loops".)
"""

from __future__ import annotations

import enum
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

NOTICE = 80  # per cent
KNOWN = 5  # past turns that must be there before they say what a turn takes
MILLIONTHS = 1_000_000


class Metric(enum.StrEnum):
    TOKENS = "tokens"
    COST = "cost"
    WALL = "wall"
    TURNS = "turns"
    TOOL_CALLS = "tool_calls"
    MESSAGES = "messages"


class Per(enum.StrEnum):
    TURN = "turn"
    CONVERSATION = "conversation"
    DAY = "day"  # of a workspace, by UTC
    TOTAL = "total"  # of a workspace
    CALL = "call"  # what an agent of another machine called for: what it left of its limits; nobody's own


BEGINNING = frozenset({Metric.TURNS, Metric.MESSAGES})  # counted when a turn begins, exactly one; they stop no turn that runs


@dataclass(frozen=True, slots=True)
class Scope:
    """`name`: of a turn, a conversation or a workspace; `window`: the day, YYYY-MM-DD, else empty."""

    per: Per
    name: str
    window: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a turn runs. `turn` is unique on this host; `day` by UTC."""

    turn: str
    conversation: str
    workspace: str
    day: str

    def scope(self, per: Per) -> Scope:
        match per:
            case Per.TURN | Per.CALL:
                return Scope(Per.TURN, self.turn)
            case Per.CONVERSATION:
                return Scope(per, self.conversation)
            case Per.DAY:
                return Scope(per, self.workspace, self.day)
            case Per.TOTAL:
                return Scope(per, self.workspace)


@dataclass(frozen=True, slots=True)
class Limit:
    """`most` of a metric in a scope, what a person added to it included; `origin`: file:line; `fixed`: no person may raise it."""

    scope: Scope
    metric: Metric
    most: int
    origin: str = ""
    fixed: bool = False

    @property
    def key(self) -> Key:
        return self.scope, self.metric


Key = tuple[Scope, Metric]


@dataclass(frozen=True, slots=True)
class Line:
    """What was used of a metric in a scope, and what the turns that run have reserved of it."""

    used: int = 0
    held: Mapping[str, int] = field(default_factory=dict)  # turn -> amount

    def reserved(self, kin: Collection[str] = ()) -> int:
        """By turns other than `kin`: what a caller reserved is there for those that it calls."""
        return sum(amount for turn, amount in self.held.items() if turn not in kin)


NOTHING = Line()
Lines = Mapping[Key, Line]


class Answer(enum.Enum):
    OPEN = "open"
    BUSY = "busy"  # what is left is reserved: it depends on what those turns use
    SPENT = "spent"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a turn does not begin."""

    limit: Limit
    used: int
    answer: Answer


def refusal(limits: Iterable[Limit], lines: Lines, kin: Collection[str] = ()) -> Refusal | None:
    """The limit that keeps a turn from beginning, one that is used up before one that is only reserved; None: it may begin.

    `kin`: the turns that called it. Waiting for what they reserved would be waiting for ever; what counts when a turn begins they
    have used.
    """
    busy = None
    for limit in limits:
        line = lines.get(limit.key, NOTHING)
        begun = sum(line.held.get(turn, 0) for turn in kin) if limit.metric in BEGINNING else 0
        used = line.used + begun
        if used >= limit.most:
            return Refusal(limit, used, Answer.SPENT)
        if used + line.reserved(kin) >= limit.most:
            busy = busy or Refusal(limit, used, Answer.BUSY)
    return busy


def estimate(metric: Metric, most: int, past: Sequence[int]) -> int:
    """What a turn will use: the 95th percentile of past turns (nearest rank), a tenth of the limit where few are known."""
    if metric in BEGINNING:
        return 1
    if len(past) < KNOWN:
        return max(1, -(-most // 10))
    ordered = sorted(past)
    return max(1, ordered[math.ceil(0.95 * len(ordered)) - 1])


def reserve(lines: Lines, turn: str, amounts: Mapping[Key, int]) -> dict[Key, Line]:
    """The lines that change when a turn reserves."""
    found = {key: lines.get(key, NOTHING) for key in amounts}
    return {key: replace(line, held={**line.held, turn: amounts[key]}) for key, line in found.items()}


def settle(lines: Lines, turn: str, used: Mapping[Key, int]) -> dict[Key, Line]:
    """The lines that change when a turn has ended: what it used is added everywhere, what it reserved is free."""
    keys = {*used, *(key for key, line in lines.items() if turn in line.held)}
    changed = {}
    for key in keys:
        line = lines.get(key, NOTHING)
        held = {other: amount for other, amount in line.held.items() if other != turn}
        changed[key] = Line(line.used + max(0, used.get(key, 0)), held)
    return changed


def over(limits: Iterable[Limit], lines: Lines, live: Mapping[Key, int]) -> Refusal | None:
    """The limit that turns which run have gone beyond. `live`: what they all have used so far, the one that asks included."""
    for limit in limits:
        used = lines.get(limit.key, NOTHING).used + live.get(limit.key, 0)
        if limit.metric not in BEGINNING and used > limit.most:
            return Refusal(limit, used, Answer.SPENT)
    return None


def nearly(limit: Limit, before: int, now: int) -> bool:
    """Whether this is the moment to say that most of it is used."""
    mark = limit.most * NOTICE
    return limit.most > 0 and before * 100 < mark <= now * 100


def left(limits: Iterable[Limit], lines: Lines, metric: Metric) -> int | None:
    """The least of what the limits leave; None where nothing limits it."""
    found = [
        limit.most - (line := lines.get(limit.key, NOTHING)).used - line.reserved() for limit in limits if limit.metric is metric
    ]
    return max(0, min(found)) if found else None


def raised_by(limit: Limit, used: int, parts: int) -> int:
    """What is added so that `1/parts` of the limit as it is can be used again, whatever was used beyond it."""
    return max(0, used - limit.most) + max(1, -(-limit.most // parts))


# ---- words ---------------------------------------------------------------------------------------------------------------

_UNITS = {Metric.TOKENS: "tokens", Metric.TURNS: "turns", Metric.TOOL_CALLS: "tool calls", Metric.MESSAGES: "messages"}


def said(metric: Metric, amount: int, currency: str = "") -> str:
    """`1,200 tokens`, `2.5 USD`, `90 s`."""
    match metric:
        case Metric.COST:
            return f"{number(metric, amount)} {currency}".strip()
        case Metric.WALL:
            return f"{number(metric, amount)} s"
    return f"{amount:,} {_UNITS[metric]}"


def number(metric: Metric, amount: int) -> str:
    """Without its unit: costs in their currency, times in seconds."""
    if metric in (Metric.COST, Metric.WALL):
        divisor = MILLIONTHS if metric is Metric.COST else 1000
        return f"{amount / divisor:.6f}".rstrip("0").rstrip(".")
    return str(amount)


def window(scope: Scope) -> str:
    return {
        Per.TURN: "in this turn",
        Per.CONVERSATION: "in this conversation",
        Per.CALL: "for this call",
        Per.DAY: f"on {scope.window} (UTC)",
    }.get(scope.per, "in this directory")
