"""`opagent runtime list`: what is known, what is installed."""

from __future__ import annotations

import click

from opagent.cli.app import App
from opagent.cli.command import Command, pass_app
from opagent.packages import catalog

_COLUMNS = {"NAME": "name", "VERSION": "version", "FROM": "source", "ABOUT": "about"}


@click.command("list", cls=Command, example="opagent runtime list --json")
@pass_app
def list_(app: App) -> None:
    """The runtimes that are known here: installed ones, your own, and those that OpAgent brings along or can install."""
    rows = []
    for entry in catalog.entries():
        spec = catalog.read(entry)
        rows.append({"name": spec.name, "version": spec.version, "source": entry.source, "about": spec.about})
    app.out.records("runtimes", rows, _COLUMNS, "no runtime is known")
