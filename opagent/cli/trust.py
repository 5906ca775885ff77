"""`opagent trust`: shows exactly what a binding would do, and lets a person at a terminal say yes. Never without one."""

from __future__ import annotations

import shlex

import click

from opagent.cli.app import App
from opagent.cli.command import TARGET, Command, pass_app
from opagent.cli.words import age, state_word
from opagent.cli.workspace import trusted
from opagent.errors import NotTrusted

COLUMNS = {"STATE": "state", "SINCE": "when", "DIGEST": "short", "DIRECTORY": "path"}


@click.command(cls=Command, example="opagent trust ./docs", exits=(0, 1, 2, 4, 6))
@click.argument("target", required=False, type=TARGET)
@click.option("--agent", metavar="NAME", help="With this agent, as in `open --agent NAME`.")
@click.option("--show", "action", flag_value="show", help="Only show the question.")
@click.option("--diff", "action", flag_value="diff", help="Only show what changed since the last yes.")
@click.option("--deny", "action", flag_value="deny", help="Say no for good; edits of the file do not ask again.")
@click.option("--revoke", "action", flag_value="revoke", help="Forget the answer.")
@click.option("--list", "action", flag_value="list", help="What was answered so far.")
@pass_app
def trust(app: App, target: str | None, agent: str | None, action: str | None) -> None:
    """Let the binding of a directory act: a person reads what it would do and says yes."""
    if action == "list":
        _list(app)
    elif action in ("deny", "revoke"):
        answer = app.ask(f"trust/{action}", path=app.path(target), agent=agent, environment=app.environment())
        app.out.talk(f"{answer['path']}: {state_word(answer['state'])}")
    else:
        question(app, app.path(target), agent, action)


def question(app: App, path: str, agent: str | None, action: str | None) -> None:
    shown = app.ask("trust/show", path=path, agent=agent, environment=app.environment())
    if app.out.json:
        app.out.result(shown)
        return
    if action == "diff":
        app.out.data(str(shown.get("difference") or "nothing has changed"))
        return
    if action == "show" or shown["state"] in ("allowed", "unneeded"):
        for line in shown["question"]:
            app.out.data(str(line))
        app.out.talk(f"{shown['path']}: {state_word(shown['state'])}")
        return
    if not app.interactive:
        why, hint = "only a person at a terminal can say yes", app.typed(f"opagent trust {shlex.quote(path)}")
        raise NotTrusted(f"{shown['path']} is not trusted", why, hint)
    if not trusted(app, path, agent):
        raise NotTrusted(f"{shown['path']} is not trusted", "the answer was no")
    app.out.talk(f"{shown['path']}: {state_word('allowed')}")


def _list(app: App) -> None:
    found = app.ask("trust/list")["records"]
    rows = found
    if app.out.format == "text":
        rows = [{**one, "state": state_word(one["state"]), "when": age(one["at"]), "short": one["digest"][:12]} for one in found]
    app.out.records("records", rows, COLUMNS, "no binding has been judged yet")
