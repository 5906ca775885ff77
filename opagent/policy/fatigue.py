"""When an agent has asked so much that a person no longer reads: a count over a sliding window. Pure; asks nobody.

(Design: security.md, "Approvals" 7.)
"""

from __future__ import annotations

from collections import deque

MOST, WITHIN = 20, 600.0  # questions, seconds


class Guard:
    """One agent of one conversation, over all its processes. `now` is monotonic."""

    def __init__(self, most: int = MOST, within: float = WITHIN) -> None:
        self._most, self._within = most, within
        self._asked: deque[float] = deque()
        self.summaries = 0  # how often it stopped somebody

    def takes(self, now: float) -> bool:
        """Count one more question; False, and not counted, where it would be one too many."""
        while self._asked and now - self._asked[0] > self._within:
            self._asked.popleft()
        if len(self._asked) >= self._most:
            return False
        self._asked.append(now)
        return True

    def reset(self) -> None:
        """A person wants to be asked on."""
        self._asked.clear()
