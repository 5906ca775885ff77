"""`opagent host list|add|check|upgrade|forget|mirrors|unmirror`: other machines. `~/.ssh/config` says how they are reached."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from typing import Any

import click

from opagent.cli.app import App
from opagent.cli.command import Command, Group, machines, mirrors, pass_app
from opagent.cli.crossing import person
from opagent.cli.words import age
from opagent.elsewhere import FOREVER, dialing
from opagent.errors import HostUnreachable, NotFound, Usage

_EXITS = (0, 1, 2, 7)
_SYMBOLS = {True: "✓ ok", False: "✗ failed", None: "! look"}
_MIRRORS = {"DIRECTORY": "directory", "OF": "of", "LINK": "link", "FILES": "files", "WAITING": "waits", "PROBLEM": "problem"}
_COLUMNS = {
    "NAME": "name", "LINK": "state", "SINCE": "since", "TARGET": "target", "BY": "transport", "VERSION": "version",
    "SEEN": "seen",
}  # fmt: skip


@click.group(cls=Group, default="list", example="opagent host check gpu1")
def host() -> None:
    """Other machines: an alias of your ssh configuration works without being added here."""


@host.command("list", cls=Command, example="opagent host list --json", only_here=True)
@pass_app
def list_(app: App) -> None:
    """The machines that were reached or added, and the state of the link to each; dials none."""
    _here(app, "list")
    found = app.ask("host/list")["hosts"]
    rows = [_readable(each) for each in found] if app.out.format == "text" else found
    app.out.records("hosts", rows, _COLUMNS, "no other machine is known")
    for each in found if app.out.format == "text" else ():
        if each.get("journal"):
            app.out.talk(f"{each['name']}: its record went back: {each['journal']}")


def _readable(one: Mapping[str, Any]) -> dict[str, Any]:
    moments = {key: age(str(one[key])) if one.get(key) else "" for key in ("since", "seen")}
    return {**one, **moments, "version": (one.get("facts") or {}).get("version", "")}


@host.command(cls=Command, example="opagent host add box --command 'docker exec -i box'", only_here=True)
@click.argument("name")
@click.argument("target", required=False)
@click.option("--transport", type=click.Choice(["asyncssh", "openssh"]), help="How to dial; otherwise what fits.")
@click.option("--command", "words", metavar="WORDS", help="Reach it by a command that gives the stdio of a program there.")
@click.option(
    "--python",
    metavar="PATH|auto|ARCHIVE",
    help="A Python there, tried first; or, copied there where none will do: what uv fetches here, or a .tar.gz on this machine.",
)
@pass_app
def add(app: App, name: str, target: str | None, transport: str | None, words: str | None, python: str | None) -> None:
    """Keep a NAME for a machine, [user@]host[:port], and how it is reached; again: change what is said. `host check` dials it."""
    _here(app, "add", name)
    from opagent.remote import portable  # slow to import

    if python and portable.is_archive(python):
        python = os.path.abspath(os.path.expanduser(python))
    try:
        command = shlex.split(words or "")
    except ValueError as error:
        raise Usage("the command cannot be read", str(error), "opagent host add --help") from error
    answer = app.ask("host/add", name=name, target=target, transport=transport, command=command or None, python=python)
    added = answer["host"]
    if app.out.json:
        app.out.result({"host": added})
    else:
        app.out.talk(f"{added['name']} is known now; look at it: opagent host check {added['name']}")
        if answer.get("note"):
            app.out.talk(f"note: {answer['note']}")


@host.command(cls=Command, example="opagent host check gpu1", exits=_EXITS)
@click.argument("machine", shell_complete=machines)
@pass_app
def check(app: App, machine: str) -> int:
    """Reach a machine and say step by step what works there and what does not. Exit code 7 where it cannot be used."""
    steps = _there(app, "host/check", machine)["steps"]
    if app.out.json:
        app.out.result({"steps": steps})
    for step in () if app.out.json else steps:
        app.out.data(f"{_SYMBOLS.get(step.get('ok'), '! look'):10} {step.get('name', '')!s:16} {step.get('sentence', '')}")
        if step.get("hint") and not step.get("ok"):
            app.out.data(f"{'':27} try: {step['hint']}")
    return HostUnreachable.exit if any(step.get("ok") is False for step in steps) else 0


@host.command(cls=Command, example="opagent host upgrade gpu1", exits=_EXITS)
@click.argument("machine", shell_complete=machines)
@click.option("--now", is_flag=True, help="Also while turns run there: they are interrupted.")
@pass_app
def upgrade(app: App, machine: str, now: bool) -> None:
    """Let the daemon there run this version: at once where it is idle; else say what it waits for."""
    _say(app, {"report": _there(app, "host/upgrade", machine, now=now)["report"]}, f"{machine} was asked to run this version")


@host.command(cls=Command, example="opagent host forget gpu1 --purge", exits=_EXITS)
@click.argument("machine", shell_complete=machines)
@click.option("--purge", is_flag=True, help="First remove everything of OpAgent there, but for conversations and bindings.")
@click.option("--force", is_flag=True, help="With --purge: also while turns run there.")
@pass_app
def forget(app: App, machine: str, purge: bool, force: bool) -> None:
    """Forget a machine here; its directories, its conversations and your known_hosts stay."""
    if force and not purge:
        raise Usage("--force says how to purge", hint=f"opagent host forget {shlex.quote(machine)} --purge --force")
    _here(app, "forget", machine)
    if purge and not app.confirm(f"Remove OpAgent, its logs and its database from {machine}?"):
        raise Usage("nothing was removed", "nobody said yes", f"opagent host forget {shlex.quote(machine)} --purge --yes")
    answer = _there(app, "host/forget", machine, purge=purge, force=force)
    _say(app, answer, f"{machine} is forgotten" if answer["forgotten"] or purge else f"{machine} was not known")


@host.command("mirrors", cls=Command, example="opagent host mirrors --json", only_here=True)
@pass_app
def mirrors_(app: App) -> None:
    """The directories here that hold conversation files of another machine, and what of them is not in step; dials none."""
    _here(app, "mirrors")
    found = app.ask("mirror/list")["mirrors"]
    rows = [_mirror(each) for each in found] if app.out.format == "text" else found
    app.out.records("mirrors", rows, _MIRRORS, "no directory here is a mirror")


def _mirror(one: Mapping[str, Any]) -> dict[str, Any]:
    problem = next((str(each["problem"]) for each in one["problems"]), "")
    link = "connected" if one["connected"] else "down"
    return {**one, "of": f"{one['machine']}:{one['path']}", "link": link, "waits": len(one["waiting"]), "problem": problem}


@host.command(cls=Command, example="opagent host unmirror docs-on-gpu1", exits=(0, 1, 2, 4), only_here=True)
@click.argument("directory", shell_complete=mirrors)
@pass_app
def unmirror(app: App, directory: str) -> None:
    """Let a directory be a mirror no longer: its files stay, here and there, and go nowhere any more."""
    _here(app, "unmirror", directory)
    path = os.path.realpath(os.path.expanduser(directory))
    answer = app.ask("mirror/close", directory=path)
    if not answer["closed"]:
        raise NotFound(f"{path} is no mirror", hint="opagent host mirrors")
    if app.out.json:
        app.out.result(answer)
        return
    app.out.talk(f"{path} is a mirror no longer; its files stay")
    for waiting in answer["waiting"]:
        app.out.talk(f"note: what was saved last in {waiting} never reached the other machine")


def _there(app: App, method: str, machine: str, **more: Any) -> dict[str, Any]:
    """Asked of the daemon here, which dials; a person may be asked meanwhile."""
    _here(app, method.removeprefix("host/"), machine)
    said = {"machine": machine, "asks": app.interactive, **dialing(), **more}
    with person(app):
        return app.client.request(method, said, app.settings.timeout or FOREVER)


def _here(app: App, *words: str) -> None:
    app.only_here("other machines are known", shlex.join(["opagent", "host", *words]))


def _say(app: App, answer: Mapping[str, Any], sentence: str) -> None:
    if app.out.json:
        app.out.result(answer)
        return
    report = answer.get("report")
    for key, value in (report if isinstance(report, dict) else {}).items():
        for each in value if isinstance(value, list) else [value]:
            app.out.data(f"{key}: {each}")
    app.out.talk(sentence)
