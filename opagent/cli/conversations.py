"""`opagent conversations list|show|new|fork|rebuild|queue`: the conversation files and their logs.

Its subcommands import, export and merge have modules of their own.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import click

from opagent.cli.app import App
from opagent.cli.branches import merge
from opagent.cli.command import CONVERSATION, TARGET, Group, pass_app
from opagent.cli.exporting import export
from opagent.cli.importing import import_
from opagent.cli.words import age, home_short, state_word

COLUMNS = {"ID": "id", "AGENT": "agent", "STATE": "state", "TURNS": "turns", "UPDATED": "when", "TITLE": "name", "FILE": "path"}
QUEUE = {"ID": "id", "STATE": "state", "QUEUED": "when", "AUTHOR": "author", "TEXT": "text"}
TURNS_SHOWN = 10
_TITLE = 40  # characters
_EXITS = (0, 1, 2, 4)


@click.group(cls=Group, default="list", example="opagent conversations list -a")
def conversations() -> None:
    """The conversation files and their logs."""


@conversations.command("list", example="opagent conversations list --json")
@click.argument("target", required=False, type=TARGET)
@click.option("-a", "--all", "everything", is_flag=True, help="Of every workspace, not only of this one.")
@click.option("-n", "--limit", type=click.IntRange(1), help="At most so many.")
@pass_app
def list_(app: App, target: str | None, everything: bool, limit: int | None) -> None:
    """List the conversations of a directory, the one that was used last at the end."""
    if everything:
        found = app.ask("conversation/list", all=True, limit=limit)["conversations"]
    else:
        found = app.ask_about("conversation/list", app.path(target), limit=limit)["conversations"]
    found = sorted(found, key=lambda one: str(one.get("updated") or one.get("created") or ""))
    rows = found if app.out.format != "text" else [_readable(one) for one in found]
    app.out.records("conversations", rows, COLUMNS, "no conversations yet")


@conversations.command("show", example="opagent conversations show k7q2 --json", exits=_EXITS)
@click.argument("conversation", metavar="ID", type=CONVERSATION)
@click.option("-n", "--limit", type=click.IntRange(1), help="At most so many events.")
@pass_app
def show(app: App, conversation: str, limit: int | None) -> None:
    """What is known of a conversation: its file, its turns; with --json its events too."""
    found = app.ask("conversation/show", conversation=app.name(conversation), path=app.path(None), limit=limit)
    if app.out.json:
        app.out.result(found)
        return
    for name in ("id", "title", "agent", "state", "created", "path", "workspace"):
        app.out.data(f"{name:10}{found['conversation'].get(name) or '-'}")
    app.out.data()
    _turns(app, found["turns"][-TURNS_SHOWN:])


@conversations.command("new", example="opagent conversations new ./docs", exits=(0, 1, 2, 4, 6))
@click.argument("target", required=False, type=TARGET)
@click.option("--agent", metavar="NAME", help="Another agent of the binding.")
@click.option("--title", metavar="TEXT", help="The title, from which the file gets its name.")
@pass_app
def new(app: App, target: str | None, agent: str | None, title: str | None) -> None:
    """Begin a conversation and print its file."""
    path = app.path(target)
    created = app.ask_about("conversation/create", path, agent=agent, title=title)
    if app.out.json:
        app.out.result({"conversation": created})
    else:
        app.out.data(created["id"] if app.out.format == "ids" else created["path"])


@conversations.command("fork", example="opagent conversations fork k7q2 --at a8c2d", exits=_EXITS)
@click.argument("conversation", metavar="ID", type=CONVERSATION)
@click.option("--at", "turn", metavar="TURN", help="The last turn that the fork has; unsaid: the last one that has ended.")
@pass_app
def fork(app: App, conversation: str, turn: str | None) -> None:
    """Begin a conversation with the turns of another one, and print its file."""
    forked = app.ask("conversation/fork", conversation=app.name(conversation), turn=turn)
    if app.out.json:
        app.out.result({"conversation": forked})
    else:
        app.out.data(forked["id"] if app.out.format == "ids" else forked["path"])


@conversations.command("rebuild", example="opagent conversations rebuild k7q2", exits=_EXITS)
@click.argument("conversation", metavar="ID", type=CONVERSATION)
@pass_app
def rebuild(app: App, conversation: str) -> None:
    """Write the file anew from the log; what stood there is kept beside it."""
    found = app.ask("conversation/rebuild", conversation=app.name(conversation), path=app.path(None))
    if app.out.json:
        app.out.result(found)
        return
    app.out.data(found["conversation"]["path"])
    if found.get("saved"):
        app.out.talk(f"what stood there before: {found['saved']}")


@conversations.command("queue", example="opagent conversations queue k7q2", exits=_EXITS)
@click.argument("conversation", metavar="ID", type=CONVERSATION)
@click.option("--remove", metavar="TURN", help="Take a turn out that has not begun.")
@pass_app
def queue(app: App, conversation: str, remove: str | None) -> None:
    """The turns that run and wait, and the draft of the file where it is to be sent."""
    if remove is not None:
        removed = app.ask("queue/remove", turn=remove)
        app.out.talk(f"removed {remove}: {removed['state']}")
    answer = app.ask("queue/list", conversation=app.name(conversation))
    turns, draft = answer["turns"], answer.get("draft", {})
    if "since" in draft:
        waits = {"id": "draft", "state": "queued", "queued_at": draft["since"], "author": "file", "text": draft["text"]}
        turns.insert(draft["place"], waits)
    _turns(app, turns)
    if "refused" in draft:
        app.out.talk(f"the draft is not sent: {draft['refused']}")


for command in (import_, export, merge):
    conversations.add_command(command)


def _turns(app: App, found: list[dict[str, Any]]) -> None:
    rows = found
    if app.out.format == "text":
        rows = [{**one, "state": state_word(one["state"]), "when": age(one["queued_at"])} for one in found]
    app.out.records("turns", rows, QUEUE, "no turns")


def _readable(one: Mapping[str, Any]) -> dict[str, Any]:
    when = one.get("updated") or one.get("created")
    return {
        **one,
        "state": state_word(str(one.get("state", ""))),
        "when": age(str(when)) if when else "-",
        "name": str(one.get("title") or os.path.basename(str(one.get("path", ""))).removesuffix(".md"))[:_TITLE],
        "path": home_short(str(one.get("path", ""))),
    }
