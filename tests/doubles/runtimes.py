"""Runtimes of a test's own: a `runtime.yaml` in the test's configuration, and trust for a directory that uses it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import yaml

from opagent import paths
from opagent.client import Client

ROOT = Path(__file__).resolve().parents[2]
ECHO = (sys.executable, "-I", "-S", str(ROOT / "runtimes/echo"))
SPEAKS_7 = (
    sys.executable, "-c",
    "import json; json.loads(input()); print(json.dumps({'jsonrpc': '2.0', 'id': 1, 'result': {'protocolVersion': 7}}), flush=True); input()",
)  # fmt: skip
TEE = str(Path(__file__).with_name("tee.py"))


def put(name: str, *command: str, **more: Any) -> str:
    """Describe a runtime; `more` are other keys of runtime.yaml."""
    folder = paths.config() / "runtimes" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "runtime.yaml").write_text(yaml.safe_dump({"name": name, "command": list(command), **more}))
    return name


def unconfined() -> None:
    """Nothing holds an agent of this test, by the user's own word: for a double that does what none may do."""
    paths.user_config().parent.mkdir(parents=True, exist_ok=True)
    paths.user_config().write_text("version: 1\nsandbox: {level: off}\n")


def echo(name: str, *arguments: str, log: Path | None = None, **more: Any) -> str:
    """The echo agent with arguments; with `log` all lines of its wire are written there, where no agent in a sandbox could."""
    if log is not None:
        unconfined()
    tee = (sys.executable, TEE, str(log)) if log is not None else ()
    return put(name, *tee, *ECHO, *arguments, **more)


def bind(client: Client, directory: Path, agent: str, **binding: Any) -> None:
    """Write `.agent.yaml` and trust it, as a person at a terminal would."""
    (directory / ".agent.yaml").write_text(yaml.safe_dump({"agent": agent, **binding}))
    trust(client, directory)


def trust(client: Client, directory: Path) -> None:
    """The answer of a person to the question as it is now, where there is one."""
    environment = dict(os.environ)
    shown = client.request("trust/show", {"path": str(directory), "environment": environment})
    if shown["state"] not in ("allowed", "unneeded"):
        client.request("trust/grant", {"path": str(directory), "digest": shown["digest"], "environment": environment})
