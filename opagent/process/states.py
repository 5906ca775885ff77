"""The life of an agent process as a table, and the rule that starts it again after an end; pure: time and chance are passed in.

`move(state, happening)` is the only way from one state to another. `after_exit(...)` says what comes after an end; the daemon
turns its answer into a happening: Restart -> RESTARTING, GiveUp -> GAVE_UP, Stay -> ENDED.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from opagent.errors import Bug
from opagent.model import ExitReport, ProcessState


class Happening(enum.Enum):
    """What moves a process from state to state; the words stand in the diagram of the docs."""

    START = "start"  # by a turn, a person, or the end of a back-off
    REPLIED = "session answered"  # ready is the reply, not the pid
    ASKED = "asks a person"
    ANSWERED = "answered"
    STOP = "stop"  # by a person, idleness, a budget or a deadline
    ENDED = "ended"  # and stays so
    RESTARTING = "ended, again after a delay"
    GAVE_UP = "ended, given up"


_S, _H = ProcessState, Happening
_ENDS = {_H.ENDED: _S.STOPPED, _H.RESTARTING: _S.BACKOFF, _H.GAVE_UP: _S.FAILED}

MOVES: dict[ProcessState, dict[Happening, ProcessState]] = {
    _S.STOPPED: {_H.START: _S.STARTING},
    _S.STARTING: {_H.REPLIED: _S.READY, _H.STOP: _S.STOPPING, **_ENDS},
    _S.READY: {_H.ASKED: _S.WAITING, _H.STOP: _S.STOPPING, **_ENDS},
    _S.WAITING: {_H.ANSWERED: _S.READY, _H.STOP: _S.STOPPING, **_ENDS},
    _S.STOPPING: _ENDS,
    _S.BACKOFF: {_H.START: _S.STARTING, _H.STOP: _S.STOPPED},
    _S.FAILED: {_H.START: _S.STARTING, _H.STOP: _S.STOPPED},
}


def move(state: ProcessState, happening: Happening) -> ProcessState:
    """The next state. Raises Bug when this cannot happen in this state."""
    following = MOVES[state].get(happening)
    if following is None:
        raise Bug(f"a process that is {state.value} cannot move by {happening.name}", hint="opagent doctor")
    return following


def diagram() -> str:
    """The table as a Mermaid state diagram, for the docs."""
    lines = ["stateDiagram-v2", f"    [*] --> {ProcessState.STOPPED.value}"]
    for state, moves in MOVES.items():
        lines += [f"    {state.value} --> {following.value}: {happening.value}" for happening, following in moves.items()]
    return "\n".join(lines) + "\n"


class Policy(enum.StrEnum):
    """`supervise.restart` of a binding."""

    ON_FAILURE = "on-failure"
    NEVER = "never"
    ALWAYS = "always"


@dataclass(frozen=True, slots=True)
class Restart:
    """Start again after `delay` seconds; `history` is what to pass with the next start added."""

    delay: float
    history: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Never by itself again; `reason` is a phrase for people."""

    reason: str


@dataclass(frozen=True, slots=True)
class Stay:
    """It ended as it should, or nobody wants it again by itself; the next turn may start it."""


UNCONFINED = "sandbox"  # the reason of an end before the program ran: the box around it could not be made
FIRST_DELAY, LONGEST_DELAY, JITTER = 0.5, 60.0, 0.2
LOOP_STARTS, LOOP_WINDOW = 5, 600.0  # so many starts in so many seconds are a crash loop
HEALTHY = 600.0  # seconds of life after which earlier failures are forgotten
PERMANENT = {64: "wrong usage", 78: "wrong configuration", 126: "not executable", 127: "not found"}  # sysexits.h, sh
_KEPT = 16  # starts; the delay does not grow any more from the eighth on


def after_exit(
    report: ExitReport, history: Sequence[float], now: float, policy: Policy, chance: float
) -> Restart | GiveUp | Stay:
    """What comes after an end. `history`: monotonic times of the starts since it was last healthy, the one that just ended
    included; `chance`: a random number from 0 to 1, which spreads agents that died together."""
    if report.reason == "stopped" or (report.reason == "clean" and policy is not Policy.ALWAYS):
        return Stay()
    if report.reason == UNCONFINED:
        return GiveUp("its sandbox cannot be made")
    if report.code in PERMANENT:
        return GiveUp(f"exit status {report.code} ({PERMANENT[report.code]}) would come again")
    if policy is Policy.NEVER:
        return Stay()
    kept = tuple(history[-1:] if report.uptime >= HEALTHY else history[-_KEPT:])
    if sum(now - start < LOOP_WINDOW for start in kept) >= LOOP_STARTS:
        return GiveUp(f"crash loop: {LOOP_STARTS} starts in {LOOP_WINDOW / 60:.0f} minutes")
    delay = min(LONGEST_DELAY, FIRST_DELAY * 2 ** max(0, len(kept) - 1))
    return Restart(delay * (1 + JITTER * (2 * chance - 1)), () if report.uptime >= HEALTHY else kept)
