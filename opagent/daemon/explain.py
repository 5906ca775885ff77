"""What `opagent explain` shows: each effective value and where it was written, the launch, how each rule is enforced."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from opagent.daemon import confinement, enforcing, keys, limits, proving, wayout
from opagent.errors import OpAgentError, Usage
from opagent.model import Binding, Effect, Layer, Origin
from opagent.packages import ability, catalog
from opagent.policy import decide, remembering, rules
from opagent.policy.budget import Metric
from opagent.policy.decide import BUILT_IN
from opagent.policy.enforcement import PROXY, Ground
from opagent.process import bounds, gaps, landlock
from opagent.process.profile import Level

if TYPE_CHECKING:
    from opagent.daemon.workspace import Workspace

NOT_APPLIED = {
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
        "values": [_value(workspace, key, value, level) | _needed(workspace, agent, key) for key, value in _values(binding)],
        "capabilities": _capabilities(binding, enforcing.ground(workspace, agent)),
        "launch": _launch(workspace, agent),
        "sandbox": sandbox,
        "notices": workspace.notices,
    }


def _values(binding: Binding) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = [("agent", binding.agent)]
    for name, role in binding.roles.items():
        for key in ("runtime", "model", "mode", "instructions", "needs"):
            if (value := getattr(role, key)) not in (None, ()):
                found.append((f"roles.{name}.{key}", value))
    for number, piece in enumerate(binding.instructions):
        found.append((f"instructions.{number}", piece.file or piece.text))
    found.append(("conversations", binding.conversations))
    for section in ("approvals", "notify", "supervise", "budget", "sandbox", "tools"):
        found += [(f"{section}.{key}", value) for key, value in getattr(binding, section).items()]
    found += [(f"limits.{key}", value) for key, value in (asdict(bounds.of(binding.limits)) | dict(binding.limits)).items()]
    if binding.host:
        found.append(("host", binding.host))
    return found


def _needed(workspace: Workspace, agent: str | None, key: str) -> dict[str, Any]:
    """The memory that a runtime asks for, where no binding says how much it may have, and that is more than usual."""
    binding = workspace.loaded.binding
    if key != "limits.memory" or "memory" in binding.limits:
        return {}
    try:
        spec = workspace.runtime(agent or binding.agent or "")
    except OpAgentError:  # the launch says so
        return {}
    memory = bounds.of({}, confinement.needed(spec)).memory
    return {} if memory == bounds.of({}).memory else {"value": memory, "origin": f"{spec.package}/{catalog.FILE}"}


def _value(workspace: Workspace, key: str, value: Any, level: Level | None) -> dict[str, Any]:
    binding = workspace.loaded.binding
    origin = _origin(binding, key)
    said: dict[str, Any] = {"key": key, "value": value, "origin": str(origin)}
    if key in binding.narrowed:
        said["narrowed"] = [str(each) for each in binding.narrowed[key]]
    section, _, name = key.partition(".")
    if section == "budget" and name in set(Metric):
        said["enforcement"] = limits.enforced(workspace, Metric(name))
    if section == "tools":  # each runs in a box of its own, and the agent speaks to it through us
        said["enforcement"] = PROXY
    held = bounds.applied(name, level) if section == "limits" and level is not None and key not in NOT_APPLIED else ""
    if note := NOT_APPLIED.get(key) or NOT_APPLIED.get(section) or held:
        said["note"] = note
    return said


def _origin(binding: Binding, key: str) -> Origin:
    if key.startswith("instructions."):
        return binding.instructions[int(key.partition(".")[2])].origin
    while key and key not in binding.origins:
        key = key.rpartition(".")[0]
    return binding.origins.get(key, Origin("built-in"))


def _capabilities(binding: Binding, ground: Ground) -> list[dict[str, Any]]:
    """Each kind with its rules, from the ceilings down the chain, and how each is enforced."""
    capabilities = binding.capabilities
    layers = [*capabilities.ceilings, *capabilities.defaults, *capabilities.chain]
    return [
        {
            "kind": kind,
            "default": BUILT_IN[kind].word,
            **enforcing.row(kind, BUILT_IN[kind], "", ground),
            "rules": [rule for layer in layers for rule in _rules(layer, kind, ground)],
        }
        for kind in BUILT_IN
    ]


def _rules(layer: Layer, kind: str, ground: Ground) -> list[dict[str, Any]]:
    found = layer.kinds.get(kind)
    if found is None:
        return []
    said: list[tuple[Effect, Any, str]] = []
    for effect in (Effect.DENY, Effect.ASK, Effect.ALLOW):
        said += [(effect, pattern, f"{effect.word}.{number}") for number, pattern in enumerate(getattr(found, effect.word))]
    if found.default is not None:
        said.append((found.default, "default", "default"))
    return [
        {
            "effect": effect.word,
            "pattern": pattern,
            "origin": f"{layer.file or layer.name}:{line}" if (line := found.lines.get(place)) else layer.name,
            **enforcing.row(kind, effect, "" if place == "default" else pattern, ground),
        }
        for effect, pattern, place in said
    ]


def decided(workspace: Workspace, agent: str | None, kind: str, request: str, spelled: Sequence[str]) -> dict[str, Any]:
    """The answer of `binding/decide`: what becomes of one request, by whose word, and how firmly that holds.

    `spelled`: a directory of another machine in all words for it (`admitting.spelled`).

    Raises Usage for an unknown kind and for a request that is none.
    """
    if kind not in BUILT_IN:
        raise Usage(f"no kind of request is called {kind!r}", f"there are {', '.join(BUILT_IN)}", "opagent explain --help")
    asked = tuple(spelled) if kind == "agents" and rules.is_elsewhere(request) else _request(workspace, kind, request)
    capabilities = workspace.binding.capabilities
    by_rule = decide.decide(capabilities, kind, asked)
    decision, reason = enforcing.held(kind, by_rule, enforcing.ground(workspace, agent))
    said: dict[str, Any] = {
        "workspace": workspace.path, "kind": kind, "request": request, "effect": decision.effect.word, "rule": decision.rule,
        "enforcement": decision.enforcement, "reason": reason,
        "layers": [
            {"layer": word.layer, "effect": word.effect.word if word.effect is not None else None, "rule": word.rule,
             "counts": word.counts}
            for word in decide.words(capabilities, kind, asked)
        ],
    }  # fmt: skip
    if decision.effect is not by_rule.effect:
        said["by_rule"] = by_rule.effect.word
    return said


def _request(workspace: Workspace, kind: str, text: str) -> Any:
    """What a person typed, as the policy takes it: a path by where it really leads."""
    if not text.strip():
        raise Usage("the request is empty", "", "opagent explain --help")
    if kind in rules.PATHS:
        return os.path.realpath(os.path.join(workspace.path, os.path.expanduser(text)))
    if kind == "exec":
        return remembering.words_of(text) or _quoted(text)
    if kind == "agents" and rules.is_directory(text):
        return os.path.realpath(os.path.join(workspace.path, text))
    return text


def _quoted(text: str) -> tuple[str, ...]:
    """A command line in quotes as its words; one that only a shell can take apart as what that shell would be given."""
    if set(text) & set("|&;<>()$`\\\n*?[]{}~#"):
        return ("sh", "-c", text)
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise Usage("that is no command line", str(error), "opagent explain --help") from error


def _sandbox(workspace: Workspace, agent: str | None) -> dict[str, Any]:
    try:
        said = confinement.shown(workspace, role := workspace.role_name(agent))
        if "gaps" in said and wayout.wants(workspace, role):
            said["gaps"].append(gaps.network(landlock.abi()).sentence)
        return said
    except OpAgentError as error:
        return {"level": "none", "wanted": workspace.loaded.binding.sandbox.get("level", "auto"), "why": str(error)}


def _seen(workspace: Workspace, role: str) -> dict[str, Any]:
    """What a probe of this version saw, and what of it the binding needs."""
    spec, needs = workspace.runtime(role), workspace.needs(role)
    record = proving.known(spec, workspace.argv(role))
    said: dict[str, Any] = {"needs": list(needs), "lacks": list(ability.lacking(needs, record))}
    if record is not None:
        said |= {"at": record.at, "lines": [list(line) for line in ability.lines(record)], "problem": record.problem}
    return said


def _launch(workspace: Workspace, agent: str | None) -> dict[str, Any]:
    """What would be started, or why nothing can be."""
    said: dict[str, Any] = {"directory": workspace.path}
    try:
        role = workspace.role_name(agent)
        spec = workspace.runtime(role)
        said |= {
            "role": role,
            "runtime": spec.name,
            "version": spec.version,
            "runtime_file": os.path.join(spec.package, "runtime.yaml"),
        }
        said["argv"] = list(workspace.argv(role))
        said["seen"] = _seen(workspace, role)
        said["environment"] = sorted({*workspace.binding.capabilities.env, *spec.pass_env, *spec.env})
        said["network"] = wayout.shown(workspace, role)
        said["secrets"] = keys.shown(workspace, role)
        workspace.require_trust(agent)
    except OpAgentError as error:
        said["problem"] = {"code": error.code, "message": error.what, "why": error.why, "hint": error.hint}
    return said
