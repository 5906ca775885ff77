"""`opagent approvals`, `allow`, `deny`: the one inbox of questions that agents wait on."""

from __future__ import annotations

from typing import Any

import click

from opagent.cli.app import App
from opagent.cli.command import Command, Group, pass_app
from opagent.cli.words import age, answered_word, home_short, state_word
from opagent.errors import ApprovalNotFound, Conflict, Usage

COLUMNS = {"ID": "id", "STATE": "state", "ASKED": "asked", "KIND": "kind", "CONVERSATION": "conversation", "WHAT": "what"}
REMEMBERED = {"ID": "id", "EFFECT": "effect", "PATTERN": "pattern", "AGENT": "agent", "FOR": "scope", "WHERE": "workspace",
              "ANSWERED": "at", "BY": "by"}  # fmt: skip
_EXITS = (0, 1, 2, 4)


@click.group(cls=Group, default="list", example="opagent approvals --json")
def approvals() -> None:
    """What waits for your answer."""


@approvals.command("list", example="opagent approvals list -a", exits=(0, 1, 2))
@click.option("-a", "--all", "everything", is_flag=True, help="Also those that are answered.")
@click.option("-n", "--limit", type=click.IntRange(1), help="At most so many, the newest.")
@click.option("--remembered", is_flag=True, help="The answers that are remembered, instead.")
@pass_app
def list_(app: App, everything: bool, limit: int | None, remembered: bool) -> None:
    """List the approvals that wait, here and on the machines that are connected."""
    if remembered:
        _list_remembered(app, limit)
        return
    found = app.ask("approval/list", all=True if everything else None, hosts=True if app.here else None)["approvals"]
    found = found[-limit:] if limit else found
    rows = found
    if app.out.format == "text":
        shown = ({"state": state_word(one["state"]), "asked": age(one["asked_at"]), "what": one["subject"]} for one in found)
        rows = [{**one, **more} for one, more in zip(found, shown, strict=True)]
    columns = ({"HOST": "host"} if any(one.get("host") for one in found) else {}) | COLUMNS
    if app.settings.verbose:
        columns |= {"THE SAME AGAIN": "same", "ONE STEP WIDER": "wider"}
    app.out.records("approvals", rows, columns, "nothing waits for you")


def _list_remembered(app: App, limit: int | None) -> None:
    found = app.ask("approval/remembered")["remembered"]
    found = found[-limit:] if limit else found
    rows = found
    if app.out.format == "text":
        rows = [{**one, "at": age(one["at"]), "workspace": home_short(one["workspace"])} for one in found]
    app.out.records("remembered", rows, REMEMBERED, "no answer is remembered")


@approvals.command("forget", example="opagent approvals forget r12", exits=(0, 1, 2, 4))
@click.argument("idents", metavar="[ID]...", nargs=-1)
@click.option("-a", "--all", "everything", is_flag=True, help="All of them.")
@pass_app
def forget(app: App, idents: tuple[str, ...], everything: bool) -> None:
    """Forget remembered answers: from now on it is asked again. What was done stays done."""
    if everything == bool(idents):
        raise Usage("say which answers, or --all", "", "opagent approvals list --remembered")
    wanted = [one["id"] for one in app.ask("approval/remembered")["remembered"]] if everything else list(idents)
    gone = app.ask("approval/forget", remembered=wanted)["forgotten"]
    if app.out.json:
        app.out.result({"forgotten": gone})
    for one in () if app.out.json else gone:
        app.out.talk(f"{one['id']}: {one['pattern']} is asked again")


@click.command(cls=Command, example="opagent allow p5t2w", exits=_EXITS)
@click.argument("approval", metavar="ID")
@click.option("--once", "scope", flag_value="once", default=True, help="This one time (the default).")
@click.option("--conversation", "scope", flag_value="conversation", help="The same again in this conversation as well.")
@click.option("--binding", "scope", flag_value="binding", help="The same again here, until a rule or the binding changes.")
@click.option("--wider", is_flag=True, help="With one of the two: also what is one step wider, as `approvals` shows it.")
@click.option("--answer", metavar="TEXT", help="The answer to a question: one of its options, or any text where it has none.")
@pass_app
def allow(app: App, approval: str, scope: str, wider: bool, answer: str | None) -> None:
    """Say yes to an approval, or answer a question. The first answer counts."""
    _answer(app, {"approval": approval, "allow": True, "scope": scope, "wider": wider or None, "answer": answer})


@click.command(cls=Command, example='opagent deny p5t2w --reason "use the other file"', exits=_EXITS)
@click.argument("approval", metavar="ID")
@click.option("--reason", metavar="TEXT", help="What the agent is told.")
@click.option("--once", "scope", flag_value="once", default=True, help="This one time (the default).")
@click.option("--conversation", "scope", flag_value="conversation", help="The same again in this conversation as well.")
@click.option("--binding", "scope", flag_value="binding", help="The same again here, until a rule or the binding changes.")
@pass_app
def deny(app: App, approval: str, reason: str | None, scope: str) -> None:
    """Say no to an approval, or decline a question. The first answer counts."""
    _answer(app, {"approval": approval, "allow": False, "reason": reason, "scope": scope})


def _answer(app: App, params: dict[str, object]) -> None:
    answered = _answered(app, params)
    if app.out.json:
        app.out.result({"approval": answered})
    else:
        at = f" on {app.machine}" if app.machine else ""
        app.out.talk(f"{answered['id']}{at}: {answered_word(answered, answered['state'])}")
        for kept in answered.get("remembered", []):
            where = "in this conversation" if kept["scope"] == "conversation" else "here, until a rule changes"
            hint = app.typed(f"opagent approvals forget {kept['id']}")
            app.out.talk(f"  {kept['effect']} {where}: {kept['pattern']}   (take it back: {hint})")


def _answered(app: App, params: dict[str, object]) -> dict[str, Any]:
    """An approval that is not of this machine may wait on one that is connected."""
    try:
        return app.ask("approval/answer", **params)
    except ApprovalNotFound:
        if not app.here:
            raise
        hosts = app.ask("approval/find", approval=params["approval"])["hosts"]
        if not hosts:
            raise
        if len(hosts) > 1:
            what = f"{params['approval']} waits on several machines"
            raise Conflict(what, ", ".join(hosts), f"opagent --host {hosts[0]} approvals") from None
    app.move(hosts[0])
    return app.ask("approval/answer", **params)
