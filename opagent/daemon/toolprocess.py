"""The program of an MCP server of the binding: what it is, the box it runs in, what it gets; speaks no MCP and decides nothing.

    process = await toolprocess.start(c, agent, "github")     # held as firmly as the agent, in a box of its own

It sees the workspace under the rules of the binding, a directory of its own for what it keeps, and nothing of the agent: neither
its sockets nor its home. The variables and secrets are those that its entry names.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from opagent import files, paths
from opagent.daemon import census, confinement, keys, wayout
from opagent.daemon.effects import Act
from opagent.daemon.keys import Key
from opagent.daemon.recording import digest
from opagent.errors import Denied, NotFound, OpAgentError
from opagent.model import Decision, Effect, ProcessId, RuntimeSpec
from opagent.policy import address
from opagent.process import environment
from opagent.process.pins import beneath
from opagent.process.profile import Level
from opagent.process.supervisor import Launch, Process
from opagent.store.effects import State
from opagent.store.events import AuditKind

if TYPE_CHECKING:
    from opagent.daemon.agent import Agent
    from opagent.daemon.conversation import Conversation
    from opagent.daemon.workspace import Workspace

STDIN_GRACE, TERM_GRACE = 1.0, 1.0  # seconds that a server has to end by itself


@dataclass(frozen=True, slots=True)
class Server:
    """An entry of `tools:`."""

    name: str
    said: Mapping[str, Any]
    origin: str

    @property
    def command(self) -> tuple[str, ...]:
        """Its own program; for one that is reached by HTTP ours, which speaks to it from a box."""
        if "url" not in self.said:
            return tuple(self.said["command"])
        from opagent.process import httptool  # slow to import, and seldom needed

        headers = [f"{name}: {value}" for name, value in self.said.get("headers", {}).items()]
        return (sys.executable, "-I", "-S", httptool.__file__, self.url, *headers)

    @property
    def url(self) -> str:
        return str(self.said.get("url", ""))

    @property
    def spec(self) -> RuntimeSpec:
        """As the box of an agent takes it."""
        return RuntimeSpec(f"tool-{self.name}", "", self.command, "/usr")


@dataclass(eq=False, slots=True)
class Running:
    """A server that runs. `effect`: the record of its start, which ends with it."""

    id: ProcessId
    process: Process
    act: Act
    effect: int


def server(workspace: Workspace, name: str) -> Server:
    """Raises NotFound."""
    said = workspace.binding.tools.get(name)
    if said is None:
        raise NotFound(f"the binding of {workspace.path} names no tool {name!r}", "", "opagent tools")
    return Server(name, said, str(workspace.binding.origins.get(f"tools.{name}", "")))


async def start(c: Conversation, agent: Agent, name: str) -> Running:
    """Raises NotFound, Denied (a secret), AgentFailed, RuntimeNotInstalled, StoreFailed: then nothing runs."""
    found, ident = server(c.workspace, name), c.shared.new_process()
    wanted = _keys(c.workspace, found)
    launch = await asyncio.to_thread(_launch, c, agent, found, ident)
    launch = await c.shared.network.admit(c, launch, wanted, _way(launch, c.workspace, found))
    launch = replace(launch, secrets=c.shared.known.learn(launch.env))
    act = _act(c, agent, found, launch)
    effect = await c.shared.effects.begin(act)
    try:
        process = await Process.start(launch)
    except OpAgentError as error:
        c.shared.network.detach(ident)
        await c.shared.effects.end(effect, act, State.FAILED, error=str(error))
        raise
    return Running(ident, process, act, effect)


async def stop(c: Conversation, running: Running) -> str:
    """End it, or learn how it ended; a sentence. Nothing of it is left afterwards."""
    report = await running.process.stop(stdin=STDIN_GRACE, term=TERM_GRACE)
    c.shared.network.detach(running.id)
    said = (report.stderr_tail.strip().splitlines() or [""])[-1][:300]
    await c.shared.effects.end(running.effect, running.act, State.DONE, {"code": report.code, "signal": report.signal})
    return report.sentence() + (f"; it said: {said}" if said else "")


def logged(word: str) -> bool:
    """Whether it is the id of a process whose words are kept: servers have no row in the table of agents."""
    return bool(re.fullmatch(r"x[0-9a-z]{4,12}", word)) and paths.agent_log(word).exists()


def _keys(workspace: Workspace, found: Server) -> list[Key]:
    """Raises NotFound: the entry names a secret that the rules do not give."""
    given = {key.name: key for key in keys.allowed(workspace)}
    for name in found.said.get("secrets", ()):
        if name not in given:
            why = f"no rule of can.secrets gives it; {found.origin}"
            raise NotFound(f"the tool {found.name} wants the secret {name}", why, "opagent explain")
    chosen = [given[name] for name in found.said.get("secrets", ())]
    return [_put_in(key, found) for key in chosen] if found.url else chosen


def _put_in(key: Key, found: Server) -> Key:
    """The proxy puts it in, for the host of the address only. Raises Denied."""
    tls, _, rest = found.url.partition("://")
    place = address.authority(rest.partition("/")[0], 443 if tls == "https" else 80)
    if (key.host, key.port) != place:
        why = f"{key.origin} says that it is for {address.shown(key.host, key.port) if key.host else 'no host'}"
        raise Denied(f"the secret {key.name} does not go to {address.shown(*place)}", why, "opagent explain")
    from opagent.process import httptool

    return replace(key, variable=httptool.BASE, tls=tls == "https")


def _launch(c: Conversation, agent: Agent, found: Server, ident: ProcessId) -> Launch:
    """For a thread. Raises AgentFailed."""
    workspace, own = c.workspace, str(paths.agent_state(c.workspace.path, found.spec.name))
    client, passed = workspace.client_environment, set(found.said.get("env", ())) & set(workspace.binding.capabilities.env)
    env = environment.plain(client, workspace.path)
    env |= {name: client[name] for name in sorted(passed) if name in client and not environment.forbidden(name)}
    env |= {"OPAGENT_STATE": own}
    files.private_directory(paths.agent_state(workspace.path, found.spec.name))
    files.private_directory(paths.agent_log(ident).parent)
    base = str(found.said["base"])
    cwd = base if beneath(base, workspace.path) else workspace.path
    launch = Launch(ident, tuple(_argv(found.command, base, cwd)), cwd, env, paths.agent_log(ident))
    if agent.plan.level not in (Level.STRICT, Level.LANDLOCK):
        return launch
    seen = census.take(workspace.path, links=not workspace.binding.sandbox.get("hardlinks"))
    argv, profile = confinement.reached(workspace, found.spec, _found(launch), env["PATH"], seen)
    return replace(launch, argv=argv, box=confinement.box(agent.plan, profile, ident))


def _argv(command: tuple[str, ...], base: str, cwd: str) -> list[str]:
    """Words that name files of the directory of the binding, as they are named from where the program starts."""
    words = []
    for number, word in enumerate(command):
        path = os.path.normpath(os.path.join(base, word))
        moved = not os.path.isabs(word) and base != cwd and os.path.isfile(path)
        words.append(path if moved or (number == 0 and "/" in word) else word)
    return words


def _found(launch: Launch) -> tuple[str, ...]:
    """With the program by its path: what has to be mounted is found by that."""
    program = launch.argv[0]
    for folder in launch.env["PATH"].split(":") if "/" not in program else ():
        if os.access(path := os.path.join(folder, program), os.X_OK) and os.path.isfile(path):
            program = path
            break
    return (program, *launch.argv[1:])


def _way(launch: Launch, workspace: Workspace, found: Server) -> wayout.Way:
    """It gets a way out where it is one, or where the binding, or the user, speaks of hosts at all."""
    if not found.url and not wayout.speaks_of_hosts(workspace):
        return wayout.Way.NONE
    return wayout.of(launch)


def _act(c: Conversation, agent: Agent, found: Server, launch: Launch) -> Act:
    """The start of a server, as that of an agent is recorded."""
    decision = Decision(Effect.ALLOW, f"trust: {c.workspace.trust.value}", c.workspace.path, agent.plan.enforcement)
    obj = {"path": os.path.realpath(launch.argv[0]), "argv": digest(launch.argv), "name": f"tool {found.name}"}
    turn = c.current.turn.id if c.current is not None else None
    said = (obj | {"sandbox": agent.plan.level.value}, {"command": list(launch.argv), "cwd": launch.cwd}, decision)
    return Act(AuditKind.AGENT_SPAWN, *said, conversation=c.record.id, turn=turn, agent=c.role, process=launch.id)
