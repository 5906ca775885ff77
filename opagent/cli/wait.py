"""`opagent wait`: returns when the last turn of a conversation has come to a state."""

from __future__ import annotations

import shlex
import time
from typing import Any

import click

from opagent.cli.app import App
from opagent.cli.command import CONVERSATION, EXITS, Command, pass_app
from opagent.cli.turn import ending, waiting
from opagent.cli.workspace import last_conversation
from opagent.errors import ConversationNotFound
from opagent.model import OURS, Event, Kind, TurnState

IDLE = "idle"  # no turn runs or waits
STATES = (IDLE, *(state.value for state in TurnState))


@click.command(cls=Command, example="opagent wait k7q2 --until done --timeout 10m", exits=tuple(EXITS))
@click.argument("conversation", metavar="CONVERSATION", type=CONVERSATION)
@click.option("--until", type=click.Choice(STATES), default=IDLE, show_default=True, help="The state to wait for.")
@pass_app
def wait(app: App, conversation: str, until: str) -> None:
    """Wait until a conversation's last turn is in a state, or has ended; the exit code is that of the turn."""
    ident = _conversation(app, conversation)
    app.client.subscribe(ident, None)
    turns = app.ask("conversation/show", conversation=ident, limit=0)["turns"]  # again: nothing is missed in between
    states: dict[str, dict[str, Any]] = {str(turn["id"]): dict(turn) for turn in turns}
    end = None if app.settings.timeout is None else time.monotonic() + app.settings.timeout
    if not _reached(states, until):
        _look_for_approvals(app, ident, until)
    while not _reached(states, until):
        event = app.client.next_event(None if end is None else max(0.0, end - time.monotonic()))
        if event is None:
            raise app.late(f"opagent wait {ident}")
        if event.kind is Kind.TURN_STATE and event.turn:
            _note(states, event)
        elif event.kind is Kind.APPROVAL_ASKED:
            _look_for_approvals(app, ident, until)
    _tell(app, ident, _last(states), until)


def _note(states: dict[str, dict[str, Any]], event: Event) -> None:
    states.setdefault(str(event.turn), {"id": event.turn}).update(event.body)


def _last(states: dict[str, dict[str, Any]]) -> dict[str, Any] | None:
    return next(reversed(states.values()), None)


def _reached(states: dict[str, dict[str, Any]], until: str) -> bool:
    last = _last(states)
    if last is None:
        return until == IDLE
    return last["state"] == until or all(TurnState(turn["state"]).final for turn in states.values())


def _look_for_approvals(app: App, ident: str, until: str) -> None:
    """Say who waits for whom; where nobody is at the terminal, exit code 9 instead of a wait that only a person could end."""
    for approval in app.ask("approval/list", conversation=ident)["approvals"]:
        if approval["process"] == OURS:
            continue  # its turn has ended
        error = waiting(app, ident, approval)
        if until != TurnState.WAITING.value and not app.interactive:
            raise error
        app.out.talk(f"{error.what}: {error.hint}")


def _tell(app: App, ident: str, last: dict[str, Any] | None, until: str) -> None:
    if app.out.json:
        app.out.result({"conversation": ident, "turn": last})
    elif last is not None:
        app.out.talk(f"{last['id']}: {last['state']}")
    if last is None or last["state"] == until:
        return
    error = ending(app, last, ident)
    if error is not None:
        raise error


def _conversation(app: App, word: str) -> str:
    """Its id; a directory means the conversation that something happened in last."""
    if app.is_directory(path := app.path(word), word):
        found = last_conversation(app, path)
        if found is None:
            raise ConversationNotFound(f"no conversation in {path} yet", hint=app.typed(f"opagent open {shlex.quote(path)}"))
        return str(found["id"])
    shown = app.ask("conversation/show", conversation=app.name(word), path=app.path(None), limit=0, turns=0)
    return str(shown["conversation"]["id"])
