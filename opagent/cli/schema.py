"""`opagent schema`: the JSON Schemas of what commands print with `--json`; asks no daemon."""

from __future__ import annotations

import json

import click

from opagent.cli.app import App
from opagent.cli.command import Command, pass_app
from opagent.cli.schemas import OUTPUTS, all_of, of
from opagent.errors import NotFound


@click.command(cls=Command, example="opagent schema ps", exits=(0, 2, 4), only_here=True)
@click.argument("command", nargs=-1, metavar="[COMMAND]")
@pass_app
def schema(app: App, command: tuple[str, ...]) -> None:
    """The JSON Schema of a command's --json output; without COMMAND of all of them, by command."""
    wanted = [name for name in OUTPUTS if tuple(name.split())[: len(command)] == command]
    if not wanted:
        words = " ".join(command)
        raise NotFound(f"there is no schema of what '{words}' prints", f"there are: {', '.join(OUTPUTS)}", "opagent schema")
    found = of(wanted[0]) if command and len(wanted) == 1 else all_of(wanted)
    app.out.data(json.dumps(found, indent=2))
