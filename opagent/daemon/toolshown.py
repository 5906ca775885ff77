"""What people see and say of the tools of a directory's MCP servers (`opagent tools`); starts no server."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from opagent.binding.question import visible
from opagent.daemon import toolbook
from opagent.daemon.params import Params, environment, maybe, place
from opagent.daemon.server import Client
from opagent.daemon.workspace import Workspace
from opagent.errors import NotFound, Usage
from opagent.mcp.passing import READS
from opagent.model import Effect
from opagent.process import environment as variables
from opagent.store import tools as rows
from opagent.store.tools import Row

if TYPE_CHECKING:
    from opagent.daemon.host import Host

Result = Mapping[str, Any]


async def tool_list(host: Host, client: Client, params: Params) -> Result:
    workspace = await _workspace(host, params)
    known = host.database.read(lambda db: rows.listed(db, workspace.path))
    servers = [_server(host, workspace, name, [row for row in known if row.server == name]) for name in _names(workspace, known)]
    return {"workspace": workspace.path, "trust": workspace.trust.value, "servers": servers}


async def _workspace(host: Host, params: Params) -> Workspace:
    path = place(params, "path")
    return Workspace.resolve(path, None, await host.environment(environment(params), path), host.database)


def _names(workspace: Workspace, known: list[Row]) -> list[str]:
    """Of the binding, and those that were there once."""
    return list(dict.fromkeys([*workspace.loaded.binding.tools, *(row.server for row in known)]))


def _server(host: Host, workspace: Workspace, name: str, known: list[Row]) -> dict[str, Any]:
    binding = workspace.loaded.binding
    said = binding.tools.get(name, {})
    started = host.database.read(lambda db: rows.started(db, workspace.path, name))
    origin = str(binding.origins.get(f"tools.{name}", ""))
    told: dict[str, Any] = {"name": name, "bound": name in binding.tools, "started": started, "origin": origin}
    told |= {key: list(said[key]) if isinstance(said[key], tuple) else said[key] for key in ("command", "url") if key in said}
    if problem := missing(workspace, name):
        told["problem"] = problem
    told["running"] = host.shared.tooling.running(workspace.path, name)
    return {**told, "tools": [_tool(workspace, row) for row in known], "reads": [_read(workspace, name, read) for read in READS]}


def _tool(workspace: Workspace, row: Row) -> dict[str, Any]:
    decision = workspace.decide("mcp", f"{row.server}/{row.name}")
    state = "denied" if decision.effect is Effect.DENY else row.state
    said = json.loads(row.now or row.content or "{}")
    told: dict[str, Any] = {
        "name": row.name, "state": state, "effect": decision.effect.word, "rule": decision.rule, "enforcement": "proxy",
        "digest": row.seen, "agreed": row.agreed, "by": row.by or "first start", "at": row.at,
        "description": visible(str(said.get("description", ""))),
    }  # fmt: skip
    if row.agreed and row.seen and row.agreed != row.seen:
        told["difference"] = list(_difference(row))
    return told


def _difference(row: Row) -> Iterator[str]:
    """What is otherwise than it was allowed, key by key; nothing in it is invisible."""
    before, now = json.loads(row.content), json.loads(row.now)
    for key in sorted({*before, *now}):
        for sign, said in (("-", before), ("+", now)):
            if key in said and before.get(key) != now.get(key):
                text = said[key] if isinstance(said[key], str) else json.dumps(said[key], ensure_ascii=False, sort_keys=True)
                yield f"{sign} {key}: {visible(text)}"


def _read(workspace: Workspace, server: str, read: str) -> dict[str, Any]:
    decision = workspace.decide("mcp", f"{server}/{read}")
    return {"name": read, "effect": decision.effect.word, "rule": decision.rule, "enforcement": "proxy"}


def missing(workspace: Workspace, name: str) -> str:
    """Why the program of a server cannot be started, as far as a look tells; "" for no reason."""
    said = workspace.loaded.binding.tools.get(name, {})
    program = next(iter(said.get("command", ())), "")
    path = variables.plain(workspace.client_environment, workspace.path)["PATH"]
    found = os.path.join(str(said.get("base", "")), program) if "/" in program else shutil.which(program, path=path)
    if not program or (found and os.access(found, os.X_OK)):
        return ""
    return f"{program} is not on this machine"


async def tool_allow(host: Host, client: Client, params: Params) -> Result:
    """`tools`: {server: {tool: digest}}, as they were seen."""
    host.refuse_agents(client)
    workspace, wanted = await _workspace(host, params), params.get("tools")
    if not isinstance(wanted, dict) or not all(isinstance(each, dict) for each in wanted.values()):
        raise Usage("tools must be {server: {tool: digest}}")
    agreed = []
    for server, tools in wanted.items():
        said = {str(name): str(digest) for name, digest in tools.items()}
        agreed += await toolbook.allow(host.shared, workspace.path, str(server), said, f"human:{client.uid}")
    host.shared.tooling.changed(workspace.path)
    return {"workspace": workspace.path, "allowed": [f"{row.server}/{row.name}" for row in agreed]}


async def tool_forget(host: Host, client: Client, params: Params) -> Result:
    host.refuse_agents(client)
    workspace, server = await _workspace(host, params), maybe(params, "server")
    known = host.database.read(lambda db: rows.started(db, workspace.path, server)) if server else True
    if not known:
        raise NotFound(f"the server {server} was never started here", "", "opagent tools")
    gone = await toolbook.forget(host.shared, workspace.path, server, f"human:{client.uid}")
    host.shared.tooling.changed(workspace.path)
    return {"workspace": workspace.path, "forgotten": gone}


METHODS: dict[str, Callable[[Host, Client, Params], Awaitable[Result]]] = {
    "tool/list": tool_list, "tool/allow": tool_allow, "tool/forget": tool_forget,
}  # fmt: skip
