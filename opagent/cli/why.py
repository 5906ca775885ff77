"""`opagent why ID`: who did it, by which rule, on whose word, and what followed."""

from __future__ import annotations

import click

from opagent.cli.app import App
from opagent.cli.command import Command, pass_app
from opagent.cli.words import home_short, state_word


@click.command(cls=Command, example="opagent why p5t2w", exits=(0, 1, 2, 4))
@click.argument("ident", metavar="ID")
@pass_app
def why(app: App, ident: str) -> None:
    """Who did it, by which rule, on whose word, and what followed, from the prompt on."""
    found = app.ask("audit/why", id=ident)
    if app.out.json:
        app.out.result(found)
        return
    first, *rest = str(found["title"]).splitlines() or [""]
    app.out.data(f"{found['id']}   {found['kind']}   {state_word(found['state'])}")
    for line in (first, *rest):
        app.out.data(f"    {line}")
    app.out.data()
    app.out.table(("AT", "WHAT", ""), [(step["at"], step["what"], home_short(step["text"])) for step in found["steps"]])
