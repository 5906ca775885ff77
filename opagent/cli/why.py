"""`opagent why ID|PATH`: who did it, by which rule, on whose word, and what followed."""

from __future__ import annotations

import os

import click

from opagent.cli.app import App
from opagent.cli.command import TARGET, Command, pass_app
from opagent.cli.words import home_short, state_word


@click.command(cls=Command, example="opagent why ./notes.md", exits=(0, 1, 2, 4))
@click.argument("ident", metavar="ID|PATH", type=TARGET)
@pass_app
def why(app: App, ident: str) -> None:
    """Who did it, by which rule, on whose word, and what followed, from the prompt on.

    ID is an approval, a remembered answer (r12) or a number of `opagent audit`, PATH a file: its last change.
    """
    found = app.ask("audit/why", id=_meant(app, ident))
    if app.out.json:
        app.out.result(found)
        return
    first, *rest = str(found["title"]).splitlines() or [""]
    app.out.data(f"{found['id']}   {found['kind']}   {state_word(found['state'])}")
    for line in (first, *rest):
        app.out.data(f"    {line}")
    app.out.data()
    app.out.table(("AT", "WHAT", ""), [(step["at"], step["what"], home_short(step["text"])) for step in found["steps"]])


def _meant(app: App, word: str) -> str:
    """The real path of a file, which may be gone; else the id as it is."""
    if os.sep not in word and "." not in word and not os.path.lexists(word):
        return word
    path = app.path(word)
    return os.path.realpath(path) if app.here else path
