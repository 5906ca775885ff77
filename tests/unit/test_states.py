"""The table of moves and the restart rule."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opagent.errors import Bug
from opagent.model import ExitReport, ProcessState
from opagent.process.states import (
    HEALTHY,
    JITTER,
    LONGEST_DELAY,
    LOOP_STARTS,
    LOOP_WINDOW,
    MOVES,
    GiveUp,
    Happening,
    Policy,
    Restart,
    Stay,
    after_exit,
    diagram,
    move,
)

CRASH = ExitReport(1, None, "", 2.0, "crashed")
ALIVE = (ProcessState.STARTING, ProcessState.READY, ProcessState.WAITING)
chances = st.floats(0, 1)


def report(reason: str = "crashed", code: int | None = 1, uptime: float = 2.0) -> ExitReport:
    return ExitReport(code, None if code is not None else 9, "", uptime, reason)


@pytest.mark.parametrize("state", ProcessState)
@pytest.mark.parametrize("happening", Happening)
def test_a_move_is_in_the_table_or_a_bug(state: ProcessState, happening: Happening) -> None:
    if happening in MOVES[state]:
        assert move(state, happening) is MOVES[state][happening]
    else:
        with pytest.raises(Bug, match=state.value):
            move(state, happening)


def test_a_usual_life() -> None:
    state = ProcessState.STOPPED
    for happening in (
        Happening.START,
        Happening.REPLIED,
        Happening.ASKED,
        Happening.ANSWERED,
        Happening.RESTARTING,
        Happening.START,
        Happening.STOP,
        Happening.ENDED,
    ):
        state = move(state, happening)
    assert state is ProcessState.STOPPED


@pytest.mark.parametrize("state", [*ALIVE, ProcessState.STOPPING])
def test_whatever_runs_may_end(state: ProcessState) -> None:
    assert move(state, Happening.ENDED) is ProcessState.STOPPED
    assert move(state, Happening.GAVE_UP) is ProcessState.FAILED
    assert move(state, Happening.RESTARTING) is ProcessState.BACKOFF


def test_every_state_is_reached_and_left() -> None:
    reached = {following for moves in MOVES.values() for following in moves.values()}
    assert reached == set(ProcessState) == set(MOVES)
    assert all(MOVES.values())


def test_ready_only_by_a_reply_or_an_answer() -> None:
    ways = {(state, happening) for state, moves in MOVES.items() for happening, to in moves.items() if to is ProcessState.READY}
    assert ways == {(ProcessState.STARTING, Happening.REPLIED), (ProcessState.WAITING, Happening.ANSWERED)}


def test_the_diagram_says_what_the_table_says() -> None:
    head, *lines = diagram().splitlines()
    assert head == "stateDiagram-v2"
    assert len(lines) == 1 + sum(map(len, MOVES.values()))
    assert "    starting --> ready: session answered" in lines
    assert "    failed --> starting: start" in lines


@pytest.mark.parametrize("policy", Policy)
def test_who_was_stopped_stays_stopped(policy: Policy) -> None:
    assert after_exit(report("stopped", 127), (0.0,), 1.0, policy, 0.5) == Stay()


@pytest.mark.parametrize("code", [64, 78, 126, 127])
@pytest.mark.parametrize("policy", Policy)
def test_permanent_exit_codes(code: int, policy: Policy) -> None:
    assert isinstance(after_exit(report(code=code), (0.0,), 1.0, policy, 0.5), GiveUp)


@pytest.mark.parametrize("reason", ["crashed", "killed", "memory", "clean"])
def test_policies(reason: str) -> None:
    code = 0 if reason == "clean" else None
    kinds = {policy: type(after_exit(report(reason, code), (0.0,), 1.0, policy, 0.5)) for policy in Policy}
    assert kinds == {Policy.NEVER: Stay, Policy.ALWAYS: Restart, Policy.ON_FAILURE: Stay if reason == "clean" else Restart}


def test_the_delay_doubles_up_to_a_minute() -> None:
    delays = []
    for count in range(1, 12):
        starts = tuple(200.0 * number for number in range(count))  # too slow for a crash loop
        answer = after_exit(report(uptime=190.0), starts, 200.0 * count, Policy.ON_FAILURE, 0.5)
        assert isinstance(answer, Restart)
        delays.append(answer.delay)
    assert delays == [0.5, 1, 2, 4, 8, 16, 32, 60, 60, 60, 60]


def test_the_fifth_quick_start_is_the_last() -> None:
    history: tuple[float, ...] = ()
    now = 0.0
    for _ in range(LOOP_STARTS - 1):
        history = (*history, now)
        answer = after_exit(CRASH, history, now + 2, Policy.ON_FAILURE, 0.5)
        assert isinstance(answer, Restart)
        now, history = now + 2 + answer.delay, answer.history
    answer = after_exit(CRASH, (*history, now), now + 2, Policy.ON_FAILURE, 0.5)
    assert isinstance(answer, GiveUp)
    assert "crash loop" in answer.reason


def test_ten_healthy_minutes_clear_the_past() -> None:
    history = (0.0, 100.0, 200.0, 300.0, 400.0)
    answer = after_exit(report(uptime=HEALTHY), history, 1000.0, Policy.ON_FAILURE, 0.5)
    assert answer == Restart(0.5, ())


@given(
    st.lists(st.floats(0, 1e6), max_size=40).map(sorted),
    st.floats(0, 1e6),
    chances,
    st.sampled_from(Policy),
    st.sampled_from(["crashed", "killed", "memory", "clean", "stopped"]),
    st.one_of(st.none(), st.integers(0, 255)),
    st.floats(0, 1e6),
)
def test_the_rule_holds_its_bounds(
    starts: list[float], later: float, chance: float, policy: Policy, reason: str, code: int | None, uptime: float
) -> None:
    now = (starts[-1] if starts else 0.0) + later
    answer = after_exit(report(reason, code, uptime), starts, now, policy, chance)
    if isinstance(answer, Restart):
        assert 0.5 * (1 - JITTER) <= answer.delay <= LONGEST_DELAY * (1 + JITTER)
        assert policy is not Policy.NEVER
        assert sum(now - start < LOOP_WINDOW for start in answer.history) < LOOP_STARTS
        assert len(answer.history) < 40


@given(chances, chances)
def test_chance_spreads_by_a_fifth(one: float, other: float) -> None:
    delays = [after_exit(CRASH, (0.0,), 2.0, Policy.ON_FAILURE, chance) for chance in (one, other)]
    assert all(isinstance(answer, Restart) and 0.4 <= answer.delay <= 0.6 for answer in delays)
