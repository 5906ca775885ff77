"""How times, sizes, paths and states are said to a person. Pure but for the clock and HOME."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

# a state is a word and a symbol, never a colour alone
SYMBOLS = {
    "starting": "◌",
    "ready": "○",
    "running": "●",
    "working": "●",
    "waiting": "?",
    "queued": "…",
    "stopping": "◌",
    "backoff": "↻",
    "stopped": "-",
    "failed": "✗",
    "done": "✓",
    "cancelled": "-",
    "interrupted": "!",
    "pending": "?",
    "allowed": "✓",
    "denied": "✗",
}


def state_word(state: str) -> str:
    return f"{SYMBOLS.get(state, '·')} {state}"


def duration(length: float) -> str:
    """`8 s`, `5 min`, `3 h`, `12 d`."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if length >= size:
            return f"{int(length // size)} {unit}"
    return f"{int(max(0.0, length))} s"


def age(when: str) -> str:
    """How long ago an ISO 8601 time is; the text itself when it is none."""
    try:
        then = datetime.fromisoformat(when)
    except ValueError:
        return when
    return duration((datetime.now(UTC) - (then if then.tzinfo else then.replace(tzinfo=UTC))).total_seconds())


def bytes_short(size: int) -> str:
    """`512 B`, `3.4 MB`: powers of 1000."""
    value = float(size)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"


def home_short(path: str) -> str:
    home = os.path.expanduser("~")
    return "~" + path[len(home) :] if path == home or path.startswith(home + "/") else path


def answered_word(approval: Mapping[str, Any], state: str) -> str:
    """What became of an approval; a question is not allowed or denied."""
    from opagent.model import QUESTION  # a third of the time of `opagent ps`, which never comes here

    words = {"allowed": "answered", "denied": "declined"} if approval.get("kind") == QUESTION else {}
    return words.get(state, state)
