"""`opagent notes`: what the agents of a directory share in Markdown; agents have the same command."""

from __future__ import annotations

import os

import click

from opagent import paths
from opagent.cli.app import App
from opagent.cli.command import Command, Group, pass_app
from opagent.cli.open import spoken
from opagent.errors import Usage

COLUMNS = {"NOTE": "path", "BYTES": "size", "DIRECTORY": "directory"}


@click.group(cls=Group, default="read", example='opagent notes write plan "# Plan"')
def notes() -> None:
    """Notes that the agents of a directory share: Markdown in .opagent/notes/. Those of directories above can be read, too."""


@notes.command(cls=Command, example="opagent notes read plan", exits=(0, 1, 2, 4))
@click.argument("name", required=False, metavar="[NAME]")
@pass_app
def read(app: App, name: str | None) -> None:
    """Print a note, or list them all."""
    if os.environ.get(paths.TOOLS):
        _as_agent(app, ["read", *([name] if name else [])])
    found = app.ask("notes/read", path=app.path(None), note=name, environment=app.environment())
    if name is None:
        app.out.records("notes", found["notes"], COLUMNS, "no notes yet")
    elif app.out.json:
        app.out.result(found)
    else:
        app.out.data(str(found["text"]).rstrip("\n"))


@notes.command(cls=Command, example='opagent notes write plan "# Plan"', exits=(0, 1, 2, 4, 5))
@click.argument("name", metavar="NAME")
@click.argument("text", required=False)
@pass_app
def write(app: App, name: str, text: str | None) -> None:
    """Write the whole note; TEXT `-`, or none, is what is piped in."""
    words = spoken(None if text in (None, "-") else text)
    if words is None:
        raise Usage("nothing to write", "", f'opagent notes write {name} "..."')
    if os.environ.get(paths.TOOLS):
        _as_agent(app, ["write", name, words])
    found = app.ask("notes/write", path=app.path(None), note=name, text=words, environment=app.environment())
    if app.out.json:
        app.out.result(found)
    else:
        app.out.talk(f"{found['path']}: {found['size']} bytes in {found['directory']}")


def _as_agent(app: App, words: list[str]) -> None:
    from opagent.process import toolbox

    raise click.exceptions.Exit(toolbox.main(os.environ[paths.TOOLS], ["notes", *(["--json"] if app.out.json else []), *words]))
