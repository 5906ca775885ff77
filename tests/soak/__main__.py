"""`python -m tests.soak [--minutes M] [--seed N] [--each SECONDS] [--keep DIR]`: soaks with one seed after the other."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from tests.bench.place import Place
from tests.soak.run import soak


def main() -> int:
    """0 where nothing was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1, help="the first one")
    parser.add_argument("--each", type=float, default=60, help="seconds of one conversation")
    parser.add_argument("--keep", type=Path, help="where the home of a failed one is copied to")
    said = parser.parse_args()
    end, seed, failed = time.monotonic() + said.minutes * 60, said.seed, []
    while time.monotonic() < end:
        with Place() as place:
            report = soak(place, seed, said.each, said.keep and said.keep / f"seed-{seed}")
        print(f"seed {seed}: {dict(report.numbers)}", *report.wrong, sep="\n  ", flush=True)
        failed += [seed] if report.wrong else []
        seed += 1
    print(f"{seed - said.seed} soaks, failed seeds: {failed or 'none'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
