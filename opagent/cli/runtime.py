"""`opagent runtime ...`: the group; each command has a module of its own, imported when it is used."""

from __future__ import annotations

import click

from opagent.cli.command import Group, Later

# name -> (module below opagent.cli, attribute)
COMMANDS = {
    "list": ("runtimelist", "list_"),
    "new": ("runtimenew", "new"),
    "probe": ("runtimeprobe", "probe"),
    "info": ("runtimelist", "info"),
    "install": ("runtimeinstall", "install_"),
    "upgrade": ("runtimeinstall", "upgrade"),
    "rollback": ("runtimeversions", "rollback"),
    "pin": ("runtimeversions", "pin"),
    "remove": ("runtimeversions", "remove"),
    "bundle": ("runtimeversions", "bundle_"),
}


@click.group(cls=Group, commands=Later(COMMANDS), default="list", example="opagent runtime list")
def runtime() -> None:
    """Agent programs: which there are, which versions of them are installed, and which one counts."""
