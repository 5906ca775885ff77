"""What stands between the agents of a directory and what they want, as `policy/enforcement.py` takes it; confines nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from opagent.daemon import confinement, keys, wayout
from opagent.errors import OpAgentError
from opagent.model import Decision, Effect
from opagent.policy import enforcement
from opagent.policy.enforcement import Ground
from opagent.process.profile import Level

if TYPE_CHECKING:
    from opagent.daemon.agent import Agent
    from opagent.daemon.workspace import Workspace


def ground(workspace: Workspace, agent: str | None) -> Ground:
    """Of the agent that would be started: the one that is meant, else the one that is bound. May probe the sandbox."""
    try:
        role = workspace.role_name(agent)
        services = frozenset(workspace.runtime(role).client)
        level = confinement.plan(workspace, role).level
        handed = keys.keys(workspace, role)
        ways_out = ["network"] if level is Level.STRICT and wayout.wants(workspace, role) else []
        ways_out += ["mcp"] if workspace.binding.tools else []
    except OpAgentError:  # nothing can be started: what is there can still be shown
        return Ground()
    exposed = frozenset(key.name for key in handed if not key.variable)
    calls = ["agents"] if level is Level.STRICT else []  # its own socket is the only one that leads to another agent
    proxied = frozenset([*ways_out, *calls, *(["secrets"] if len(exposed) < len(handed) else [])])
    return Ground(level.value, services, proxied, exposed)


def stands(agent: Agent) -> Ground:
    """Of an agent that runs."""
    return Ground(agent.plan.level.value, frozenset(agent.role.services))


def held(kind: str, decision: Decision, here: Ground) -> tuple[Decision, str]:
    """A decision as it becomes true here, and why it is not as the rule says it, or how far it holds."""
    found = enforcement.enforced(kind, decision.effect, decision.pattern, here)
    return replace(decision, effect=found.effect, enforcement=found.word), found.reason


def row(kind: str, effect: Effect, pattern: Any, here: Ground) -> dict[str, Any]:
    """How one rule holds, for `explain`. `really` is there where something stricter becomes of it."""
    found = enforcement.enforced(kind, effect, pattern, here)
    said: dict[str, Any] = {"enforcement": found.word}
    if found.effect is not effect:
        said["really"] = found.effect.word
    if found.reason:
        said["reason"] = found.reason
    return said
