"""How many messages an agent may send: a token bucket. Pure: the time is passed in, and it says how long to wait, it waits never.

Lines that only go on with a text count together (`stream.py`): what is held back is work for us, not typing.
"""

from __future__ import annotations

RATE, BURST = 2_000.0, 10_000.0  # messages a second, and so many at once


class Pace:
    """`now`: seconds of any clock that never goes back."""

    def __init__(self, now: float, rate: float = RATE, burst: float = BURST) -> None:
        self._rate, self._burst = rate, burst
        self._left, self._at = burst, now

    def wait(self, messages: int, now: float) -> float:
        """Take so many; the seconds until more may be taken, 0 while there is room."""
        self._left = min(self._burst, self._left + (now - self._at) * self._rate) - messages
        self._at = now
        return max(0.0, -self._left / self._rate)
