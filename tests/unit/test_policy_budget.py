"""The arithmetic of budgets, and what one turn is taken to have used."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opagent.policy import budget
from opagent.policy.budget import Answer, Key, Limit, Line, Metric, Per, Place, Scope
from opagent.policy.usage import MOST, Counts, Meter, Stopwatch, true_amount

DAY = "2026-11-29"
HERE = Place("c/a1", "c", "/w", DAY)


def limit(most: int, per: Per = Per.DAY, metric: Metric = Metric.TOKENS) -> Limit:
    return Limit(HERE.scope(per), metric, most)


@pytest.mark.parametrize(
    ("most", "past", "expected"),
    [
        (1000, [], 100),
        (1000, [7, 7, 7, 7], 100),  # too few are known
        (1000, [7] * 19 + [500], 7),
        (1000, [7] * 18 + [500, 500], 500),
        (1, [], 1),
        (0, [0] * 9, 1),
    ],
)
def test_what_a_turn_is_expected_to_use(most: int, past: list[int], expected: int) -> None:
    assert budget.estimate(Metric.TOKENS, most, past) == expected
    assert budget.estimate(Metric.TURNS, most, past) == 1


def test_a_day_and_a_directory_are_scopes_of_their_own() -> None:
    assert HERE.scope(Per.DAY) == Scope(Per.DAY, "/w", DAY) != Place("c/a2", "d", "/w", "2026-11-30").scope(Per.DAY)
    assert HERE.scope(Per.TOTAL) == Place("d/a2", "d", "/w", "2027-01-01").scope(Per.TOTAL)
    assert HERE.scope(Per.CONVERSATION).name == "c" and HERE.scope(Per.TURN).name == "c/a1"


def test_used_up_comes_before_reserved_and_kin_does_not_wait_for_itself() -> None:
    day, total = limit(10), limit(5, Per.TOTAL)
    lines = {day.key: Line(4, {"caller": 6}), total.key: Line(5)}
    assert budget.refusal([day], lines) == budget.Refusal(day, 4, Answer.BUSY)
    assert budget.refusal([day], lines, kin={"caller"}) is None
    assert budget.refusal([day, total], lines) == budget.Refusal(total, 5, Answer.SPENT)
    assert budget.refusal([limit(0)], {}) == budget.Refusal(limit(0), 0, Answer.SPENT)


def test_the_notice_comes_once_when_eighty_per_cent_are_crossed() -> None:
    ten = limit(10)
    assert [budget.nearly(ten, before, now) for before, now in ((0, 7), (7, 8), (8, 9), (0, 12))] == [False, True, False, True]
    assert not budget.nearly(limit(0), 0, 5)


def test_words() -> None:
    assert budget.said(Metric.COST, 2_500_000, "USD") == "2.5 USD" and budget.said(Metric.WALL, 90_000) == "90 s"
    assert budget.said(Metric.TOKENS, 1_200) == "1,200 tokens" and budget.said(Metric.TOOL_CALLS, 3) == "3 tool calls"
    assert budget.raised_by(limit(100), 130, 4) == 55 and budget.raised_by(limit(0), 0, 4) == 1


# ---- properties ----------------------------------------------------------------------------------------------------------


@dataclass
class Host:
    """Turns that begin, report and end in any order; the rules of `daemon/spending.py` without the daemon."""

    limits: list[Limit]
    lines: dict[Key, Line] = field(default_factory=dict)
    live: dict[str, int] = field(default_factory=dict)
    reserved: dict[str, int] = field(default_factory=dict)

    def begin(self, turn: str, past: list[int]) -> bool:
        if budget.refusal(self.limits, self.lines) is not None:
            return False
        amounts = {each.key: budget.estimate(each.metric, each.most, past) for each in self.limits}
        self.lines |= budget.reserve(self.lines, turn, amounts)
        self.live[turn], self.reserved[turn] = 0, min(amounts.values())
        return True

    def step(self, turn: str, more: int) -> bool:
        """Whether the turn is stopped by it."""
        self.live[turn] += more
        used = sum(self.live.values())
        return budget.over(self.limits, self.lines, {each.key: used for each in self.limits}) is not None

    def end(self, turn: str) -> None:
        used = self.live.pop(turn)
        self.lines |= budget.settle(self.lines, turn, {each.key: used for each in self.limits})

    def used(self, which: Limit) -> int:
        return self.lines.get(which.key, budget.NOTHING).used


@given(st.integers(1, 200), st.integers(1, 12), st.data())
def test_concurrent_turns_go_over_by_one_turn_at_most(most: int, many: int, data: st.DataObject) -> None:
    """Each uses no more than was reserved for it, or is told live: then what they use beyond the limit is less than one turn."""
    host = Host([limit(most), limit(2 * most, Per.TOTAL)])
    largest = max(1, most // 10)
    running: list[str] = []
    used: dict[str, int] = {}
    names = (f"t{number}" for number in itertools.count())
    for _ in range(data.draw(st.integers(0, 80))):
        if len(running) < many and data.draw(st.booleans()):
            name = next(names)
            if host.begin(name, []):
                running.append(name)
                used[name] = data.draw(st.integers(0, largest))
        elif running:
            name = running.pop(data.draw(st.integers(0, len(running) - 1)))
            host.step(name, used[name])
            host.end(name)
    for name in running:
        host.step(name, used[name])
        host.end(name)
    assert host.used(host.limits[0]) < most + largest
    assert all(line.used >= 0 and not line.held for line in host.lines.values())


@given(st.integers(1, 100), st.lists(st.integers(1, 30), min_size=1, max_size=8))
def test_turns_that_use_more_than_was_reserved_are_stopped_by_what_they_tell(most: int, steps: list[int]) -> None:
    """Each tells what it used step by step, in turn, far more than was reserved; all that run are stopped at the limit."""
    host = Host([limit(most)])
    running = [f"t{number}" for number in range(len(steps)) if host.begin(f"t{number}", [])]
    sizes = dict(zip(running, steps, strict=False))
    stopped = not running
    while not stopped:
        for turn in running:
            if host.step(turn, sizes[turn]):
                stopped = True
                break
    for turn in running:
        host.end(turn)
    assert most < host.used(host.limits[0]) <= most + max(sizes.values())
    assert not host.begin("next", [])


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(-5, 60)), max_size=12), st.randoms(use_true_random=False))
def test_the_order_of_settling_does_not_matter_and_nothing_is_negative(turns: list[tuple[int, int]], random: object) -> None:
    keys = [limit(100).key, limit(100, Per.TOTAL).key]
    begun: dict[Key, Line] = {}
    for number, (reserved, _) in enumerate(turns):
        begun |= budget.reserve(begun, f"t{number}", dict.fromkeys(keys, reserved))
    ends = [(f"t{number}", used) for number, (_, used) in enumerate(turns)]
    found = []
    for order in (ends, list(reversed(ends)), random.sample(ends, len(ends))):  # type: ignore[attr-defined]
        lines = dict(begun)
        for name, used in order:
            lines |= budget.settle(lines, name, dict.fromkeys(keys, used))
        found.append(lines)
    assert found[0] == found[1] == found[2]
    assert all(line.used == sum(max(0, used) for _, used in turns) and not line.held for line in found[0].values())


@given(st.integers(1, 50), st.lists(st.integers(0, 8), min_size=1, max_size=10))
def test_what_a_callee_uses_counts_at_every_caller(most: int, used: list[int]) -> None:
    """A chain: the caller's limit is smaller than the callee's. The least of what is left decides."""
    callers, own = limit(most, Per.CONVERSATION), Limit(Scope(Per.TOTAL, "/other"), Metric.TOKENS, 10 * most)
    chain = [own, callers]
    lines = budget.reserve({}, "caller", {callers.key: most})
    for number, amount_ in enumerate(used):
        if budget.refusal(chain, lines, kin={"caller"}) is not None:
            break
        name = f"callee{number}"
        lines |= budget.reserve(lines, name, {each.key: 1 for each in chain})
        lines |= budget.settle(lines, name, {each.key: amount_ for each in chain})
    total = lines.get(own.key, budget.NOTHING).used
    assert total == lines[callers.key].used < most + 8
    assert budget.left(chain, lines, Metric.TOKENS) == 0, "the caller has reserved all of it"
    assert budget.left([own], lines, Metric.TOKENS) == 10 * most - total
    assert budget.left(chain, lines, Metric.COST) is None


# ---- what a turn used ----------------------------------------------------------------------------------------------------

_ANY = st.one_of(
    st.integers(),
    st.floats(),
    st.none(),
    st.booleans(),
    st.text(max_size=3),
    st.sampled_from([-1, math.nan, math.inf, 1e18, 10**18]),
)


@given(st.lists(_ANY, max_size=8), st.sampled_from(list(Counts)))
def test_no_report_makes_a_turn_negative_or_absurd(values: list[object], counts: Counts) -> None:
    meter = Meter(counts)
    for value in values:
        meter.cost(value, "USD")
        meter.tokens("input", value)
        meter.metered("output", value)
    for metric in (Metric.TOKENS, Metric.COST):
        used = meter.used(metric)
        assert used is None or 0 <= used <= 10 * MOST[metric]
    if any(true_amount(value, Metric.TOKENS) is None for value in values):
        assert "impossible" in meter.doubts


def test_a_cost_is_the_sum_of_the_session_and_never_goes_back() -> None:
    meter = Meter(earlier={"cost": 1_000_000})
    for said in (1.25, 1.1, 1.5):
        meter.cost(said, "USD")
    assert meter.used(Metric.COST) == 500_000 and meter.doubts == {"backwards"} and meter.found_currency == "USD"


def test_a_process_that_begins_to_count_anew_is_believed() -> None:
    meter = Meter(earlier={"cost": 1_000_000})
    meter.cost(0.2, "USD")
    meter.cost(0.3, "USD")
    assert meter.used(Metric.COST) == 300_000 and not meter.doubts


def test_tokens_of_an_answer_are_those_of_the_turn_or_of_the_session() -> None:
    meter = Meter()
    meter.tokens("input", 100)
    meter.tokens("output", 20)
    assert meter.used(Metric.TOKENS) == 120
    meter = Meter(Counts.SESSION, earlier={"input": 60})
    meter.tokens("input", 100)
    assert meter.used(Metric.TOKENS) == 40


def test_reported_and_metered_are_kept_apart_and_the_greater_counts() -> None:
    meter = Meter()
    meter.tokens("input", 100)
    for part in (70, 50):
        meter.metered("input", part)
    assert (meter.reported(Metric.TOKENS), meter.seen(Metric.TOKENS), meter.used(Metric.TOKENS)) == (100, 120, 120)


def test_unknown_is_not_nothing_and_another_currency_is_unknown() -> None:
    meter = Meter(currency="USD")
    meter.cost(3, "EUR")
    assert meter.used(Metric.COST) is None and meter.used(Metric.TOKENS) is None and meter.doubts == {"another currency"}
    meter.called("x")
    meter.called("x")
    assert meter.used(Metric.TOOL_CALLS) == 1


def test_the_watch_stands_still() -> None:
    watch = Stopwatch(10.0)
    watch.stop(12.0)
    watch.stop(13.0)
    assert watch.elapsed(50.0) == 2000
    watch.go_on(50.0)
    watch.go_on(51.0)
    assert watch.elapsed(51.5) == 3500
