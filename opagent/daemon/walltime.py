"""Notices that somebody set the clock of the machine: wall time is compared with the time since boot; sets and waits for nothing.

Order is that of numbers and durations are monotonic, so nothing else follows. A machine that slept did not jump.
"""

from __future__ import annotations

import time

LEAST = 10.0  # seconds in one look; a clock that is corrected slowly moves by far less


class Walltime:
    def __init__(self) -> None:
        self._apart = _apart()

    def jumped(self) -> float:
        """By how many seconds since the last look, forward or back; 0 for none."""
        before, self._apart = self._apart, _apart()
        seconds = self._apart - before
        return round(seconds, 1) if abs(seconds) >= LEAST else 0.0


def _apart() -> float:
    """Of wall time and the time since boot, suspended or not, where the kernel counts that."""
    return time.time() - time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
