"""The fault list and the tests agree: every id of the design is there, with tests that exist or a reason; no test is left out."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

from tests.faults import matrix
from tests.faults.__main__ import nodes
from tests.faults.list import FAULTS, ROOT, Fault
from tests.faults.summary import Summary, table

COUNTS = {"D": 13, "C": 4, "R": 14, "P": 15, "F": 12, "B": 11, "S": 11, "N": 4, "G": 4}  # security.md, "The list: 88 faults"


@cache
def functions(file: str) -> frozenset[str]:
    tree = ast.parse((ROOT / file).read_text())
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"))


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.id)
def test_a_fault_has_tests_or_a_reason(fault: Fault) -> None:
    assert bool(fault.tests) is not bool(fault.not_run)
    assert fault.fault and fault.by and fault.expect
    assert set(fault.holds) <= {f"I{number}" for number in range(1, 14)}
    for test in fault.tests:
        file, _, name = test.partition("::")
        assert name in functions(file) if name else functions(file), test


def test_every_fault_of_the_design_is_listed() -> None:
    wanted = {f"{letter}{number}" for letter, count in COUNTS.items() for number in range(1, count + 1)}
    listed = [fault.id for fault in FAULTS]
    assert len(wanted) == 88 and wanted <= set(listed) and len(listed) == len(set(listed))


def test_every_test_beside_the_list_is_in_it() -> None:
    listed = {test for fault in FAULTS for test in fault.tests}
    for path in Path(__file__).parent.glob("test_*.py"):
        file = str(path.relative_to(ROOT))
        if path.name != Path(__file__).name and file not in listed:
            assert not [name for name in functions(file) if f"{file}::{name}" not in listed], file


def test_the_matrix_is_that_of_the_design() -> None:
    assert len(matrix.STEPS) * len(matrix.VICTIMS) == 119
    assert matrix.state("K6", "agent") == matrix.state("K6", "daemon") == ("done",)
    assert matrix.state("K7", "agent") == matrix.state("K7", "remote daemon") == ("interrupted",)


def test_what_is_skipped_is_not_run_and_what_fails_is_not_survived() -> None:
    one, two, three = (Fault(name, name, "", "", (), (f"t.py::test_{name}",)) for name in ("one", "two", "three"))
    four = Fault("four", "four", "", "", (), (), not_run="there is no such thing")
    summary = Summary({"t.py::test_one[a]", "t.py::test_three[a]", "t.py::test_three[b]"}, {"t.py::test_three[b]"})
    summary.skipped |= {"t.py::test_one[b]": "no compiler", "t.py::test_two": "no compiler"}
    found = summary.outcomes((one, two, three, four))
    assert [each.result for each in found] == ["survived", "not run", "failed", "not run"]
    assert [(each.passed, each.skipped) for each in found] == [(1, 1), (0, 1), (1, 0), (0, 0)]
    shown = table(found)
    assert shown.endswith("faults survived 1 / run 2 / not run 2") and "no compiler" in shown and "no such thing" in shown
    assert "failed: t.py::test_three[b]" in shown


def test_a_file_is_not_run_twice() -> None:
    faults = [Fault("a", "", "", "", (), ("t.py::test_x", "t.py")), Fault("b", "", "", "", (), ("u.py::test_y",))]
    assert nodes(faults) == ["t.py", "u.py::test_y"]
