"""The page of the fault list: what happens, how it is made, what must come of it, what no test covers. Reads the table only."""

from __future__ import annotations

from docpages.page import heading, page, table
from tests.faults import matrix
from tests.faults.list import FAULTS, Fault

INTRO = """\
What OpAgent is put through before a change of it is taken, and what must come of it. `scripts/test faults` runs the list and
prints for each fault whether it was survived, failed or not run, and why; `scripts/test faults D1 R5` some of it; `--json` for
programs; `--long` ten times as many random kills, and each system call of the daemon failing once. A fault that cannot be made on
a machine (no compiler, no `strace`, not root) is reported as not run, never as survived."""

INVARIANTS = """\
After a fault a checker reads database, files and processes by itself (`tests/doubles/checker.py`):"""

WORDS = {
    "I1": "no acknowledged event is lost",
    "I2": "nothing happens twice: numbers, prompts, turns",
    "I3": "an agent got no prompt that the log does not know",
    "I4": "an effect of unknown outcome is shown as unknown and not repeated",
    "I5": "no process of a dead agent is left",
    "I6": "a question is pending, answered or void; a fault allows nothing",
    "I7": "agents beside it go on working",
    "I8": "a start after a fault costs the end of the log, not all of it",
    "I9": "a secret of the environment stands nowhere in state, log, workspace",
    "I10": "the conversation file parses and shows what the log says",
    "I11": "the chain of the log is whole, or one gap says why",
    "I12": "no file of the home outside the workspace was touched",
    "I13": "whoever waits for a person says so",
}

MATRIX = """\
The daemon stops itself at a step of a turn (`tests/doubles/barrier_daemon.py`), the victim is killed there, the daemon goes on or
the next command starts another. A cell says how the turn ends."""


def listed() -> str:
    steps = [(name, text, *(_cell(name, victim) for victim in matrix.VICTIMS)) for name, text in matrix.STEPS.items()]
    return page(
        "Faults and what must come of them", "tests/faults/faults.yaml", INTRO,
        heading(2, "Invariants"), INVARIANTS, table(("", "invariant"), WORDS.items()),
        heading(2, "Kill matrix"), MATRIX, table(("step", "", *matrix.VICTIMS), steps),
        heading(2, "The list"), table(("", "fault", "made by", "expected", "checked", "not tested"), map(_row, FAULTS)),
    )  # fmt: skip


def _cell(step: str, victim: str) -> str:
    return "not run" if matrix.not_run(step, victim) else " or ".join(matrix.state(step, victim))


def _row(fault: Fault) -> tuple[str, ...]:
    missing = f"not run: {fault.not_run}" if fault.not_run else fault.lacks
    return fault.id, fault.fault, fault.by, fault.expect, " ".join(fault.holds), missing
