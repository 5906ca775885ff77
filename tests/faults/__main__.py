"""`scripts/test faults [ID...] [--json] [--long] [-n N]`: runs the tests of the fault list and prints what became of each fault.

The progress of the tests is talk (stderr), the table is data (stdout). Exit 1 when a fault was not survived.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable

import pytest

from tests.faults.list import FAULTS, ROOT, Fault
from tests.faults.summary import Summary, table


def nodes(faults: Iterable[Fault]) -> list[str]:
    """The tests of these faults, each once, file by file."""
    found = sorted({test for fault in faults for test in fault.tests})
    files = {test for test in found if "::" not in test}
    return [test for test in found if test in files or test.partition("::")[0] not in files]


def run(tests: list[str], summary: Summary, words: list[str]) -> int:
    """pytest, with all that it prints on stderr."""
    kept = os.dup(1)
    sys.stdout.flush()
    os.dup2(2, 1)
    try:
        return int(pytest.main([*words, *tests], plugins=[summary]))
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/test faults", description="run the fault list and say what was survived")
    parser.add_argument("ids", nargs="*", metavar="ID", help="of faults.yaml, or the beginning of one; none: all")
    parser.add_argument("--json", action="store_true", help="the table as JSON")
    parser.add_argument("--long", action="store_true", help="ten times as many random kills: about 1,000")
    parser.add_argument("-n", default="2", help="processes (2)")
    said = parser.parse_args()
    faults = [
        fault for fault in FAULTS if not said.ids or any(fault.id == one or fault.id.startswith(f"{one} ") for one in said.ids)
    ]
    if not faults:
        parser.error("no such fault: " + " ".join(said.ids))
    os.chdir(ROOT)
    summary, tests = Summary(), nodes(faults)
    words = ["-n", said.n, "--dist", "loadfile" if said.n != "0" else "no", *(["--long"] if said.long else [])]
    status = run(tests, summary, words) if tests else 0
    outcomes = summary.outcomes(faults)
    if said.json:
        print(json.dumps({"schema": "opagent.faults/1", "faults": [each.as_json() for each in outcomes]}, indent=1))
    else:
        print(table(outcomes))
    return 1 if status not in (0, 5) or any(each.result == "failed" for each in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
