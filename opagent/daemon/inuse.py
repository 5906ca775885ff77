"""Which processes run from a directory of a runtime, by the words of their command lines. It only looks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from opagent.process import table


def of(folder: Path) -> Iterator[int]:
    """Processes of ours that name a file below the directory."""
    source, place = table.source(), f"{folder}/"
    if source is None:
        return
    for pid in source.parents():
        if pid != os.getpid() and place in (source.described(pid) or ""):
            yield pid
