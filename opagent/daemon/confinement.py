"""How firmly an agent is held, and what it reaches: the level for a workspace on this machine, and the profile of a launch.

plan = plan(workspace, role)              # level and why; raises SandboxMissing where a level is required that is not there
launch = confined(plan, launch)           # with its box; both look at the disk: for a thread
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opagent import files, paths
from opagent.binding import units
from opagent.daemon import census, ownwill
from opagent.daemon.census import Census
from opagent.errors import AgentFailed, OpAgentError
from opagent.model import Layer, RuntimeSpec
from opagent.policy import reach
from opagent.policy.decide import FLOOR
from opagent.process import bounds, gaps, homecopy, landlock, privategit, probe, verified
from opagent.process.box import Box
from opagent.process.landlock import Landlock
from opagent.process.pins import beneath
from opagent.process.privategit import Private
from opagent.process.profile import HOME, Level, Mount, Profile
from opagent.process.programs import Programs
from opagent.process.sandbox import Bwrap
from opagent.process.supervisor import Launch
from opagent.watch import workfiles

if TYPE_CHECKING:
    from opagent.daemon.workspace import Workspace

AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Plan:
    """`why`: a sentence where the level is not the strictest; `hint`: what makes it stricter."""

    level: Level
    wanted: str
    why: str = ""
    hint: str = ""
    program: str = ""  # of bubblewrap

    @property
    def enforcement(self) -> str:
        """Of what lies outside the workspace."""
        return "os" if self.level in (Level.STRICT, Level.LANDLOCK) else "advisory"

    @property
    def notice(self) -> str:
        """The one line that a person sees where nobody chose the weaker level."""
        if self.wanted != AUTO or self.level is Level.STRICT:
            return ""
        return f"agents here are held at level {self.level}: {self.why}; more: {self.hint}"


def plan(workspace: Workspace, role: str) -> Plan:
    """Raises AgentFailed: a level is required that this machine does not have, or nothing can hold a stranger's program."""
    wanted = str(workspace.binding.sandbox.get("level", AUTO))
    if wanted == Level.OFF:
        return Plan(Level.OFF, wanted, f"said by {workspace.binding.origins.get('sandbox.level')}")
    able = probe.strict() if wanted != Level.LANDLOCK else probe.Ability(why="it is what the binding wants")
    if able:
        return Plan(Level.STRICT, wanted, program=able.program)
    if wanted == Level.STRICT:
        origin = workspace.binding.origins.get("sandbox.level")
        raise AgentFailed("the sandbox level strict is required and does not work here", f"{able.why}; by {origin}", able.hint)
    if landlock.abi():
        return Plan(Level.LANDLOCK, wanted, able.why, able.hint)
    if wanted == Level.LANDLOCK:
        origin = workspace.binding.origins.get("sandbox.level")
        raise AgentFailed(
            "the sandbox level landlock is required and does not work here",
            f"this kernel has no Landlock; by {origin}",
            able.hint,
        )
    if not workspace.comes_with_us(role):
        what = f"{workspace.runtime_name(role)} does not come with OpAgent, and nothing can confine it here"
        raise AgentFailed(what, able.why, able.hint)
    return Plan(Level.ADVISORY, wanted, able.why, able.hint)


@dataclass(frozen=True, slots=True)
class Confined:
    """`git`: what the agent sees of the repository, where that is not the repository itself; `scripts`: ownwill.py.

    `said`: sentences for the person.
    """

    launch: Launch
    git: Private | None = None
    scripts: dict[str, str] = field(default_factory=dict)
    said: tuple[str, ...] = ()


def confined(plan: Plan, launch: Launch, workspace: Workspace, spec: RuntimeSpec) -> Confined:
    """Raises AgentFailed for rules that no set of mounts can follow."""
    if plan.level not in (Level.STRICT, Level.LANDLOCK):
        return Confined(launch)
    workspace.conversations_directory()
    workfiles.prepare(Path(workspace.path))
    said = _settle(workspace, spec)
    found = _census(workspace)
    argv, profile = reached(workspace, spec, launch.argv, launch.env.get("PATH", ""), found)
    git = privategit.prepare(workspace.path, paths.agent_git(launch.id)) if plan.level is Level.STRICT else None
    profile = replace(profile, git=git.folder if git else "")
    scripts = ownwill.scripts(workspace.path, found.names)
    return Confined(replace(launch, argv=argv, box=box(plan, profile, launch.id)), git, scripts, said)


def _settle(workspace: Workspace, spec: RuntimeSpec) -> tuple[str, ...]:
    """Make what the runtime keeps, with what it needs of the person's home; says what is new to it there."""
    kept = paths.agent_home(workspace.path, spec.name)
    first = not kept.exists()
    for mount in state(workspace.path, spec):
        files.private_directory(Path(mount.source))
    copied = homecopy.copy(os.path.expanduser("~"), files.private_directory(kept), from_home(workspace, spec))
    names = ", ".join(f"~/{name}" for name in copied.new)
    told = (f"{spec.name} has a copy of its own of {names}; where yours is newer, it gets that at its next start",)
    return (*(told if copied.new else ()), *(f"not copied from your home: {each}" for each in (copied.left if first else ())))


def from_home(workspace: Workspace, spec: RuntimeSpec) -> tuple[str, ...]:
    """What is copied from the person's home, but for what no agent may read."""
    home = os.path.expanduser("~")
    hidden = [place for place in private(workspace) if place not in (home, os.path.realpath(home))]
    return tuple(
        name
        for name in spec.from_home
        if not any(beneath(f"{home}/{name}", place) or beneath(place, f"{home}/{name}") for place in hidden)
    )


def box(plan: Plan, profile: Profile, ident: str) -> Box:
    """Another one of the same kind, for a program that the agent runs through us too."""
    return Bwrap(profile, plan.program) if plan.level is Level.STRICT else Landlock(profile, str(paths.landlock_home(ident)))


def _census(workspace: Workspace) -> Census:
    return census.take(workspace.path, links=not workspace.binding.sandbox.get("hardlinks"))


def reached(
    workspace: Workspace, spec: RuntimeSpec, argv: tuple[str, ...], search_path: str, found: Census
) -> tuple[tuple[str, ...], Profile]:
    """The argv as it is inside, and all that an agent reaches; makes nothing. Raises AgentFailed."""
    try:
        names = reach.reach(workspace.binding.capabilities, found.tree)
    except reach.TooMany as error:
        raise AgentFailed(
            f"the rules of {workspace.path} need more mounts than a sandbox has", str(error), "opagent explain"
        ) from error
    if len(found.linked) > reach.MOST:
        what = f"{len(found.linked)} files in {workspace.path} have another name outside it"
        raise AgentFailed(
            what, "an agent could write what lies there", "hardlinks: ok in your own config.yaml, if they are meant"
        )
    argv, programs = Programs(search_path, private(workspace), workspace.path).show(
        argv, spec.package, spec.needs.get("programs", ())
    )
    own = (workspace.binding.conversations.rstrip("/"), paths.WORK)
    fixed, whole = _trusted(workspace, names.protected)
    return argv, Profile(
        workspace=workspace.path,
        programs=programs,
        mounts=state(workspace.path, spec),
        protected=tuple(dict.fromkeys((*own, *names.protected, *found.linked))),
        hidden=names.hidden,
        verified=fixed,
        whole=whole,
        read_only=names.read_only,
        writable=names.writable,
        nested=bool(spec.needs.get("nested")),
        limits=bounds.of(workspace.binding.limits, needed(spec)),
    )


def needed(spec: RuntimeSpec) -> int:
    """Bytes of memory that a runtime asks for, where no binding says how much it may have."""
    return units.size(spec.needs.get("memory", 0))


def _trusted(workspace: Workspace, protected: Iterable[str]) -> tuple[tuple[tuple[str, str], ...], tuple[str, ...]]:
    """What of the protected names stays in the box as a person trusted it: files with digests, directories that they fill."""
    facts, top, kept = workspace.loaded.facts, f"{workspace.path}/", tuple(protected)
    inside = {path.removeprefix(top): digest for path, digest in facts.closure.items() if path.startswith(top)}
    found = {name: digest for name, digest in inside.items() if any(beneath(name, place) for place in kept)}
    try:
        size = sum(os.stat(top + name).st_size for name in found)
    except OSError:
        size = 0  # the launch says which one is gone
    if len(found) > verified.MOST or size > verified.BYTES:
        return (), ()
    runs = dict.fromkeys(name.rstrip("/") for each in facts.runtimes for name in each.runs)
    whole = [name for name in runs if name in kept and os.path.isdir(top + name) and not os.path.islink(top + name)]
    return tuple(found.items()), tuple(whole)


def state(workspace: str, spec: RuntimeSpec) -> tuple[Mount, ...]:
    """The runtime's own directory where it is, and what it keeps of its home."""
    own, home = str(paths.agent_state(workspace, spec.name)), paths.agent_home(workspace, spec.name)
    outer = [name for name in spec.state if not any(name != other and beneath(name, other) for other in spec.state)]
    return (Mount(own, own, writable=True), *(Mount(str(home / name), f"{HOME}/{name}", writable=True) for name in outer))


def private(workspace: Workspace) -> tuple[str, ...]:
    """What no mount of a program may hold: the person's home, our own state, and what the floor hides."""
    floor: list[Layer] = [layer for layer in workspace.binding.capabilities.ceilings if layer.name == FLOOR]
    hidden = [pattern.rstrip("/") for layer in floor for pattern in layer.kinds["read"].deny]
    home = os.path.expanduser("~")
    ours = (str(paths.state()), str(paths.config()), str(paths.run()))
    return (home, os.path.realpath(home), *ours, *map(os.path.expanduser, hidden))


def shown(workspace: Workspace, role: str) -> dict[str, Any]:
    """What `explain` says of the sandbox: level, why, what is mounted, protected, hidden. For a thread; makes nothing."""
    wanted = str(workspace.binding.sandbox.get("level", AUTO))
    try:
        found = plan(workspace, role)
    except AgentFailed as error:
        return {"level": "none", "wanted": wanted, "why": f"{error.what}: {error.why}", "hint": error.hint}
    said: dict[str, Any] = {"level": found.level.value, "wanted": wanted, "enforcement": found.enforcement}
    said |= {key: value for key, value in (("why", found.why), ("hint", found.hint)) if value}
    if found.enforcement != "os":
        return said
    seen = _census(workspace)
    try:
        search_path = workspace.client_environment.get("PATH", "")
        _, profile = reached(workspace, workspace.runtime(role), workspace.argv(role), search_path, seen)
    except OpAgentError as error:
        return said | {"problem": str(error), "hint": error.hint}
    said |= {"network": profile.network.value, "read_only": profile.read_only, "nested": profile.nested}
    mounts = (*profile.programs, *profile.mounts)
    said["copies"] = homecopy.present(os.path.expanduser("~"), from_home(workspace, workspace.runtime(role)))
    said["mounts"] = [{"source": each.source, "place": each.place, "writable": each.writable} for each in mounts]
    if found.level is Level.LANDLOCK:
        return said | {"gaps": [gap.sentence for gap in gaps.gaps(profile, landlock.abi())]}
    said["fixed"] = sorted({*(name for name, _ in profile.verified), *profile.whole})
    kinds = {"protected": profile.protected, "hidden": profile.hidden, "writable": profile.writable}
    there = {
        kind: [name for name in names if os.path.lexists(os.path.join(workspace.path, name))] for kind, names in kinds.items()
    }
    return said | there | {"git": _git(workspace.path), "open": list(_open(workspace.path, there["protected"], seen))}


def _git(workspace: str) -> str:
    """How an agent sees the repository."""
    place = os.path.join(workspace, ".git")
    if not os.path.lexists(place):
        return ""
    return "private" if os.path.isdir(place) and not os.path.islink(place) else "read-only"


def _open(workspace: str, protected: Iterable[str], seen: Census) -> Iterator[str]:
    """What mounts cannot do here, in sentences."""
    for name in protected:
        if os.path.islink(os.path.join(workspace, name)):
            yield f"{name} is a symbolic link: what it leads to is protected, the link itself is not"
    if not seen.whole:
        yield f"more than {census.MOST:,} names: those beyond were not looked at for protected names, rules and hard links"


def writes(running: Iterable[tuple[Plan, Box | None]], path: str) -> bool:
    """Whether one of these agents can write a file: what is mounted read-only over its directory keeps it from that."""
    return any(_writes(plan, box, path) for plan, box in running)


def _writes(plan: Plan, box: Box | None, path: str) -> bool:
    if box is None:
        return True
    if not beneath(path, box.profile.workspace):
        return False
    protected = [os.path.join(box.profile.workspace, name) for name in box.profile.protected]
    return plan.level is not Level.STRICT or not any(beneath(os.path.dirname(path), os.path.normpath(name)) for name in protected)
