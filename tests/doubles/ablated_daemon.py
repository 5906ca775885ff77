"""The real daemon without one of its layers, so that a test can show what that layer is there for.

python -m tests.doubles.ablated_daemon narrowing|trust|binding|hiding|calls [--ready-fd N]
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from opagent.binding import load
from opagent.daemon import beneath, main, services, toolcalls
from opagent.mcp import inventory
from opagent.mcp.inventory import Standing, State
from opagent.model import Capabilities, Decision, Effect, Trust, TrustRecord
from opagent.policy import decide


def without_narrowing() -> None:
    """The nearest file alone speaks, as where the last one that was read wins."""
    original = decide._chain

    def chain(capabilities: Capabilities, kind: str, request: Any) -> Iterator[Any]:
        return original(replace(capabilities, chain=capabilities.chain[-1:]), kind, request)

    decide._chain = chain


def without_trust() -> None:
    """Every directory acts as if a person had said yes to what stands in it."""
    original = load.judge

    def judge(loaded: load.Loaded, recorded: Callable[[str], TrustRecord | None]) -> load.Verdict:
        record = TrustRecord(loaded.workspace, loaded.digest, Trust.ALLOWED, "2026-01-01T00:00:00Z", "human:0", "")
        return original(loaded, lambda path: record if path == loaded.workspace else recorded(path))

    load.judge = judge


def without_binding() -> None:
    """An answer is not bound to what was shown: it counts for whatever the file has become."""
    original = beneath.write

    def write(workspace: str, relative: str, content: bytes, target: str | None = None) -> bool:
        return original(workspace, relative, content)

    beneath.write = write
    services.Bound.__eq__ = lambda self, other: True  # type: ignore[method-assign, assignment]


def without_hiding() -> None:
    """A tool that changed is used as it is now."""
    inventory.standing = lambda tools, known: tuple(Standing(tool, State.ALLOWED) for tool in tools)  # type: ignore[assignment]


def without_calls() -> None:
    """No rule and no person decides on a call of a tool."""
    toolcalls.rule = lambda c, server, name: Decision(Effect.ALLOW, "none", "none")  # type: ignore[assignment]


LAYERS = {
    "narrowing": without_narrowing, "trust": without_trust, "binding": without_binding, "hiding": without_hiding,
    "calls": without_calls,
}  # fmt: skip

if __name__ == "__main__":
    LAYERS[sys.argv.pop(1)]()
    sys.exit(main.main())
