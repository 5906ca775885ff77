"""What work costs, counted and not timed: the same number on a busy machine as on an idle one."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any


def steps(work: Callable[[], object]) -> int:
    """The lines of Python that `work` runs, calls and returns among them. What C code does within one line counts as one."""
    count = 0

    def count_one(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        count += 1
        return count_one

    before = sys.gettrace()
    sys.settrace(count_one)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def grows_linearly(work: Callable[[int], object], small: int) -> bool:
    """Whether four times as much takes at most five times as many steps (and some hundreds that any start takes)."""
    return steps(lambda: work(4 * small)) <= 5 * steps(lambda: work(small)) + 500
