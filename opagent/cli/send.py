"""`opagent send`: a turn for an agent that is known already, by directory, conversation or file."""

from __future__ import annotations

import shlex
from typing import Any

import click

from opagent.cli.app import App, request_key
from opagent.cli.command import CONVERSATION, EXITS, Command, pass_app
from opagent.cli.open import one_turn, spoken, told
from opagent.cli.workspace import Wanted, join
from opagent.elsewhere import Elsewhere
from opagent.errors import Usage


@click.command(cls=Command, example='opagent send ./docs "Go on." --no-wait', exits=tuple(EXITS))
@click.argument("target", metavar="TARGET|CONVERSATION", type=CONVERSATION)
@click.argument("text", required=False)
@click.option("--steer", is_flag=True, help="Cancel the running turn and begin with this, before all that waits.")
@click.option("--agent", metavar="NAME", help="Another agent of the binding takes this one turn.")
@click.option("--no-wait", is_flag=True, help="Print the turn's place in the queue and leave.")
@pass_app
def send(app: App, target: str, text: str | None, steer: bool, agent: str | None, no_wait: bool) -> None:
    """Give an agent a turn: a directory (its last conversation), a conversation's file, or an id.

    FILE.md without TEXT sends the draft that stands in the file; TEXT `-` is what is piped in.
    """
    app.streams = not steer
    if text is None and app.is_file(app.path(target)):
        _send_draft(app, target, wait=not no_wait, steer=steer, agent=agent)
        return
    said = spoken(None if text == "-" else text)
    if said is None:
        raise Usage("nothing to send", hint=f'opagent send {shlex.quote(target)} "..."')
    if not steer:
        one_turn(app, join(app, _wanted(app, target), said, follow=not no_wait, guest=agent), wait=not no_wait)
        return
    joined = join(app, _wanted(app, target))
    answer = app.ask("turn/steer", conversation=joined.conversation["id"], text=said, agent=agent, request=request_key())
    if app.out.json:
        app.out.result(answer)
    else:
        app.out.talk(f"{answer['turn']['id']}: {answer['how']}")


def _send_draft(app: App, target: str, wait: bool, **how: Any) -> None:
    """The draft of a conversation's file, whatever gesture stands in it. `how`: parameters of `turn/start`."""
    saved = app.path(target) if app.here else ""
    joined = join(app, Wanted(target))
    if saved and isinstance(app.client, Elsewhere):  # a mirror: what was saved here is sent there, and it has to be there
        app.client.local.request("mirror/settle", {"path": saved})
    conversation = joined.conversation
    if wait:
        app.client.subscribe(conversation["id"], None)
    said = {"conversation": conversation["id"], "request": request_key(), "environment": app.environment()}
    started = app.ask("turn/start", **said, **how)
    told(app, joined, started, wait)


def _wanted(app: App, target: str) -> Wanted:
    """A directory means its last conversation; what is neither that nor a file is an id."""
    path = app.path(target)
    if app.is_directory(path, target) or app.is_file(path):
        return Wanted(target, which="last_or_new")
    return Wanted(conversation=target)
