"""`opagent logs`, `stop`, `restart`: the life of one agent process."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

import click

from opagent.cli.app import App
from opagent.cli.command import PROCESS, Command, pass_app
from opagent.cli.words import state_word
from opagent.errors import Usage

_EXITS = (0, 1, 2, 4)
_POLL = 0.2  # seconds between two looks at a log that is followed


@click.command(cls=Command, example="opagent logs -f x3k9", exits=(*_EXITS, 130))
@click.argument("process", metavar="ID", type=PROCESS)
@click.option("-f", "--follow", is_flag=True, help="Go on until Ctrl-C.")
@click.option("-n", "--limit", type=click.IntRange(1), default=200, show_default=True, help="The last so many lines.")
@pass_app
def logs(app: App, process: str, follow: bool, limit: int) -> None:
    """What an agent wrote to stderr. ID: a process, a conversation or its file."""
    found = app.ask("process/logs", process=app.name(process), lines=limit)
    if app.out.json:
        app.out.result(found)
    else:
        app.out.stream(found["text"])
        app.out.end_line()
    if follow:
        for piece in _growth(app, str(found["process"]), int(found["size"])):
            app.out.stream(piece)


def _growth(app: App, process: str, at: int) -> Iterator[str]:
    """What is added to a log from a position on, also after it was begun anew; the daemon reads it."""
    while True:
        found = app.ask("process/logs", process=process, after=at)
        at = int(found["size"])
        if found["text"]:
            yield str(found["text"])
        else:
            time.sleep(_POLL)


@click.command(cls=Command, example="opagent stop x3k9", exits=_EXITS)
@click.argument("process", metavar="ID", required=False, type=PROCESS)
@click.option("-a", "--all", "everything", is_flag=True, help="Every agent here.")
@click.option("--force", is_flag=True, help="Kill at once instead of asking first.")
@pass_app
def stop(app: App, process: str | None, everything: bool, force: bool) -> None:
    """Stop an agent and all that it started; the conversation stays. ID: a process, a conversation or its file."""
    if (process is None) == (not everything):
        raise Usage("name one agent, or --all", hint="opagent ps")
    wanted = [app.name(process)] if process is not None else [one["conversation"] for one in app.ask("process/list")["processes"]]
    for ident in wanted:
        _say(app, app.ask("process/stop", process=ident, force=True if force else None))


@click.command(cls=Command, example="opagent restart x3k9", exits=(*_EXITS, 10))
@click.argument("process", metavar="ID", type=PROCESS)
@pass_app
def restart(app: App, process: str) -> None:
    """Start an agent anew, also after it crashed too often. ID: a process, a conversation or its file."""
    _say(app, app.ask("process/restart", process=app.name(process)))


def _say(app: App, process: Mapping[str, Any]) -> None:
    if app.out.json:
        app.out.result({"process": process})
    else:
        app.out.talk(
            f"{process.get('id') or process['conversation']}  {process.get('agent', '')}  {state_word(str(process['state']))}"
        )
