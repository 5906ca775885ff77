"""Builds `fault.c` once per machine and gives its variables; the program that is started with them meets the fault, nobody else.

shim = Shim(built(folder), folder)
environment |= shim.fails("write", "opagent.db-wal", errno=28)
shim.arm() ... shim.disarm()
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("fault.c")


def built(folder: Path) -> Path:
    """The library; the test is skipped, with the reason, where there is no compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler (cc)")
    library = folder / "fault.so"
    if not library.exists():
        words = [compiler, "-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl"]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return library


class Shim:
    """Faults of one program. Unless `always`, nothing fails before `arm` and after `disarm`."""

    def __init__(self, library: Path, folder: Path) -> None:
        self.library, self._armed, self._clock = library, folder / "fault-now", folder / "clock"

    def fails(self, op: str, path: str, always: bool = False, **more: int) -> dict[str, str]:
        """`more`: after, count, errno, short, kill (fault.c)."""
        numbers = {f"FAULT_{name.upper()}": str(value) for name, value in more.items()}
        armed = {} if always else {"FAULT_WHILE": str(self._armed)}
        return {"LD_PRELOAD": str(self.library), "FAULT_OP": op, "FAULT_PATH": path, **numbers, **armed}

    def slow_sync(self, seconds: float) -> dict[str, str]:
        return {"LD_PRELOAD": str(self.library), "FSYNC_US": str(round(seconds * 1e6))}

    def clock(self) -> dict[str, str]:
        self.shift(0)
        return {"LD_PRELOAD": str(self.library), "CLOCK_SHIFT_FILE": str(self._clock)}

    def shift(self, seconds: int) -> None:
        """The wall clock of the program is off by so much from now on."""
        new = self._clock.with_suffix(".new")
        new.write_text(str(seconds))
        new.replace(self._clock)

    def arm(self) -> None:
        self._armed.touch()

    def disarm(self) -> None:
        self._armed.unlink(missing_ok=True)
