"""`opagent ps`: the processes of the daemon as a table or a tree, once or again every second."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import click

from opagent.cli import pstree
from opagent.cli.app import App
from opagent.cli.command import Command, pass_app
from opagent.cli.pstree import HERE
from opagent.cli.words import age, bytes_short, duration, home_short, state_word
from opagent.errors import Usage

COLUMNS = {
    "ID": "id",
    "AGENT": "agent",
    "STATE": "state",
    "SINCE": "since",
    "MEMORY": "memory",
    "CONVERSATION": "conversation",
    "WORKSPACE": "workspace",
    "WAITS FOR": "waiting_for",
}
WITHIN = 3.0  # seconds for other machines to answer
_GRACE = 30.0  # seconds more for the daemon here
_EVERY = 1.0  # seconds
_HOME, _REST = "\x1b[H\x1b[2J", "\x1b[?25h"  # an empty screen; the cursor again
_HIDE = "\x1b[?25l"


@click.command(cls=Command, example="opagent ps -a --json", exits=(0, 1, 2, 130))
@click.option("-a", "--all", "everything", is_flag=True, help="On every known machine, and also those that have ended.")
@click.option("--tree", is_flag=True, help="Each conversation with its agent, all processes below that, and whom it called.")
@click.option("--ports", is_flag=True, help="Also the TCP ports that an agent's processes listen on.")
@click.option("-w", "--watch", is_flag=True, help="Again every second, until Ctrl-C; on a terminal only.")
@pass_app
def ps(app: App, everything: bool, tree: bool, ports: bool, watch: bool) -> None:
    """Agents that run here, what each does and who waits for whom; with -a on the other machines as well.

    A machine that does not answer within 3 s (--timeout) is shown as it was the last time. --watch dials none.
    """
    wanted = {name: True for name, said in (("all", everything), ("tree", tree), ("ports", ports)) if said}
    if not watch:
        _show(app, wanted)
        return
    if app.out.format != "text" or not sys.stdout.isatty():
        raise Usage("--watch is for a terminal", "a script asks again, or follows events", "opagent ps --json")
    try:
        app.out.raw(_HIDE)
        while True:
            found = _found(app, wanted, dial=False)
            app.out.raw(_HOME)
            _print(app, found, wanted)
            time.sleep(_EVERY)
    finally:
        app.out.raw(_REST)


def _found(app: App, wanted: Mapping[str, bool], dial: bool = True) -> dict[str, Any]:
    """What `process/list` answers."""
    if "all" not in wanted or not app.here:
        return app.ask("process/list", **wanted)
    from opagent.elsewhere import dialing  # not for what is here

    within = app.settings.timeout or WITHIN
    more = {"hosts": True, "dial": dial, "within": int(within * 1000), **dialing()}
    return app.client.request("process/list", {**wanted, **more}, within + _GRACE)


def _show(app: App, wanted: Mapping[str, bool]) -> None:
    found = _found(app, wanted)
    if app.out.format == "json" and "hosts" in found:
        app.out.result({"processes": found["processes"], "hosts": found["hosts"]})
        return
    _print(app, found, wanted)


def _print(app: App, answer: Mapping[str, Any], wanted: Mapping[str, bool]) -> None:
    found: Sequence[Mapping[str, Any]] = answer["processes"]
    hosts = answer.get("hosts") or ()
    rows = [readable(process) for process in found]
    columns = ({"HOST": "host"} if hosts else {}) | COLUMNS | ({"PORTS": "ports"} if "ports" in wanted else {})
    if app.out.format != "text" or "tree" not in wanted or not rows:
        app.out.records("processes", rows if app.out.format == "text" else found, columns, "no agent is running")
    else:
        for line in pstree.lines(rows):
            app.out.data(line)
    for host in hosts if app.out.format == "text" else ():
        if not host["answered"]:
            app.out.talk(f"{host['name']}: offline {_ago(host['seen'])} ({host.get('why')})")


def readable(process: Mapping[str, Any]) -> dict[str, Any]:
    """A process of `process/list` as its row says it to a person."""
    memory, uptime = process.get("memory"), process.get("uptime")
    return {
        **process,
        "host": process.get("host") or HERE,
        "state": f"- offline {_ago(process['stale'])}" if "stale" in process else state_word(_state(process)),
        "since": age(process["since"]) if process.get("since") else duration(float(uptime or 0)),
        "waiting_for": " ".join(process.get("waiting_for") or ()) or _hindrance(process),
        "memory": bytes_short(int(memory)) if memory else "-",
        "workspace": home_short(str(process.get("workspace", ""))),
        "ports": " ".join(map(str, process.get("ports") or ())),
    }


def _ago(moment: str) -> str:
    return age(moment) if moment else "since ever"


def _hindrance(process: Mapping[str, Any]) -> str:
    """Where nobody is asked anything, but something is to be looked at: an effect of unknown end, a draft that is not sent, a
    turn that waits for something."""
    if process.get("unknown"):
        return f"{process['unknown']} unknown: opagent audit list --state unknown"
    return "draft not sent" if process.get("not_sent") else str(process.get("stuck") or "")[:60]


def _state(process: Mapping[str, Any]) -> str:
    """What it does now: an agent that has a turn works, also where its process is only said to be ready."""
    if process.get("waiting_for"):
        return "waiting"
    state = str(process.get("state", ""))
    return "working" if state == "ready" and process.get("turn") else state
