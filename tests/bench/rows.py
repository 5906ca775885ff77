"""What was measured as rows: a value, what it is compared with, the target, met or not; measures nothing itself but turns."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

_HEAD = ("NAME", "COMPARED WITH", "MEDIAN", "BASE", "RATIO", "TARGET", "")


@dataclass(frozen=True, slots=True)
class Target:
    """`bound` of the ratio, or of the value itself (`unit` given); at least or at most."""

    bound: float
    unit: str = "x"
    least: bool = False

    def met(self, value: float, ratio: float) -> bool:
        measured = ratio if self.unit == "x" else value
        return measured >= self.bound if self.least else measured <= self.bound

    def __str__(self) -> str:
        return f"{'>=' if self.least else '<='} {_number(self.bound)} {self.unit}"


@dataclass(frozen=True, slots=True)
class Row:
    """`value` and `base` in `unit`, both 0 where it was not run; `note` is what a reader should know beside the numbers."""

    name: str
    against: str
    value: float
    base: float
    unit: str
    target: Target | None = None
    note: str = ""

    @property
    def ratio(self) -> float:
        return self.value / self.base if self.base else float("nan")

    @property
    def met(self) -> bool | None:
        return None if self.target is None else self.target.met(self.value, self.ratio)

    def as_json(self) -> dict[str, Any]:
        target = str(self.target) if self.target else None
        return {**asdict(self), "target": target, "ratio": self.ratio if self.base else None, "met": self.met}

    def _said(self, value: float) -> str:
        return f"{_number(value)} {self.unit}" if self.base else "-"

    def cells(self) -> tuple[str, ...]:
        verdict = {None: "", True: "met", False: "NOT MET"}[self.met]
        return (
            self.name, self.against, self._said(self.value), self._said(self.base),
            f"{self.ratio:.2f} x" if self.base else "-", str(self.target) if self.target else "-", f"{verdict}  {self.note}".rstrip(),
        )  # fmt: skip


def interleaved(times: int, *measures: Callable[[], float]) -> list[list[float]]:
    """Each measure `times` times in turn, A B A B, so that what else runs hits all of them; a round before is dropped.

    For a single time there is none: that is to see that everything works.
    """
    rounds = [[measure() for measure in measures] for _ in range(times + (times > 1))][-times:]
    return [list(column) for column in zip(*rounds, strict=True)]


def compared(
    name: str, against: str, unit: str, pair: Sequence[Sequence[float]], target: Target | None = None, note: str = ""
) -> Row:
    """A row of the medians of two interleaved series."""
    return Row(name, against, statistics.median(pair[0]), statistics.median(pair[1]), unit, target, note)


def table(rows: Iterable[Row]) -> str:
    """The rows under one head, in columns."""
    cells = [_HEAD, *(row.cells() for row in rows)]
    widths = [max(len(line[place]) for line in cells) for place in range(len(_HEAD))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.1f}" if value >= 10 else f"{value:.3g}"
