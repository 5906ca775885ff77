"""Gathers what trust is about: which keys need it here, and the facts a digest covers. Reads files, starts nothing."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Protocol

from opagent.binding import closure, resolve, trust
from opagent.binding.resolve import Standing
from opagent.binding.source import Source
from opagent.binding.trust import Facts, RuntimeFacts
from opagent.errors import NotTrusted
from opagent.model import Binding


class Runtimes(Protocol):
    """The catalogue, as far as bindings ask it."""

    def names(self) -> Collection[str]:
        """Every runtime a binding may name."""

    def facts(self, name: str) -> RuntimeFacts:
        """One of those names, without the digest; called for every role, so it must be quick."""

    def digest(self, name: str) -> str:
        """sha256 of the runtime's package; asked only where a digest of trust is needed."""


def standing(chain: Sequence[Source], workspace: str, runtimes: Runtimes) -> Standing:
    """The keys of each file that need trust when `workspace` is opened."""
    return Standing({each.path: trust.needs_trust(each, lambda name: doubt(name, workspace, runtimes)) for each in chain})


def doubt(runtime: str, workspace: str, runtimes: Runtimes, trusted: bool = False) -> str:
    """Why starting this runtime here needs trust, "" when it does not; an unknown one is a load error elsewhere.

    `trusted`: the workspace is (or will be) trusted for what stands in its files, which is enough for a foreign runtime.
    """
    if runtime not in runtimes.names():
        return ""
    facts = runtimes.facts(runtime)
    if not facts.installed:
        return f"the runtime {runtime} is not installed"
    if not facts.ours and not trusted:
        return f"the runtime {runtime} does not come with OpAgent, and says itself what it runs"
    if found := closure.present(workspace, facts.runs):
        return f"the runtime {runtime} executes {found} of this directory"
    return ""


def facts(chain: Sequence[Source], standing: Standing, binding: Binding, runtimes: Runtimes) -> Facts:
    """What the digest of the binding's workspace covers, with `chain` as if it were trusted."""
    chain = resolve.cut(chain)
    agent = binding.roles.get(binding.agent or "")
    doubts = tuple(filter(None, [doubt(agent.runtime, binding.workspace, runtimes) if agent else ""]))
    needing = [each for each in chain if standing.needs.get(each.path)]
    names = {name for each in needing for name in _runtimes_named(each)} | ({agent.runtime} if agent and doubts else set())
    known = [replace(runtimes.facts(name), digest=runtimes.digest(name)) for name in sorted(names & set(runtimes.names()))]
    runs = [name for each in known for name in each.runs]
    executed: dict[str, str] = {}
    obstacle = ""
    try:
        executed = closure.closure(binding.workspace, binding, runs) if needing or doubts else {}
    except NotTrusted as error:
        obstacle = str(error)
    return Facts(
        path=binding.workspace,
        uid=os.geteuid(),
        chain=tuple(resolve.chain_file(each, standing) for each in needing),
        runtimes=tuple(known),
        closure=executed,
        level=str(binding.sandbox.get("level", "auto")),
        doubts=doubts,
        obstacle=obstacle,
    )


def _runtimes_named(source: Source) -> set[str]:
    roles = source.data.get("roles", {})
    return {role["runtime"] for role in roles.values()} | ({source.data["agent"]} if "agent" in source.data else set())
