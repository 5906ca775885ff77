"""What stands between the agents of a directory and what they want, as `policy/enforcement.py` takes it; confines nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from opagent.errors import OpAgentError
from opagent.model import Decision, Effect
from opagent.policy import enforcement
from opagent.policy.enforcement import Ground

if TYPE_CHECKING:
    from opagent.daemon.workspace import Workspace


def ground(workspace: Workspace, agent: str | None) -> Ground:
    """Of the agent that is meant, else of the one that is bound. There is no sandbox yet."""
    try:
        services = frozenset(workspace.runtime(workspace.role_name(agent)).client)
    except OpAgentError:  # nothing can be started: what is there can still be shown
        services = frozenset()
    return Ground(services=services)


def held(kind: str, decision: Decision, stands: Ground) -> tuple[Decision, str]:
    """A decision as it becomes true here, and why it is not as the rule says it, or how far it holds."""
    found = enforcement.enforced(kind, decision.effect, decision.pattern, stands)
    return replace(decision, effect=found.effect, enforcement=found.word), found.reason


def row(kind: str, effect: Effect, pattern: Any, stands: Ground) -> dict[str, Any]:
    """How one rule holds, for `explain`. `really` is there where something stricter becomes of it."""
    found = enforcement.enforced(kind, effect, pattern, stands)
    said: dict[str, Any] = {"enforcement": found.word}
    if found.effect is not effect:
        said["really"] = found.effect.word
    if found.reason:
        said["reason"] = found.reason
    return said
