"""Each single system call of the daemon on its own files fails once, or is its last: one after the other.

The gate takes some of the first calls; `--long` goes on until a run comes to no call that fails.
"""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from opagent.errors import OpAgentError
from tests.doubles.patience import until
from tests.doubles.shim import Shim
from tests.faults.conftest import Place
from tests.integration.conftest import FINAL

FAULTS = [
    ("write", "opagent.db-wal", {"errno": 5}), ("fsync", "opagent.db-wal", {"errno": 5}), ("open", "opagent.db-wal", {"errno": 24}),
    ("write", ".opagent/tmp/", {"errno": 28}), ("write", "opagent.db-wal", {"kill": 1}), ("fsync", "opagent.db-wal", {"kill": 1}),
    ("write", ".opagent/tmp/", {"kill": 1}), ("fsync", ".opagent/tmp/", {"kill": 1}),
]  # fmt: skip
SHORT, LONG = (0, 3), range(80)


@pytest.mark.parametrize(("op", "path", "more"), FAULTS, ids=lambda value: str(value).replace("/", " ").strip())
def test_one_call_fails(place: Place, shim: Shim, rounds: int, op: str, path: str, more: dict[str, int]) -> None:
    conversation = place.create("oracle")
    for after in SHORT if rounds == 1 else LONG:
        place.anew(**shim.fails(op, path, after=after, count=1, **more))
        shim.arm()
        text = f"/slow 3 0.01\n{op} {path} {after}"
        with contextlib.suppress(OpAgentError):  # refused: what was not acknowledged need not be there
            turn = place.start(conversation, text, request=text)
            until(lambda turn=turn: _ended(place, conversation, turn["id"]))
        shim.disarm()
    place.anew()
    assert place.say(conversation, f"goes on {op} {path}")["state"] == "done"
    place.settle()


def _ended(place: Place, conversation: dict[str, Any], turn: str) -> bool:
    """A daemon that was made anew meanwhile waits for the environment of a client."""
    place.back()
    return place.turn(conversation, turn)["state"] in FINAL
