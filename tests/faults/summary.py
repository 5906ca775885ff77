"""What became of each fault in a run of the tests: a plugin for pytest, and the table that is printed at the end.

A fault survives when every case of it that ran passed and at least one did. What was skipped is counted as not run, with the
reason; a fault of which nothing ran was not run, whatever else passed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.faults.list import Fault

WIDTH = 100


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one fault: `result` is survived, failed or not run."""

    fault: Fault
    result: str
    passed: int
    failed: tuple[str, ...]
    skipped: int
    why: str

    def as_json(self) -> dict[str, Any]:
        said = {"id": self.fault.id, "fault": self.fault.fault, "result": self.result, "passed": self.passed}
        return said | {"failed": list(self.failed), "not_run": self.skipped, "why": self.why, "lacks": self.fault.lacks}


@dataclass(slots=True)
class Summary:
    """The plugin: keeps how each test ended."""

    passed: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)
    skipped: dict[str, str] = field(default_factory=dict)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed.add(report.nodeid)
        elif report.skipped:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
            self.skipped[report.nodeid] = reason.removeprefix("Skipped: ")
        elif report.when == "call":
            self.passed.add(report.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.failed.add(report.nodeid)

    def outcomes(self, faults: Iterable[Fault]) -> list[Outcome]:
        return [self._outcome(fault) for fault in faults]

    def _outcome(self, fault: Fault) -> Outcome:
        failed = tuple(sorted(node for node in self.failed if _belongs(node, fault)))
        passed = sum(_belongs(node, fault) for node in self.passed - self.failed)
        reasons = [why for node, why in self.skipped.items() if _belongs(node, fault)]
        result = "failed" if failed else "survived" if passed else "not run"
        why = fault.not_run or "; ".join(dict.fromkeys(reasons)) or ("" if passed or failed else "no case of it was run")
        return Outcome(fault, result, passed, failed, len(reasons), why)


def _belongs(node: str, fault: Fault) -> bool:
    mine = any(node == test or node.startswith((f"{test}[", f"{test}::")) or test.startswith(f"{node}::") for test in fault.tests)
    return mine and ("[" not in node or node.endswith(fault.case))


def table(outcomes: Sequence[Outcome]) -> str:
    """For a person: one line a fault; reasons and gaps behind it."""
    wide = max(len(each.fault.id) for each in outcomes)
    lines = []
    for each in outcomes:
        cases = f"{each.passed}" + (f" of {each.passed + each.skipped}" if each.skipped else "")
        note = each.why or (f"not tested: {each.fault.lacks}" if each.fault.lacks else "")
        shown = f"{each.fault.id:{wide}}  {each.result:8}  {cases:>9}  {each.fault.fault}"
        lines.append(f"{shown}\n{'':{wide + 23}}{note}" if note else shown)
        lines += [f"{'':{wide + 23}}failed: {node}" for node in each.failed]
    count = {result: sum(each.result == result for each in outcomes) for result in ("survived", "failed", "not run")}
    ran = count["survived"] + count["failed"]
    head = f"{'ID':{wide}}  {'RESULT':8}  {'CASES':>9}  FAULT"
    return "\n".join([head, *lines, "", f"faults survived {count['survived']} / run {ran} / not run {count['not run']}"])
