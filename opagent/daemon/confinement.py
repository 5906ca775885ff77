"""How firmly an agent is held, and what it reaches: the level for a workspace on this machine, and the profile of a launch.

plan = plan(workspace, role)              # level and why; raises SandboxMissing where a level is required that is not there
launch = confined(plan, launch)           # with its box; both look at the disk: for a thread
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from opagent import files, paths
from opagent.daemon import census
from opagent.errors import AgentFailed
from opagent.model import Layer, RuntimeSpec
from opagent.policy import reach
from opagent.policy.decide import FLOOR
from opagent.process import landlock, limits, probe
from opagent.process.box import Box
from opagent.process.landlock import Landlock
from opagent.process.profile import HOME, Level, Mount, Profile
from opagent.process.programs import Programs
from opagent.process.sandbox import Bwrap
from opagent.process.supervisor import Launch

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


def confined(plan: Plan, launch: Launch, workspace: Workspace, spec: RuntimeSpec) -> Launch:
    """Raises AgentFailed for rules that no set of mounts can follow."""
    if plan.level not in (Level.STRICT, Level.LANDLOCK):
        return launch
    argv, profile = _profile(workspace, spec, launch)
    return replace(launch, argv=argv, box=box(plan, profile, launch.id))


def box(plan: Plan, profile: Profile, ident: str) -> Box:
    """Another one of the same kind, for a program that the agent runs through us too."""
    return Bwrap(profile, plan.program) if plan.level is Level.STRICT else Landlock(profile, str(paths.landlock_home(ident)))


def _profile(workspace: Workspace, spec: RuntimeSpec, launch: Launch) -> tuple[tuple[str, ...], Profile]:
    found = census.take(workspace.path, links=not workspace.binding.sandbox.get("hardlinks"))
    try:
        reached = reach.reach(workspace.binding.capabilities, found.tree)
    except reach.TooMany as error:
        raise AgentFailed(
            f"the rules of {workspace.path} need more mounts than a sandbox has", str(error), "opagent explain"
        ) from error
    if len(found.linked) > reach.MOST:
        what = f"{len(found.linked)} files in {workspace.path} have another name outside it"
        raise AgentFailed(
            what, "an agent could write what lies there", "hardlinks: ok in your own config.yaml, if they are meant"
        )
    argv, programs = Programs(launch.env.get("PATH", ""), _private(workspace), workspace.path).show(launch.argv, spec.package)
    own = [os.path.relpath(workspace.conversations_directory(), workspace.path), paths.WORK]
    return argv, Profile(
        workspace=workspace.path,
        programs=programs,
        mounts=_state(workspace.path, spec),
        protected=tuple(dict.fromkeys((*own, *reached.protected, *found.linked))),
        hidden=reached.hidden,
        read_only=reached.read_only,
        writable=reached.writable,
        nested=bool(spec.needs.get("nested")),
        limits=limits.of(workspace.binding.limits),
    )


def _state(workspace: str, spec: RuntimeSpec) -> tuple[Mount, ...]:
    """The runtime's own directory where it is, and what it keeps of its home."""
    own = str(files.private_directory(paths.agent_state(workspace, spec.name)))
    mounts = [Mount(own, own, writable=True)]
    for name in spec.state:
        source = files.private_directory(paths.agent_home(workspace, spec.name) / name)
        mounts.append(Mount(str(source), f"{HOME}/{name}", writable=True))
    return tuple(mounts)


def _private(workspace: Workspace) -> tuple[str, ...]:
    """What no mount of a program may hold: the person's home, our own state, and what the floor hides."""
    floor: list[Layer] = [layer for layer in workspace.binding.capabilities.ceilings if layer.name == FLOOR]
    hidden = [pattern.rstrip("/") for layer in floor for pattern in layer.kinds["read"].deny]
    home = os.path.expanduser("~")
    ours = (str(paths.state()), str(paths.config()), str(paths.run()))
    return (home, os.path.realpath(home), *ours, *map(os.path.expanduser, hidden))
