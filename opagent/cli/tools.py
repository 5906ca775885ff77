"""`opagent tools`: the MCP servers of a directory, which of their tools an agent gets, and a person's word on the others."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

import click

from opagent.cli.app import App
from opagent.cli.command import TARGET, Group, pass_app
from opagent.cli.words import home_short, state_word
from opagent.errors import NotFound, Usage

COLUMNS = ("TOOL", "STATE", "EFFECT", "BY", "DESCRIPTION")
_HIDDEN = ("new", "changed", "invisible")
_LONG = 60  # characters of a description in a row


@click.group(cls=Group, default="list", example="opagent tools")
def tools() -> None:
    """The MCP servers of a directory, and which of their tools its agents get."""


@tools.command("list", example="opagent tools list ./docs", exits=(0, 1, 2))
@click.argument("target", required=False, type=TARGET)
@pass_app
def list_(app: App, target: str | None) -> None:
    """Each tool with its state, what becomes of a call, and by which rule. A new or changed one is hidden until it is allowed."""
    found = app.ask("tool/list", path=app.path(target), environment=app.environment())
    if app.out.json:
        app.out.result(found)
        return
    for server in found["servers"]:
        app.out.data(_head(server))
        rows = [_row(server["name"], tool) for tool in server["tools"]]
        if rows:
            app.out.table(COLUMNS, rows)
        app.out.data()
    if not found["servers"]:
        app.out.talk("the binding names no tools")
    if waiting := [f"{server['name']}/{tool['name']}" for server in found["servers"] for tool in _hidden(server)]:
        where = "" if target is None and app.here else f" -C {shlex.quote(found['workspace'])}"
        app.out.talk(f"hidden until you allow them; read one: {app.typed(f'opagent tools show {waiting[0]}{where}')}")


def _head(server: Mapping[str, Any]) -> str:
    what = server.get("url") or shlex.join(map(str, server.get("command", [])))
    state = "" if server["started"] else "   not started yet: its tools are not known"
    gone = "" if server["bound"] else "   the binding does not name it any more"
    problem = f"   {server['problem']}" if server.get("problem") else ""
    runs = f"   runs as {', '.join(server['running'])}" if server["running"] else ""
    return f"{server['name']}   {what}   {home_short(str(server['origin']))}{runs}{state}{gone}{problem}".rstrip()


def _row(server: str, tool: Mapping[str, Any]) -> tuple[str, str, str, str, str]:
    words = str(tool["description"]).replace("<U+000A>", " ")
    short = words if len(words) <= _LONG else words[:_LONG] + " ..."
    state = "hidden: " + tool["state"] if tool["state"] in _HIDDEN else state_word(str(tool["state"]))
    return f"{server}/{tool['name']}", state, str(tool["effect"]), home_short(str(tool["rule"])), short


def _hidden(server: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    return (tool for tool in server["tools"] if tool["state"] in _HIDDEN)


@tools.command("show", example="opagent tools show github/create_issue", exits=(0, 1, 2, 4))
@click.argument("tool", metavar="SERVER/TOOL")
@pass_app
def show(app: App, tool: str) -> None:
    """One tool as its server describes it, and how that differs from what was allowed; nothing in it is invisible."""
    found = next(iter(_chosen(app, (tool,))[1].values()))[0]
    if app.out.json:
        app.out.result({"tool": found})
        return
    state = "hidden: " + found["state"] if found["state"] in _HIDDEN else state_word(found["state"])
    app.out.data(f"{tool}   {state}   {found['effect']} by {home_short(found['rule'])}   allowed by {found['by']}")
    for line in str(found["description"]).split("<U+000A>"):
        app.out.data(f"  {line}".rstrip())
    for line in found.get("difference", []):
        app.out.data(line)


@tools.command("allow", example="opagent tools allow github/create_issue", exits=(0, 1, 2, 4))
@click.argument("names", metavar="SERVER[/TOOL]...", nargs=-1, required=True)
@pass_app
def allow(app: App, names: tuple[str, ...]) -> None:
    """Let agents use hidden tools as they are now: one, or all that are hidden of a server. Rules of can.mcp still count."""
    path, chosen = _chosen(app, names, hidden=True)
    wanted = {server: {tool["name"]: tool["digest"] for tool in found} for server, found in chosen.items()}
    answer = app.ask("tool/allow", path=path, tools=wanted, environment=app.environment())
    if app.out.json:
        app.out.result({"allowed": answer["allowed"]})
        return
    for name in answer["allowed"]:
        app.out.talk(f"{name}: {state_word('allowed')}")
    if not answer["allowed"]:
        app.out.talk("nothing of it is hidden")


@tools.command("forget", example="opagent tools forget github", exits=(0, 1, 2, 4))
@click.argument("server", metavar="[SERVER]", required=False)
@click.option("-a", "--all", "everything", is_flag=True, help="Of all servers.")
@pass_app
def forget(app: App, server: str | None, everything: bool) -> None:
    """Forget what was allowed: at its next start the tools of a server count as they are then."""
    if everything == (server is not None):
        raise Usage("say which server, or --all", "", "opagent tools")
    answer = app.ask("tool/forget", path=app.path(None), server=server, environment=app.environment())
    if app.out.json:
        app.out.result({"forgotten": answer["forgotten"]})
    else:
        app.out.talk(f"forgotten: {answer['forgotten']} of the servers of {home_short(answer['workspace'])}")


def _chosen(app: App, names: tuple[str, ...], hidden: bool = False) -> tuple[str, dict[str, list[Mapping[str, Any]]]]:
    """The tools that are named, by server; of a server alone those that are hidden. Raises NotFound."""
    path = app.path(None)
    found = app.ask("tool/list", path=path, environment=app.environment())
    known = {server["name"]: server for server in found["servers"]}
    chosen: dict[str, list[Mapping[str, Any]]] = {}
    for name in names:
        server, slash, tool = name.partition("/")
        if server not in known:
            raise NotFound(f"there is no server {server} in {found['workspace']}", "", app.typed("opagent tools"))
        fitting = [each for each in known[server]["tools"] if each["name"] == tool] if slash else [*_hidden(known[server])]
        if not fitting and not (hidden and not slash):
            raise NotFound(f"{server} has no tool {tool}", "", app.typed("opagent tools"))
        chosen.setdefault(server, []).extend(fitting)
    return path, chosen
