"""How long tests wait for what must happen: one time for all of them, long enough for a busy machine. It is never what is measured."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

PATIENCE = 60.0  # seconds; below the time-out of a test (pyproject.toml), so that the failure says what did not happen


def until(look: Callable[[], Any], within: float = PATIENCE) -> Any:
    """What `look` gives, as soon as it gives something."""
    deadline = time.monotonic() + within
    while not (found := look()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)
    return found
