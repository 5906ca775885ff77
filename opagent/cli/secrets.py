"""`opagent secrets list|set|forget|check`: where your secrets are. No value is ever an argument, and none is shown."""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
from typing import Any

import click

from opagent.cli.app import App
from opagent.cli.command import Command, Group, pass_app
from opagent.errors import NotFound, OpAgentError, Usage

_COLUMNS = {"NAME": "name", "FROM": "from", "STATE": "state"}
_EXITS = (0, 1, 2, 4, 5)


@click.group(cls=Group, default="list", example="opagent secrets set model")
def secrets() -> None:
    """Where the secrets are that a binding calls user:NAME or keyring:NAME. Values are never shown."""


@secrets.command("list", cls=Command, example="opagent secrets list --json", only_here=True)
@pass_app
def list_(app: App) -> None:
    """The names of your configuration and where each value comes from; whether there is a keyring. Asks for no value."""
    from opagent.binding.surroundings import user_secrets
    from opagent.process import secrets as sources

    _here(app, "list")
    problem = asyncio.run(sources.keyring_problem(os.environ))
    rows = [{"name": f"user:{name}", "from": source, "state": "not looked at"} for name, source in user_secrets().items()]
    rows.append({"name": "keyring:…", "from": "the keyring of this desktop", "state": problem or "there"})
    app.out.records("secrets", rows, _COLUMNS, "")


@secrets.command(cls=Command, example="opagent secrets check", only_here=True, exits=_EXITS)
@click.argument("names", metavar="[NAME]...", nargs=-1)
@pass_app
def check(app: App, names: tuple[str, ...]) -> int:
    """Fetch each secret of your configuration, or those named (user:NAME, keyring:NAME), and say whether it is usable."""
    from opagent.binding.surroundings import user_secrets

    _here(app, "check", *names)
    known = user_secrets()
    wanted = names or tuple(f"user:{name}" for name in known)
    rows = [_checked(name, known) for name in wanted]
    app.out.records("secrets", rows, _COLUMNS, "your configuration names no secret")
    return 0 if all(row["ok"] for row in rows) else 4


def _checked(name: str, known: dict[str, str]) -> dict[str, Any]:
    from opagent.process import secrets as sources

    source = name if name.startswith("keyring:") else known.get(name.removeprefix("user:"), "")
    try:
        if not source:
            raise NotFound("your configuration has no such name")
        asyncio.run(sources.fetch(source, os.environ))
    except OpAgentError as error:
        return {"name": name, "from": source, "state": str(error), "ok": False}
    return {"name": name, "from": source, "state": "usable", "ok": True}


@secrets.command("set", cls=Command, example="opagent secrets set model < key.txt", only_here=True, exits=_EXITS)
@click.argument("name")
@pass_app
def set_(app: App, name: str) -> None:
    """Put a secret into the keyring, for `from: keyring:NAME`. The value is typed, unseen, or comes on stdin."""
    from opagent.process import secrets as sources

    _here(app, "set", name)
    try:
        value = app.out.ask_secret(f"value of {name}: ") if sys.stdin.isatty() else sys.stdin.read()
    except EOFError as error:
        raise Usage("no value was given", "", f"opagent secrets set {name} < FILE") from error
    asyncio.run(sources.keep(name, value, os.environ))
    app.out.result({"name": f"keyring:{name}"}) if app.out.json else app.out.talk(f"kept as keyring:{name}")


@secrets.command(cls=Command, example="opagent secrets forget model", only_here=True, exits=_EXITS)
@click.argument("name")
@pass_app
def forget(app: App, name: str) -> None:
    """Take a secret out of the keyring."""
    from opagent.process import secrets as sources

    _here(app, "forget", name)
    asyncio.run(sources.forget(name, os.environ))
    app.out.result({"name": f"keyring:{name}"}) if app.out.json else app.out.talk(f"keyring:{name} is forgotten")


def _here(app: App, *words: str) -> None:
    app.only_here("secrets are kept", shlex.join(["opagent", "secrets", *words]))
