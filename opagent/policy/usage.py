"""What one turn used, from what its agent reports and what the proxy reads; believes no number that cannot be true. Pure.

Reported and metered are kept apart; the greater of the two is what counts. A number that goes backwards counts as the greatest
seen, one that is negative, no number or beyond all reason as none; both are marked. Where none came, the caller decides: unknown
is not nothing.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any

from opagent.policy.budget import MILLIONTHS, Metric

MOST = {Metric.TOKENS: 10**12, Metric.COST: 10**6 * MILLIONTHS}  # in one turn; more is a mistake


class Counts(enum.StrEnum):
    """What the numbers of an answer are about (`quirks.usage` of runtime.yaml)."""

    TURN = "turn"
    SESSION = "session"  # everything since the session began
    LAST_CALL = "last_call"  # the last request to the model: less than the turn


def true_amount(value: Any, metric: Metric) -> int | None:
    """A number as reported, as a whole amount; None for what cannot be true."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MOST[metric]:  # nor is it a NaN
        return None
    whole = round(value * MILLIONTHS) if metric is Metric.COST else int(value)
    return whole if whole <= MOST[metric] else None


@dataclass(slots=True)
class Meter:
    """One turn. `earlier`: what its session had reported before, by "input", "output" and "cost"."""

    counts: Counts = Counts.TURN
    currency: str = ""  # the budget's; a cost in another one cannot be compared
    earlier: dict[str, int] = field(default_factory=dict)
    doubts: set[str] = field(default_factory=set)  # why numbers were not taken as they came
    calls: set[str] = field(default_factory=set)
    passed: int = 0  # calls of tools that went through us: an agent may report them too, or not
    found_currency: str = ""
    _reported: dict[str, int] = field(default_factory=dict)  # "input", "output", "cost" -> of this turn
    _metered: dict[str, int] = field(default_factory=dict)

    def called(self, ident: str) -> None:
        """A tool call was begun, or goes on."""
        self.calls.add(ident)

    def cost(self, value: Any, currency: str) -> None:
        """The cost of the session so far (`usage_update`)."""
        if self.currency and currency != self.currency:
            self.doubts.add("another currency")
            return
        self.found_currency = currency
        self._cumulative("cost", value, Metric.COST)

    def tokens(self, name: str, value: Any) -> None:
        """`input` or `output` of the answer to the prompt."""
        if self.counts is Counts.SESSION:
            self._cumulative(name, value, Metric.TOKENS)
        elif (found := self._true(value, Metric.TOKENS)) is not None:
            self._reported[name] = found

    def metered(self, name: str, value: Any) -> None:
        """`input`, `output` or `cost` of one response that the proxy read."""
        metric = Metric.COST if name == "cost" else Metric.TOKENS
        if (found := self._true(value, metric)) is not None:
            self._metered[name] = self._metered.get(name, 0) + found

    def reported_by(self, name: str) -> int | None:
        return self._reported.get(name)

    def seen_by(self, name: str) -> int | None:
        return self._metered.get(name)

    def reported(self, metric: Metric) -> int | None:
        return _sum(self._reported, metric)

    def seen(self, metric: Metric) -> int | None:
        """What the proxy saw."""
        return _sum(self._metered, metric)

    def used(self, metric: Metric) -> int | None:
        """What counts; None where nobody said anything."""
        if metric is Metric.TOOL_CALLS:
            return max(len(self.calls), self.passed)
        known = [each for each in (self.reported(metric), self.seen(metric)) if each is not None]
        return max(known) if known else None

    def _cumulative(self, name: str, value: Any, metric: Metric) -> None:
        found = self._true(value, metric)
        if found is None:
            return
        before = self.earlier.get(name, 0)
        if found < before and name not in self._reported:
            before = self.earlier[name] = 0  # a process that began to count anew
        now, last = found - before, self._reported.get(name, 0)
        if now < last:
            self.doubts.add("backwards")
        self._reported[name] = max(now, last)

    def _true(self, value: Any, metric: Metric) -> int | None:
        found = true_amount(value, metric)
        if found is None:
            self.doubts.add("impossible")
        return found


def _sum(said: dict[str, int], metric: Metric) -> int | None:
    names = ("cost",) if metric is Metric.COST else ("input", "output")
    known = [said[name] for name in names if name in said]
    return sum(known) if known else None


@dataclass(slots=True)
class Stopwatch:
    """Milliseconds that went by, without those in which it stood still. Seconds of a monotonic clock are given to it."""

    begun: float
    _before: float = 0.0
    _stands: bool = False

    def stop(self, now: float) -> None:
        if not self._stands:
            self._before, self._stands = self._before + max(0.0, now - self.begun), True

    def go_on(self, now: float) -> None:
        if self._stands:
            self.begun, self._stands = now, False

    def elapsed(self, now: float) -> int:
        return round(1000 * (self._before + (0.0 if self._stands else max(0.0, now - self.begun))))
