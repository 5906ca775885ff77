"""`python -m tests.again`, after a whole run: the few tests that failed once more, alone; who fails then has failed.

Some 9,000 tests with real processes share a machine that may stall. A test that fails beside others and passes alone, every time,
is unsteady: it is named loudly and has to be mended, but says nothing against the change at hand.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

FAILED = Path(".pytest_cache/v/cache/lastfailed")
MOST = 5  # more are no accident
TIMES = 3


def main(failed: Path = FAILED) -> int:
    """0 where every failed test passed each time."""
    try:
        names = sorted(json.loads(failed.read_text()))
    except (OSError, ValueError):
        names = []
    if not 0 < len(names) <= MOST or not all("::" in name for name in names):
        return 1
    for number in range(TIMES):
        print(f"\nagain, alone, {number + 1} of {TIMES}: {' '.join(names)}", flush=True)
        if subprocess.run([sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *names], check=False).returncode:
            return 1
    print("\nunsteady, to be mended: they failed beside others, and passed alone:", *names, sep="\n  ")
    return 0


if __name__ == "__main__":
    sys.exit(main())
