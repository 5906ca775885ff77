"""`opagent runtime rollback|pin|remove|bundle`: which installed version counts, and which ones stay."""

from __future__ import annotations

import shlex
from typing import Any

import click

from opagent.cli.app import App
from opagent.cli.command import Command, pass_app
from opagent.cli.runtimenames import INSTALLED, act
from opagent.cli.words import bytes_short
from opagent.errors import Usage

_EXITS = (0, 1, 2, 4)


@click.command(cls=Command, example="opagent runtime rollback echo-node", exits=_EXITS)
@click.argument("name", metavar="NAME[@VERSION]", shell_complete=INSTALLED)
@pass_app
def rollback(app: App, name: str) -> None:
    """Let the version count again that did before, or the one named. Nothing is fetched; what runs stays on its version."""
    said = act(app, "rollback", name=name)
    now = said["runtime"]
    _say(app, now, f"{now['name']} {now['version']} counts now, before it {said['was'] or 'none'}")


@click.command(cls=Command, example="opagent runtime pin echo-node", exits=_EXITS)
@click.argument("name", metavar="NAME[@VERSION]", shell_complete=INSTALLED)
@click.option("--off", is_flag=True, help="Let it move again.")
@pass_app
def pin(app: App, name: str, off: bool) -> None:
    """Keep a runtime on the version that counts, or on the one named: upgrade and rollback leave it there."""
    now = act(app, "pin", name=name, off=off)["runtime"]
    _say(
        app,
        now,
        f"{now['name']} stays at {now['version']}" if now["pin"] else f"{now['name']} {now['version']} may be upgraded again",
    )


@click.command(cls=Command, example="opagent runtime remove echo-node", exits=_EXITS)
@click.argument("name", metavar="NAME[@VERSION]", shell_complete=INSTALLED)
@pass_app
def remove(app: App, name: str) -> None:
    """Take away one version, or all of a runtime. A version that runs, or that counts while others are there, stays."""
    if "@" not in name and not app.confirm(f"Remove all versions of {name}?"):
        raise Usage("nothing was removed", "nobody said yes", f"opagent runtime remove {shlex.quote(name)} --yes")
    said = act(app, "remove", name=name)
    _say(app, said["runtime"], f"{said['runtime']['name']} {', '.join(said['gone'])} is gone")


@click.command("bundle", cls=Command, example="opagent runtime bundle echo-node --output echo-node.tar", exits=_EXITS)
@click.argument("name", metavar="NAME[@VERSION]", shell_complete=INSTALLED)
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False), help="The file; .tar.gz packs it.")
@pass_app
def bundle_(app: App, name: str, output: str) -> None:
    """Write a version into one file: `opagent runtime install ./FILE` installs it where there is no network."""
    said = act(app, "bundle", name=name, output=output)
    if app.out.json:
        app.out.result(said)
        return
    app.out.data(f"{said['file']}: {said['name']} {said['version']}, {bytes_short(said['bytes'])}")
    app.out.talk(f"where it goes: opagent runtime install ./FILE   (digest {said['digest']})")


def _say(app: App, now: dict[str, Any], sentence: str) -> None:
    app.out.result({"runtime": now}) if app.out.json else app.out.data(sentence)
