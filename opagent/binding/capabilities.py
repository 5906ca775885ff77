"""Sorts the rules of all files into ceilings, defaults and the chain that `policy/decide.py` reads. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from opagent.binding import source as sources
from opagent.binding.merge import Merge
from opagent.binding.source import Source
from opagent.model import Capabilities, Layer, Origin, RuleList
from opagent.policy.decide import AGENTS, FLOOR

BUILT_IN = Origin(FLOOR)
_DEFAULTS = (sources.USER, sources.HOME)


Files = Sequence[tuple[Source, bool]]  # outermost first, machine and user in front; whether each stands in full


@dataclass(frozen=True, slots=True)
class Base:
    """What holds before any file speaks."""

    workspace: str
    floor: Layer
    conversations: str
    fold: bool


def collect(merge: Merge, files: Files, base: Base) -> Capabilities:
    """A file that does not stand in full becomes a ceiling: there an allow only takes out of the file's own default."""
    ceilings, chain, defaults = [_floor(base)], [], []
    for each, full in files:
        if each.kind == sources.MACHINE or not full:
            ceilings.append(each.layer)
        elif each.kind in _DEFAULTS:
            defaults.append(each.layer)
        else:
            chain.append(each.layer)
    _note(merge, (each.layer for each, _ in files))
    speaking = [each for each, full in files if full]
    return Capabilities(
        ceilings=tuple(ceilings),
        chain=tuple(chain),
        env=tuple(_by_name(merge, speaking, "env")),
        secrets=_by_name(merge, speaking, "secrets"),
        max_depth=_least(merge, files, "max_depth", AGENTS["max_depth"]),
        defaults=tuple(defaults),
        workspace=base.workspace,
        fold=base.fold,
        max_children=_least(merge, files, "max_children", AGENTS["max_children"]),
    )


def _floor(base: Base) -> Layer:
    """The floor of this workspace: nobody but us writes into the conversations."""
    write = base.floor.kinds.get("write", RuleList())
    kinds = {**base.floor.kinds, "write": dataclasses.replace(write, deny=(*write.deny, base.conversations))}
    return dataclasses.replace(base.floor, name=FLOOR, base=base.workspace, kinds=kinds)


def _note(merge: Merge, layers: Iterable[Layer]) -> None:
    """Where each kind's rules stand; a file that speaks about a kind narrows those before it."""
    for layer in layers:
        for kind, rules in layer.kinds.items():
            key = f"can.{kind}"
            first = min((line for line in rules.lines.values() if line), default=0)
            merge.narrow(key, None, Origin(layer.file, first))
            for place, line in rules.lines.items():
                merge.origins[f"{key}.{place}"] = Origin(layer.file, line)


def _least(merge: Merge, files: Files, key: str, otherwise: int) -> int:
    """The first of user, home and outermost binding that speaks may raise the built-in number; everybody else only lowers it."""
    name = f"can.agents.{key}"
    said = [(each, full, each.data.get("can", {}).get("agents", {}).get(key)) for each, full in files]
    outermost = next((each for each, full in files if full and each.kind == sources.WORKSPACE), None)
    raising = [number is not None and full and (each is outermost or each.kind in _DEFAULTS) for each, full, number in said]
    first = raising.index(True) if True in raising else -1
    merge.put(name, otherwise, BUILT_IN)
    if first >= 0:
        merge.put(name, said[first][2], said[first][0].origin("can", "agents", key))
    for each, _, number in said:
        if number is not None:
            merge.least(name, number, each.origin("can", "agents", key))
    return int(merge.values[name])


def _by_name(merge: Merge, speaking: Sequence[Source], key: str) -> dict[str, Any]:
    """The user's names, and those of the outermost binding that every deeper list repeats; the machine's list is a ceiling."""
    own: dict[str, Any] = {}
    chain: dict[str, Any] | None = None
    ceiling: dict[str, Any] | None = None
    for each in speaking:
        said = each.data.get("can", {}).get(key)
        named = dict(said) if isinstance(said, dict) else dict.fromkeys(said or ())
        for name in named:
            merge.origins.setdefault(f"can.{key}.{name}", each.origin("can", key))
        if each.kind == sources.MACHINE:
            ceiling = named if said is not None else None
        elif each.kind in _DEFAULTS:
            own |= named
        elif chain is None:
            chain = named
        elif said is not None:
            chain = {name: value for name, value in chain.items() if name in named}
    found = own | (chain or {})
    return found if ceiling is None else {name: value for name, value in found.items() if name in ceiling}
