"""`opagent why ID|PATH`: who did it, by which rule, on whose word, and what followed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

import click

from opagent.cli.app import App
from opagent.cli.command import TARGET, Command, pass_app
from opagent.cli.words import home_short, state_word
from opagent.errors import NotFound


@click.command(cls=Command, example="opagent why ./notes.md", exits=(0, 1, 2, 4))
@click.argument("ident", metavar="ID|PATH", type=TARGET)
@pass_app
def why(app: App, ident: str) -> None:
    """Who did it, by which rule, on whose word, and what followed, from the prompt on.

    ID is an approval, a remembered answer (r12), a call (c4k2w) or a number of `opagent audit`, PATH a file: its last change.
    What an agent of this machine called for on another one (--host) is followed back to the prompt here.
    """
    found = app.ask("audit/why", id=_meant(app, ident))
    found["steps"] = [*_before(app, found["steps"]), *found["steps"]]
    if app.out.json:
        app.out.result(found)
        return
    first, *rest = str(found["title"]).splitlines() or [""]
    app.out.data(f"{found['id']}   {found['kind']}   {state_word(found['state'])}")
    for line in (first, *rest):
        app.out.data(f"    {line}")
    app.out.data()
    app.out.table(("AT", "WHAT", ""), [(step["at"], step["what"], _text(step)) for step in found["steps"]])


def _before(app: App, steps: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What led to it on this machine, where an agent here called for it."""
    from opagent.elsewhere import Elsewhere

    there = app.client
    if not isinstance(there, Elsewhere):
        return []
    came = [step["there"] for step in steps if step.get("there", {}).get("host") == there.local.host]
    if not came or not re.fullmatch("c[a-z0-9]+", str(came[0].get("call"))):  # it is the word of another machine
        return []
    try:
        found = there.local.request("audit/why", {"id": came[0]["call"]})["steps"]
    except NotFound:  # the record here has been purged, or the other machine made it up
        return []
    return [step | {"here": True} for step in found]


def _text(step: Mapping[str, Any]) -> str:
    return ("here: " if step.get("here") else "") + home_short(str(step["text"]))


def _meant(app: App, word: str) -> str:
    """The real path of a file, which may be gone; else the id as it is."""
    if os.sep not in word and "." not in word and not os.path.lexists(word):
        return word
    path = app.path(word)
    return os.path.realpath(path) if app.here else path
