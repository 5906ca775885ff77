"""`opagent runtime new`: the folder of a new agent in a language of yours; it runs as it is."""

from __future__ import annotations

from pathlib import Path

import click

from opagent.cli.app import App
from opagent.cli.command import Command, pass_app
from opagent.errors import Usage
from opagent.packages import starter


@click.command(cls=Command, example="opagent runtime new my-agent --language go", exits=(0, 1, 2), only_here=True)
@click.argument("name")
@click.argument("folder", metavar="[DIR]", required=False, type=click.Path())
@click.option(
    "--language", "-l", type=click.Choice(starter.LANGUAGES), default="python", show_default=True, help="Of the program."
)
@pass_app
def new(app: App, name: str, folder: str | None, language: str) -> None:
    """Write a new agent: a folder NAME with runtime.yaml, README.md and one short program that speaks the protocol.

    The folder is made where your own runtimes are found, or in DIR.
    """
    parent = app.path(folder) if folder is not None else None
    if not app.here:
        raise Usage("a runtime is written on this machine", "on another one it is installed", f"opagent runtime new {name}")
    made = starter.write(name, language, parent)
    if app.out.json:
        app.out.result({"folder": str(made.folder), "files": list(made.files), "next": made.next})
        return
    for file in made.files:
        app.out.data(str(Path(made.folder) / file))
    app.out.talk(f"now: {made.next}")
