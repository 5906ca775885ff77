"""`opagent runtime install|upgrade`: the words of the command, and what is said of what was done."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from opagent.cli.app import App
from opagent.cli.command import Command, pass_app
from opagent.cli.runtimenames import RUNTIME, act
from opagent.cli.words import bytes_short
from opagent.errors import Usage

_EXITS = (0, 1, 2, 3, 4, 5)


@click.command("install", cls=Command, example="opagent runtime install echo-node", exits=_EXITS)
@click.argument("source", metavar="SOURCE", shell_complete=RUNTIME)
@click.option("--name", metavar="NAME", help="What it is called here, where SOURCE is no name.")
@click.option("--allow-scripts", is_flag=True, help="Also run what its packages want to execute now, without asking.")
@click.option("--no-activate", is_flag=True, help="Install it, and let what counts count on.")
@pass_app
def install_(app: App, source: str, name: str | None, allow_scripts: bool, no_activate: bool) -> None:
    """Install an agent: NAME, NAME@VERSION, npm:PACKAGE, pypi:PACKAGE, git+URL@REVISION, URL#sha256=..., ./DIR or a bundle.

    Nothing of a package runs while it is fetched; install scripts are shown, and run confined after a yes.
    """
    row = act(app, "install", source=source, name=name, allow_scripts=allow_scripts, no_activate=no_activate)["runtime"]
    if app.out.json:
        app.out.result({"runtime": row})
        return
    _say(app, row)
    if row["active"] == row["version"]:
        app.out.talk(f"talk to it: {app.typed('opagent open .')} --agent {row['name']}")
    else:
        again = app.typed(f"opagent runtime pin {row['name']}@{row['version']}")
        app.out.talk(f"what counts is {row['active'] or 'nothing yet'}; to let this one: {again}")


@click.command("upgrade", cls=Command, example="opagent runtime upgrade echo-node", exits=_EXITS)
@click.argument("names", metavar="[NAME[@VERSION]]...", nargs=-1, shell_complete=RUNTIME)
@click.option("--all", "all_", is_flag=True, help="Every installed runtime that is not pinned.")
@click.option("--allow-scripts", is_flag=True, help="Also run what its packages want to execute now, without asking.")
@pass_app
def upgrade(app: App, names: tuple[str, ...], all_: bool, allow_scripts: bool) -> None:
    """Install the newest version of what is installed, or the one named, and let it count. What runs stays on its version."""
    if bool(names) == all_:
        raise Usage("name a runtime, or say --all", hint="opagent runtime list")
    rows = act(app, "upgrade", names=list(names), allow_scripts=allow_scripts)["runtimes"]
    if app.out.json:
        app.out.result({"runtimes": rows})
        return
    for row in rows:
        _say(app, row)


def _say(app: App, row: Mapping[str, Any]) -> None:
    """What lies there now, on stdout; what did not run, beside it."""
    was = f", before it {row['before']}" if row["before"] not in ("", row["version"]) else ""
    app.out.data(f"{row['name']} {row['version']}: {row['packages']} packages, {bytes_short(row['bytes'])}{was}")
    if row["node"]:
        app.out.talk(f"with a node of its own, {row['node']}")
    for each in row["skipped"]:
        app.out.talk(f"not run: {each}")
