"""Which processes run from a directory of a runtime. It only looks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True, slots=True)
class Running:
    pid: int
    name: str


def of(folder: Path) -> Iterator[Running]:
    """Processes of ours whose program or whose words lie below the directory."""
    place = f"{folder}/"
    for process in psutil.process_iter():
        try:
            words = [process.exe(), *process.cmdline()]
            if process.status() != psutil.STATUS_ZOMBIE and any(word.startswith(place) for word in words):
                yield Running(process.pid, process.name())
        except psutil.Error:
            continue
