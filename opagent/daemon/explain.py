"""What `opagent explain` shows: each effective value and where it was written, the launch, how each rule is enforced."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from opagent.daemon import confinement, keys, wayout
from opagent.errors import OpAgentError
from opagent.model import Binding, Layer, Origin
from opagent.policy.decide import BUILT_IN, ENFORCED
from opagent.process import gaps, landlock, limits
from opagent.process.profile import Level

if TYPE_CHECKING:
    from opagent.daemon.workspace import Workspace

NOT_APPLIED = {
    "tools": "MCP servers are not started yet",
    "budget": "budgets are shown and not applied yet",
    "limits.ports": "not applied yet: an agent is given no port of this machine",
    "host": "agents run there, under the rules of the binding there; this one says only where that is",
}


def explained(workspace: Workspace, agent: str | None) -> dict[str, Any]:
    """The whole answer of `binding/explain`; what is not trusted is shown as it would be, and marked."""
    binding, sandbox = workspace.loaded.binding, _sandbox(workspace, agent)
    level = next((each for each in Level if each == sandbox["level"]), None)
    return {
        "workspace": workspace.path,
        "focus": workspace.focus,
        "agent": agent or binding.agent,
        "trust": workspace.trust.value,
        "chain": [
            {"path": file.path, "needs_trust": list(file.needs_trust), "trusted": not file.needs_trust or workspace.verdict.acts}
            for file in binding.chain
        ],
        "values": [_value(binding, key, value, level) for key, value in _values(binding)],
        "capabilities": _capabilities(binding),
        "launch": _launch(workspace, agent),
        "sandbox": sandbox,
        "notices": workspace.notices,
    }


def _values(binding: Binding) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = [("agent", binding.agent)]
    for name, role in binding.roles.items():
        for key in ("runtime", "model", "mode", "instructions"):
            if (value := getattr(role, key)) is not None:
                found.append((f"roles.{name}.{key}", value))
    for number, piece in enumerate(binding.instructions):
        found.append((f"instructions.{number}", piece.file or piece.text))
    found.append(("conversations", binding.conversations))
    for section in ("approvals", "supervise", "budget", "sandbox", "tools"):
        found += [(f"{section}.{key}", value) for key, value in getattr(binding, section).items()]
    found += [(f"limits.{key}", value) for key, value in (asdict(limits.of(binding.limits)) | dict(binding.limits)).items()]
    if binding.host:
        found.append(("host", binding.host))
    return found


def _value(binding: Binding, key: str, value: Any, level: Level | None) -> dict[str, Any]:
    origin = _origin(binding, key)
    said: dict[str, Any] = {"key": key, "value": value, "origin": str(origin)}
    if key in binding.narrowed:
        said["narrowed"] = [str(each) for each in binding.narrowed[key]]
    section, _, name = key.partition(".")
    held = limits.applied(name, level) if section == "limits" and level is not None and key not in NOT_APPLIED else ""
    if note := NOT_APPLIED.get(key) or NOT_APPLIED.get(section) or held:
        said["note"] = note
    return said


def _origin(binding: Binding, key: str) -> Origin:
    if key.startswith("instructions."):
        return binding.instructions[int(key.partition(".")[2])].origin
    while key and key not in binding.origins:
        key = key.rpartition(".")[0]
    return binding.origins.get(key, Origin("built-in"))


def _capabilities(binding: Binding) -> list[dict[str, Any]]:
    """Each kind with its rules, from the ceilings down the chain, and how they are enforced."""
    capabilities = binding.capabilities
    layers = [*capabilities.ceilings, *capabilities.defaults, *capabilities.chain]
    return [
        {
            "kind": kind,
            "default": BUILT_IN[kind].word,
            "enforcement": ENFORCED[kind],
            "rules": [rule for layer in layers for rule in _rules(layer, kind)],
        }
        for kind in BUILT_IN
    ]


def _rules(layer: Layer, kind: str) -> list[dict[str, Any]]:
    found = layer.kinds.get(kind)
    if found is None:
        return []
    rules = []
    for effect in ("deny", "ask", "allow"):
        for number, pattern in enumerate(getattr(found, effect)):
            line = found.lines.get(f"{effect}.{number}")
            rules.append(
                {"effect": effect, "pattern": pattern, "origin": f"{layer.file or layer.name}:{line}" if line else layer.name}
            )
    if found.default is not None:
        line = found.lines.get("default")
        origin = f"{layer.file or layer.name}:{line}" if line else layer.name
        rules.append({"effect": found.default.word, "pattern": "default", "origin": origin})
    return rules


def _sandbox(workspace: Workspace, agent: str | None) -> dict[str, Any]:
    try:
        said = confinement.shown(workspace, role := workspace.role_name(agent))
        if "gaps" in said and wayout.wants(workspace, role):
            said["gaps"].append(gaps.network(landlock.abi()).sentence)
        return said
    except OpAgentError as error:
        return {"level": "none", "wanted": workspace.loaded.binding.sandbox.get("level", "auto"), "why": str(error)}


def _launch(workspace: Workspace, agent: str | None) -> dict[str, Any]:
    """What would be started, or why nothing can be."""
    said: dict[str, Any] = {"directory": workspace.path}
    try:
        role = workspace.role_name(agent)
        spec = workspace.runtime(role)
        said |= {"role": role, "runtime": spec.name, "runtime_file": os.path.join(spec.package, "runtime.yaml")}
        said["argv"] = list(workspace.argv(role))
        said["environment"] = sorted({*workspace.binding.capabilities.env, *spec.pass_env, *spec.env})
        said["network"] = wayout.shown(workspace, role)
        said["secrets"] = keys.shown(workspace, role)
        workspace.require_trust(agent)
    except OpAgentError as error:
        said["problem"] = {"code": error.code, "message": error.what, "why": error.why, "hint": error.hint}
    return said
