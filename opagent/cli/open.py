"""`opagent open`: one turn with -m or piped text, the chat on a terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

import click

from opagent.cli.app import App
from opagent.cli.command import CONVERSATION, EXITS, TARGET, Command, pass_app
from opagent.cli.workspace import Joined, Wanted, join, opened
from opagent.elsewhere import Elsewhere
from opagent.errors import Usage

TEXT_LIMIT = 8 * 2**20  # bytes of one prompt


@click.command("open", cls=Command, example='opagent open ./docs -m "What is missing?"', exits=tuple(EXITS))
@click.argument("target", required=False, type=TARGET)
@click.option("-m", "--message", metavar="TEXT", help="One turn: print the answer and leave. Piped text does the same.")
@click.option("--stdin", "piped", is_flag=True, help="With -m: piped text follows TEXT after a blank line.")
@click.option("--new", is_flag=True, help="A new conversation (the default).")
@click.option("--last", is_flag=True, help="The conversation that was used last.")
@click.option("--conversation", metavar="ID", type=CONVERSATION, help="That one: id, unique prefix or file.")
@click.option("--agent", metavar="NAME", help="Another agent of the binding, or one without a binding.")
@click.option("--no-wait", is_flag=True, help="Do not wait for the answer.")
@click.option("--mirror", metavar="DIR", help="The conversation files of a directory elsewhere also stand in DIR, kept in step.")
@pass_app
def open_(app: App, /, message: str | None, piped: bool, no_wait: bool, mirror: str | None, **said: Any) -> None:
    """Start or join the agent of a directory (or of a conversation FILE.md) and talk to it."""
    app.streams = True
    wanted = Wanted(**said)
    if mirror is not None and app.path(wanted.target) and app.here:
        raise Usage("--mirror is for a directory on another machine", hint="opagent open HOST:DIR --mirror DIR")
    text = spoken(message, piped)
    if text is None and (app.out.json or not app.interactive):
        raise Usage("nothing to say", "no terminal, no text on stdin, no -m", 'opagent open . -m "..."')
    if mirror is not None:
        _mirror(app, wanted, mirror)  # before anything is said: it may be refused
    if text is None:
        from opagent.cli.chat import chat

        chat(app, join(app, wanted))
        return
    one_turn(app, join(app, wanted, text, follow=not no_wait), wait=not no_wait)


def _mirror(app: App, wanted: Wanted, directory: str) -> None:
    """Raises Conflict where it is the mirror of another directory."""
    workspace = opened(app, wanted)
    if not isinstance(app.client, Elsewhere):
        return
    path = os.path.abspath(os.path.expanduser(directory))
    said = {"directory": path, "machine": app.machine, "path": workspace["workspace"]}
    app.client.local.request("mirror/open", said)
    if not app.out.json:
        app.out.talk(f"its conversation files also stand in {path}")


def spoken(message: str | None, piped: bool = False) -> str | None:
    """The text of one turn: from -m, all that is piped in, or both (`piped`); None when a person sits there.

    With a message stdin is read only when somebody says so: a loop or a service has other plans with it. Raises Usage for none.
    """
    if message is None:
        if sys.stdin is None or sys.stdin.isatty():
            return None
        message = sys.stdin.buffer.read().decode(errors="replace")
    elif piped:
        message = f"{message}\n\n{sys.stdin.buffer.read().decode(errors='replace')}"
    if not message.strip():
        raise Usage("the message is empty", hint='opagent open . -m "..."')
    if len(message.encode(errors="replace")) > TEXT_LIMIT:
        raise Usage(
            "the message is too long", f"at most {TEXT_LIMIT // 2**20} MiB", "put it into a file of the directory and name it"
        )
    return message


def one_turn(app: App, joined: Joined, wait: bool) -> None:
    """Follow the turn that was started to its end, or say where it stands in the queue."""
    conversation = joined.conversation
    if app.out.json:
        facts = {"seq": 0, "host": app.client.host, "conversation": conversation["id"], "type": "opened"}
        app.out.item({**facts, "path": conversation["path"], "workspace": joined.workspace})
    else:
        app.out.talk(f"{joined.file} · {conversation['agent']}")
        for notice in joined.workspace.get("notices") or ():
            app.out.talk(str(notice))
    assert joined.started is not None
    told(app, joined, joined.started, wait)


def told(app: App, joined: Joined, started: Mapping[str, Any], wait: bool) -> None:
    """Follow a turn that was started to its end, or say where it stands in the queue."""
    conversation = joined.conversation
    if wait:
        from opagent.cli import turn

        turn.follow(app, conversation, started)
    elif app.out.json:
        app.out.item({"conversation": conversation["id"], "type": "queued", **started})
    else:
        app.out.data(f"{started['turn']['id']}  place {started['place']}")
