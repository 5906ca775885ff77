"""`opagent runtime ...` of a person at another machine: run here as a process of its own, its words given back as they are."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from opagent import launch
from opagent.daemon.params import Params
from opagent.daemon.server import Client
from opagent.errors import Usage

if TYPE_CHECKING:
    from opagent.daemon.host import Host

COMMANDS = ("list", "info", "install", "upgrade", "rollback", "pin", "remove", "bundle")
_LIMIT = 8 << 20  # bytes of output; a frame holds 16 MiB
_SECONDS = 7200.0


async def runtime_run(host: Host, client: Client, params: Params) -> Mapping[str, Any]:
    host.refuse_agents(client)
    words = params.get("words")
    if not isinstance(words, list) or not all(isinstance(word, str) and "\0" not in word for word in words):
        raise Usage("words must be a list of texts")
    if not words or words[0] not in COMMANDS:
        raise Usage(f"the first word must be one of {', '.join(COMMANDS)}")
    environment = await host.own.environment()
    return await asyncio.to_thread(_run, words, environment)


def _run(words: list[str], environment: dict[str, str]) -> Mapping[str, Any]:
    """A process, since hashing and unpacking here would make every conversation wait."""
    argv = [sys.executable, *launch.module("opagent"), "--no-input", "runtime", *words]
    home = os.path.expanduser("~")
    done = subprocess.run(
        argv, cwd=home if os.path.isdir(home) else "/", env=environment, stdin=subprocess.DEVNULL, capture_output=True,
        timeout=_SECONDS, start_new_session=True, check=False,
    )  # fmt: skip
    out, err = (each[-_LIMIT // 2 :].decode("utf-8", "replace") for each in (done.stdout, done.stderr))
    return {"status": done.returncode, "stdout": out, "stderr": err}


METHODS: dict[str, Callable[[Host, Client, Params], Awaitable[Mapping[str, Any]]]] = {"runtime/run": runtime_run}
