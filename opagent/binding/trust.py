"""Which keys need trust, what is hashed, and what a record says about it; decides from values it is given, reads nothing.

No byte of the directory takes part in the decision but as part of the digest: there is no key that says "trusted".
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from opagent.binding.source import Source
from opagent.model import ChainFile, Effect, Trust, TrustRecord
from opagent.policy.decide import AGENTS, BUILT_IN

HEADER = b"opagent-trust/1\n"
_NARROWS = ("needs",)  # keys of a role that only keep its runtime from starting
WHOLE = ("instructions", "host")  # keys that need trust whatever they say


@dataclass(frozen=True, slots=True)
class RuntimeFacts:
    """What the catalogue knows of one runtime, as far as trust goes.

    `argv` is resolved (nothing left to put in), `digest` that of the package, `runs` the workspace files it executes by
    itself, `installed` whether it could be started now, `metered` whether somebody counts its tokens or costs.
    """

    name: str
    argv: tuple[str, ...] = ()
    digest: str = ""
    runs: tuple[str, ...] = ()
    installed: bool = True
    metered: bool = True
    ours: bool = True  # its whole program comes with OpAgent


@dataclass(frozen=True, slots=True)
class Facts:
    """All that the digest of one workspace covers. `chain` holds only files that need trust."""

    path: str
    uid: int
    chain: tuple[ChainFile, ...]
    runtimes: tuple[RuntimeFacts, ...]
    closure: Mapping[str, str] = field(default_factory=dict)  # path -> sha256 of a file that may be executed
    level: str = "auto"
    doubts: tuple[str, ...] = ()  # why starting the runtime needs trust although no file says anything that does
    obstacle: str = ""  # why this can never be trusted as it is: what it would execute cannot be hashed

    @property
    def needed(self) -> bool:
        return bool(self.chain or self.doubts)


def needs_trust(source: Source, doubt: Callable[[str], str]) -> tuple[str, ...]:
    """The key paths of one file that need trust. `doubt(runtime)` says why starting it needs trust, "" when it does not."""
    if source.own:
        return ()
    data, needed = source.data, [key for key in WHOLE if key in source.data]
    for name, role in data.get("roles", {}).items():
        needed += [f"roles.{name}.{key}" for key in role if key not in _NARROWS and (key != "runtime" or doubt(role["runtime"]))]
    agent = data.get("agent")
    if agent and agent not in data.get("roles", {}) and doubt(agent):
        needed.append("agent")
    needed += [f"tools.{name}" for name in data.get("tools", {})]
    if data.get("root"):
        needed.append("root")
    for kind, said in data.get("can", {}).items():
        if kind in ("secrets", "env"):
            needed += [f"can.{kind}"] if said else []
        else:
            needed += [f"can.{kind}.allow"] if said.get("allow") else []
            needed += [f"can.{kind}.default"] if _lowers(kind, said.get("default")) else []
            needed += [f"can.agents.{key}" for key, usual in AGENTS.items() if said.get(key, 0) > usual]
    return tuple(needed)


def _lowers(kind: str, default: str | None) -> bool:
    return default is not None and Effect[default.upper()] < BUILT_IN[kind]


def without_trust(data: Mapping[str, Any]) -> dict[str, Any]:
    """What a file may say without trust: who answers (an installed runtime), and everything that narrows."""
    kept = {key: value for key, value in data.items() if key not in (*WHOLE, "tools", "root", "can", "roles")}
    if "roles" in data:
        kept["roles"] = {
            name: {key: role[key] for key in ("runtime", *_NARROWS) if key in role} for name, role in data["roles"].items()
        }
    return kept


def digest(facts: Facts) -> str:
    """sha256 over the header and the canonical JSON of all facts, in hex."""
    canonical = {
        "path": facts.path,
        "uid": facts.uid,
        "chain": [[file.path, file.content.decode("utf-8")] for file in facts.chain],
        "runtime": [[each.name, list(each.argv), each.digest] for each in sorted(facts.runtimes, key=lambda each: each.name)],
        "closure": dict(facts.closure),
        "level": facts.level,
    }
    text = json.dumps(canonical, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(HEADER + text.encode()).hexdigest()


def state(facts: Facts, record: TrustRecord | None) -> Trust:
    """What the record of this path says about these facts. A denial is by path and survives edits."""
    if record is not None and record.path == facts.path and record.state is Trust.DENIED:
        return Trust.DENIED
    if not facts.needed:
        return Trust.UNNEEDED
    if facts.obstacle or record is None or record.path != facts.path or record.state is not Trust.ALLOWED:
        return Trust.UNKNOWN
    return Trust.ALLOWED if record.digest == digest(facts) else Trust.CHANGED


def covered(child: Facts, parent: Facts) -> bool:
    """Whether trust in the parent's workspace is trust in the child's: the child's own files only narrow, nothing more is run."""
    if child.obstacle or not set(child.runtimes) <= set(parent.runtimes):
        return False
    files = {file.path for file in parent.chain}
    return all(file.path in files for file in child.chain) and child.closure.items() <= parent.closure.items()


def difference(before: str, now: str) -> tuple[str, ...]:
    """What a person was shown then and would be shown now, as the lines of a unified diff; empty when equal."""
    return tuple(difflib.unified_diff(before.splitlines(), now.splitlines(), "trusted", "now", lineterm="", n=2))
