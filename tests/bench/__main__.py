"""`python -m tests.bench [NAME...] [--quick] [--json]`: measures and prints; asserts no time."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable, Iterator

from tests.bench import (
    calling,
    confined,
    editor,
    load,
    merging,
    noticing,
    proxying,
    redacting,
    remote,
    rights,
    starts,
    storing,
    stream,
)
from tests.bench.place import Place
from tests.bench.rows import Row, table
from tests.bench.sizes import QUICK, WHOLE, Sizes

MEASURES: dict[str, Callable[[Place, Sizes], Iterator[Row]]] = {
    "start": starts.command_line,
    "open": starts.opening,
    "confined": confined.confined,
    "call": calling.calling,
    "proxy": proxying.proxying,
    "flood": stream.flood,
    "delay": stream.delay,
    "editor": editor.editor,
    "memory": load.memory,
    "turns": load.turns,
    "beside": load.beside,
    "binding": rights.binding,
    "redaction": redacting.redaction,
    "journal": storing.journal,
    "files": storing.files,
    "saves": noticing.saves,
    "merge": merging.merges,
    "remote": remote.remote,
}


def main() -> int:
    """0 when everything could be measured, whatever came out."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description="How fast OpAgent is here, as ratios within one run.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"what to measure (default: all): {' '.join(MEASURES)}")
    parser.add_argument("--quick", action="store_true", help="small numbers: shows that it works, not how fast")
    parser.add_argument("--json", action="store_true", help="one object on stdout")
    said = parser.parse_args()
    unknown = [name for name in said.names if name not in MEASURES]
    if unknown:
        parser.error(f"no measure {' '.join(unknown)}; there are: {' '.join(MEASURES)}")
    before = os.getloadavg()
    rows: list[Row] = []
    for name in said.names or MEASURES:
        print(f"measuring {name} ...", file=sys.stderr, flush=True)
        with Place() as place:
            rows += MEASURES[name](place, QUICK if said.quick else WHOLE)
    machine = {
        "python": platform.python_version(),
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "load_before": before[0],
        "load_after": os.getloadavg()[0],
        "quick": said.quick,
    }
    if said.json:
        print(json.dumps({"schema": 1, "machine": machine, "rows": [row.as_json() for row in rows]}))
        return 0
    print(table(rows))
    print("\n" + ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in machine.items()))
    print("Absolute targets hold on an idle machine; on a busy one look at the ratios.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
