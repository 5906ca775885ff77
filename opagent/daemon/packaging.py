"""The commands about runtimes for a person at another machine: done here by a process of its own.

Hashing and unpacking hundreds of megabytes in the daemon would make every conversation wait.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from opagent import launch
from opagent.daemon.params import Params
from opagent.daemon.server import Client
from opagent.errors import Bug, Usage, from_json

if TYPE_CHECKING:
    from opagent.daemon.host import Host

_SECONDS = 7200.0  # for all of it


async def runtime_run(host: Host, client: Client, params: Params) -> Mapping[str, Any]:
    from opagent.daemon import runtimework  # slow to import, and seldom needed

    host.refuse_agents(client)
    command, given = params.get("command"), params.get("given")
    if command not in runtimework.ACTS or not isinstance(given, dict):
        raise Usage(f"command must be one of {', '.join(runtimework.ACTS)}, and given an object")
    environment = await host.own.environment()
    return await asyncio.to_thread(_run, json.dumps({"command": command, "given": given}).encode(), environment)


def _run(wanted: bytes, environment: dict[str, str]) -> Mapping[str, Any]:
    argv, home = [sys.executable, *launch.module("opagent.daemon.runtimework")], os.path.expanduser("~")
    done = subprocess.run(
        argv, cwd=home if os.path.isdir(home) else "/", env=environment, input=wanted, capture_output=True,
        timeout=_SECONDS, start_new_session=True, check=False,
    )  # fmt: skip
    try:
        said: dict[str, Any] = json.loads(done.stdout)
    except ValueError as error:
        last = done.stderr[-2000:].decode("utf-8", "replace")
        raise Bug("the process for runtimes said nothing that can be read", last, "opagent doctor") from error
    if "error" in said:
        raise from_json(said["error"])
    return said


METHODS: dict[str, Callable[[Host, Client, Params], Awaitable[Mapping[str, Any]]]] = {"runtime/run": runtime_run}
