"""How an agent in its box comes to the proxy: through a relay in a network of its own, or by the port of this machine.

A launch without a way out has a network of its own with nothing in it (strict), or may not connect at all (landlock).
"""

from __future__ import annotations

import enum
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from opagent import paths
from opagent.daemon import confinement
from opagent.policy.decide import named_by_user
from opagent.policy.rules import split_host
from opagent.process import relay
from opagent.process.landlock import Landlock
from opagent.process.profile import SOCKETS, Level, Mount, Network
from opagent.process.programs import Programs
from opagent.process.sandbox import Bwrap
from opagent.process.supervisor import Launch

if TYPE_CHECKING:
    from opagent.daemon.workspace import Workspace

RELAY = "/opt/opagent/relay.py"
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Way(enum.Enum):
    RELAY = "relay"  # it has a network of its own, and in it nothing but a relay
    PORT = "port"  # it shares the network of this machine: the proxy is where it is told to go (advisory)
    OPEN = "open"  # nothing holds it: the proxy only puts secrets in
    NONE = "none"  # it has no need of a network


_OF_LEVEL = {Level.STRICT: Way.RELAY, Level.LANDLOCK: Way.PORT}


def way(launch: Launch, workspace: Workspace, role: str) -> Way:
    """The one of a launch that has its box."""
    if not wants(workspace, role):
        return Way.NONE
    return of(launch)


def of(launch: Launch) -> Way:
    """How a launch with its box comes out, where it may."""
    return Way.OPEN if launch.box is None else _OF_LEVEL[launch.box.level]


def wants(workspace: Workspace, role: str) -> bool:
    """Whether its agent gets a way out: its runtime names hosts or a model, or for a stranger's a rule speaks of hosts."""
    spec = workspace.runtime(role)
    if spec.network or spec.model:
        return True
    return not workspace.comes_with_us(role) and speaks_of_hosts(workspace)


def speaks_of_hosts(workspace: Workspace) -> bool:
    """Whether a rule of the binding or of the user allows a host, or asks about one."""
    capabilities = workspace.binding.capabilities
    said = [layer.kinds.get("network") for layer in (*capabilities.defaults, *capabilities.chain)]
    return any(rules is not None and (rules.allow or rules.ask) for rules in said)


def through(launch: Launch, workspace: Workspace, port: int) -> Launch:
    """The launch with its way: for a thread. `port`: the proxy's."""
    box = launch.box
    if isinstance(box, Landlock):
        return replace(launch, box=Landlock(replace(box.profile, network=Network.PROXY), box.private, port))
    if not isinstance(box, Bwrap):
        return launch
    seen = Programs(launch.env.get("PATH", ""), confinement.private(workspace), workspace.path)
    (python, *_), programs = seen.show((sys.executable,), sys.base_prefix)
    sockets = Mount(str(paths.agent_sockets(launch.id)), SOCKETS)
    profile = replace(
        box.profile,
        network=Network.PROXY,
        programs=(*box.profile.programs, *(each for each in programs if each not in box.profile.programs)),
        mounts=(*box.profile.mounts, sockets, Mount(relay.__file__, RELAY)),
    )
    return replace(launch, argv=(*prefix(python), *launch.argv), box=Bwrap(profile, box.program))


def prefix(python: str) -> tuple[str, ...]:
    """What stands before the argv of a program that starts behind a relay."""
    return python, "-I", "-S", RELAY, f"{SOCKETS}/{paths.agent_network('').name}"


def variables(door: str, workspace: Workspace) -> Mapping[str, str]:
    """What programs look at for a proxy; Node from 24 on only when it is told to.

    An agent's own servers are on its own loopback, unless the user's configuration lets it reach those of this machine.
    """
    ours = {split_host(text)[0] for text in named_by_user(workspace.binding.capabilities)}
    names = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), door)
    said = {**names, "no_proxy": ",".join(each for each in LOOPBACK if each not in ours)}
    return {**said, **{name.upper(): value for name, value in said.items()}, "NODE_USE_ENV_PROXY": "1"}


_SHOWN = {
    Way.RELAY: ("through the proxy, each host by the rules; nothing else is there", "proxy"),
    Way.PORT: (
        "through the proxy, each host by the rules; TCP to other ports is refused, UDP as far as the kernel can",
        "advisory",
    ),
    Way.OPEN: ("nothing stands between; the proxy only puts secrets in", "advisory"),
    Way.NONE: ("none: its runtime names no host and no rule allows one", "os"),
}


def shown(workspace: Workspace, role: str) -> dict[str, str]:
    """What `explain` says of the way out. May probe the sandbox. Raises AgentFailed."""
    level = confinement.plan(workspace, role).level
    found = _OF_LEVEL.get(level, Way.OPEN) if wants(workspace, role) else Way.NONE
    how, enforcement = _SHOWN[found]
    if found is Way.NONE and level not in _OF_LEVEL:
        how, enforcement = "that of this machine: nothing holds this agent", "advisory"
    return {"way": found.value, "how": how, "enforcement": enforcement}
