"""Merges the chain of files into one binding, with the origin of every value and what each one narrowed. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from opagent.binding import capabilities, trust, units
from opagent.binding.merge import Merge
from opagent.binding.source import Source
from opagent.model import Binding, ChainFile, Instruction, Layer, Origin, Role

CONVERSATIONS = "conversations/"
LEVELS = ("off", "auto", "landlock", "strict")  # a level means at least this one
PER = ("turn", "conversation", "day", "total")
NUMBERS: dict[str, dict[str, Callable[[Any], float]]] = {
    "budget": {"wall": units.seconds, **dict.fromkeys(("tokens", "turns", "tool_calls", "messages"), units.amount)},
    "limits": dict.fromkeys(("memory", "tmp", "file", "disk", "processes", "files", "ports"), units.size),
}


@dataclass(frozen=True, slots=True)
class Given:
    """What the merge is told about the world around the chain."""

    workspace: str
    floor: Layer
    user: Source | None = None
    machine: Source | None = None
    texts: Mapping[tuple[str, str], str] = field(default_factory=dict)  # (file of the chain, name it mentions) -> content
    fold: bool = False

    @property
    def own(self) -> tuple[Source, ...]:
        return tuple(each for each in (self.machine, self.user) if each is not None)


@dataclass(frozen=True, slots=True)
class Standing:
    """Which files count in full. `needs`: file -> keys that need trust; `trusted`: files that have it, None: all."""

    needs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    trusted: Collection[str] | None = None

    def full(self, source: Source) -> bool:
        return self.trusted is None or not self.needs.get(source.path) or source.path in self.trusted


EVERYTHING = Standing()


def cut(chain: Sequence[Source], standing: Standing = EVERYTHING) -> tuple[Source, ...]:
    """The files that count, nearest first: a `root: true` that stands in full ends the chain."""
    for index, each in enumerate(chain):
        if each.data.get("root") and standing.full(each):
            return tuple(chain[: index + 1])
    return tuple(chain)


def resolve(chain: Sequence[Source], standing: Standing, given: Given) -> Binding:
    """The binding of the chain (nearest first). Of a file that does not stand in full, only what needs no trust is taken."""
    chain = cut(chain, standing)
    merge = Merge()
    instructions: tuple[Instruction, ...] = ()
    for each in (*given.own, *reversed(chain)):
        data = each.data if standing.full(each) else trust.without_trust(each.data)
        _merge_named(merge, each, data)
        _merge_limits(merge, each, data)
        instructions = _instructions(instructions, each, data, given)
    conversations = merge.values.get("conversations", CONVERSATIONS)
    files = [(each, standing.full(each)) for each in (*given.own, *reversed(chain))]
    base = capabilities.Base(given.workspace, given.floor, conversations, given.fold)
    return Binding(
        workspace=given.workspace,
        agent=merge.values.get("agent"),
        roles=_with_implicit(merge),
        instructions=instructions,
        capabilities=capabilities.collect(merge, files, base),
        budget=merge.section("budget"),
        limits=merge.section("limits"),
        tools=merge.section("tools"),
        conversations=conversations,
        approvals=merge.section("approvals"),
        supervise=merge.section("supervise"),
        notify=merge.section("notify"),
        sandbox=merge.section("sandbox"),
        host=merge.values.get("host"),
        chain=tuple(chain_file(each, standing) for each in chain),
        origins=merge.origins,
        narrowed=merge.narrowed,
    )


def chain_file(source: Source, standing: Standing) -> ChainFile:
    """The file as the binding and the digest see it."""
    needed = standing.needs.get(source.path, ())
    return ChainFile(source.path, source.content, source.uid, source.mode, needed, standing.full(source))


def with_agent(binding: Binding, role: Role) -> Binding:
    """The same binding with another role chosen on the command line."""
    origins = {**binding.origins, "agent": Origin("command line")}
    return dataclasses.replace(binding, agent=role.name, roles={**binding.roles, role.name: role}, origins=origins)


def implicit(runtime: str) -> Role:
    """The role every runtime is by its own name."""
    return Role(runtime, runtime)


def _merge_named(merge: Merge, source: Source, data: Mapping[str, Any]) -> None:
    for key in ("agent", "conversations", "host"):
        if key in data:
            value = data[key].rstrip("/") + "/" if key == "conversations" else data[key]
            merge.put(key, value, source.origin(key))
    for section in ("approvals", "supervise", "notify"):
        for key, value in data.get(section, {}).items():
            merge.put(f"{section}.{key}", units.seconds(value) if key == "timeout" else value, source.origin(section, key))
    for name, role in data.get("roles", {}).items():
        merge.forget(f"roles.{name}.")
        above = merge.values.get(f"roles.{name}")
        needs = (*(above.needs if above else ()), *role.get("needs", ()))  # a deeper file never takes one away
        merge.put(f"roles.{name}", Role(name, **{**role, "needs": tuple(dict.fromkeys(needs))}), source.origin("roles", name))
        for key in role:
            merge.origins[f"roles.{name}.{key}"] = source.origin("roles", name, key)
    for name, tool in data.get("tools", {}).items():
        merge.put(f"tools.{name}", _tool(tool, source.directory), source.origin("tools", name))
    if "hardlinks" in data:
        merge.put("sandbox.hardlinks", data["hardlinks"], source.origin("hardlinks"))


def _tool(said: Mapping[str, Any], directory: str) -> dict[str, Any]:
    listed = {key: tuple(said[key]) for key in ("command", "env", "secrets") if key in said}
    return {**said, **listed, "base": directory}


def _with_implicit(merge: Merge) -> dict[str, Role]:
    """The written roles and, when the agent is none of them, the implicit role of that name."""
    roles: dict[str, Role] = merge.section("roles")
    agent = merge.values.get("agent")
    if agent is not None and agent not in roles:
        roles[agent] = implicit(agent)
        merge.origins[f"roles.{agent}"] = capabilities.BUILT_IN
    return roles


def _merge_limits(merge: Merge, source: Source, data: Mapping[str, Any]) -> None:
    for section, numbers in NUMBERS.items():
        for key, read in numbers.items():
            if key in data.get(section, {}):
                merge.least(f"{section}.{key}", read(data[section][key]), source.origin(section, key))
    budget = data.get("budget", {})
    if "cost" in budget:
        number, currency = units.money(budget["cost"])
        if merge.values.setdefault("budget.currency", currency) == currency:  # another one is a load error (checks.py)
            merge.least("budget.cost", number, source.origin("budget", "cost"))
    if "per" in budget:
        merge.strictest("budget.per", budget["per"], source.origin("budget", "per"), PER)
    if "level" in data.get("sandbox", {}):
        merge.strictest("sandbox.level", data["sandbox"]["level"], source.origin("sandbox", "level"), LEVELS)


def _instructions(
    above: tuple[Instruction, ...], source: Source, data: Mapping[str, Any], given: Given
) -> tuple[Instruction, ...]:
    said = data.get("instructions")
    if said is None:
        return above
    own = tuple(
        Instruction(given.texts.get((source.path, text), ""), text, source.origin(*keys))
        if is_file
        else Instruction(text, None, source.origin(*keys))
        for text, is_file, keys in mentioned(said)
    )
    return own if isinstance(said, dict) and said.get("inherit") is False else above + own


def mentioned(said: Any) -> list[tuple[str, bool, tuple[str | int, ...]]]:
    """(text or file name, whether it is a file, key path) of each piece of `instructions`; one word in a list is a file."""
    if isinstance(said, str):
        return [(said, False, ("instructions",))]
    if isinstance(said, list):
        return [(each, each.split() == [each], ("instructions", index)) for index, each in enumerate(said)]
    found: list[tuple[str, bool, tuple[str | int, ...]]] = [
        (each, True, ("instructions", "files", index)) for index, each in enumerate(said.get("files", ()))
    ]
    return [*found, (said["text"], False, ("instructions", "text"))] if said.get("text") else found
