"""The methods by which a person calls an agent and reads and writes shared notes; an agent has its own connection for that."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from opagent.daemon import admitting, calling, joining, leading, notes, verbs
from opagent.daemon.calling import Wanted
from opagent.daemon.calltree import End
from opagent.daemon.params import Params, environment, maybe, place, text
from opagent.daemon.server import Client
from opagent.daemon.workspace import Workspace
from opagent.errors import Usage

if TYPE_CHECKING:
    from opagent.daemon.host import Host

Result = Mapping[str, Any]


async def call_start(host: Host, client: Client, params: Params) -> Result:
    host.refuse_agents(client)
    path = place(params, "path")
    if (there := leading.led(host, path, environment(params))) is not None:
        return {"elsewhere": str(there.there)}
    given = await host.environment(environment(params), path)
    found = admitting.target(host, os.path.realpath(path), text(params, "to"), given)
    host.remember(found.spot.workspace, given)
    wanted = Wanted(text(params, "to"), joining.said({"text": params.get("prompt")}), _seconds(params, "timeout"))
    return host.calls.begin_for_person(found, os.path.realpath(path), f"human:{client.uid}", wanted).as_json()


async def call_result(host: Host, client: Client, params: Params) -> Result:
    return await verbs.outcome(host.calls.find(text(params, "call")), _seconds(params, "within"))


async def call_stop(host: Host, client: Client, params: Params) -> Result:
    host.refuse_agents(client)
    call = host.calls.find(text(params, "call"))
    host.calls.stop(call, End.CANCELLED, "a person stopped it")
    return await verbs.outcome(call, calling.LONGEST)


async def notes_read(host: Host, client: Client, params: Params) -> Result:
    workspace = await _workspace(host, params)
    if (note := maybe(params, "note")) is None:
        return {"notes": await asyncio.to_thread(notes.listed, workspace)}
    return await asyncio.to_thread(notes.read, workspace, note)


async def notes_write(host: Host, client: Client, params: Params) -> Result:
    host.refuse_agents(client)
    words = params.get("text")
    if not isinstance(words, str):
        raise Usage("text is missing", "", "opagent notes write NAME TEXT")
    workspace = await _workspace(host, params)
    host.shared.ownership.take(workspace.path)
    return await asyncio.to_thread(notes.write, workspace, text(params, "note"), words)


async def _workspace(host: Host, params: Params) -> Workspace:
    path = place(params, "path")
    return Workspace.resolve(path, None, await host.environment(environment(params), path), host.database)


def _seconds(params: Params, name: str) -> float:
    value = params.get(name, calling.LONGEST)
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise Usage(f"{name} must be a number of seconds")
    return float(value)


METHODS: dict[str, Callable[[Host, Client, Params], Awaitable[Result]]] = {
    "call/start": call_start, "call/result": call_result, "call/stop": call_stop, "notes/read": notes_read,
    "notes/write": notes_write,
}  # fmt: skip
