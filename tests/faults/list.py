"""The faults of security.md as values: read from `faults.yaml` beside it, with the kill matrix as one row per victim. Runs nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

from tests.faults import matrix

ROOT = Path(__file__).resolve().parents[2]
HERE, THERE = (
    "tests/faults/test_matrix.py::test_a_kill_at_a_step",
    "tests/faults/test_matrix_there.py::test_a_kill_at_a_step_there",
)
TOOLS = "tests/faults/test_matrix_tools.py::test_a_kill_of_a_tool_server_at_a_step"
OF_VICTIM = {
    "agent": HERE, "daemon": HERE, "client": HERE, "proxy": HERE, "remote daemon": THERE, "SSH link": THERE, "MCP server": TOOLS,
}  # fmt: skip

PROBE = "tests/safety/probes/test_probes.py::test_strict_refuses[{}-{}]"
USERS = ("root", "user")  # a machine may have the one or both


@dataclass(frozen=True, slots=True)
class Fault:
    """One row. `tests`: node ids, of a file or of a function with all its cases; `case`: only those whose id ends like this."""

    id: str
    fault: str
    by: str
    expect: str
    holds: tuple[str, ...]
    tests: tuple[str, ...]
    lacks: str = ""
    not_run: str = ""
    case: str = ""


def _read() -> tuple[Fault, ...]:
    said = yaml.safe_load(Path(__file__).with_name("faults.yaml").read_text())
    return tuple(
        Fault(
            name, row["fault"], row["by"], row["expect"], tuple(row.get("holds", "").split()),
            (*row.get("tests", ()), *(PROBE.format(user, probe) for probe in row.get("probes", "").split() for user in USERS)),
            row.get("lacks", ""), row.get("not_run", ""),
        )
        for name, row in said.items()
    )  # fmt: skip


def _of_victim(victim: str) -> Fault:
    """The 17 steps with one victim."""
    return Fault(
        f"K {victim}", f"{victim} is killed at each of the {len(matrix.STEPS)} steps of a turn", "a daemon that stops at the step",
        matrix.EXPECTED[victim], ("I1", "I2", "I3", "I5", "I6", "I10", "I11"), (OF_VICTIM[victim],), case=f"-{victim}]",
    )  # fmt: skip


FAULTS = (*(_of_victim(victim) for victim in matrix.VICTIMS), *_read())
