"""`opagent daemon start|stop|status|run`: the life of the per-user daemon."""

from __future__ import annotations

import os
import sys
import time

import click

from opagent import launch
from opagent.cli.app import App
from opagent.cli.command import Group, pass_app
from opagent.client import Client
from opagent.elsewhere import Elsewhere
from opagent.errors import DaemonUnavailable, DeadlinePassed

STOP_DEADLINE = 30.0


@click.group(cls=Group, default="status", example="opagent daemon status")
def daemon() -> None:
    """The per-user daemon: it starts by itself when a command needs it."""


@daemon.command(example="opagent daemon start")
@pass_app
def start(app: App) -> None:
    """Start the daemon, if it is not running; on another machine it is brought there first."""
    if not app.here:
        app.ask("daemon/status")  # the greeting may be one that is remembered, of a daemon that has ended
    greeting = app.client.greeting
    if app.out.json:
        app.out.result({"pid": greeting.daemon, "version": greeting.version, "host": greeting.host})
    else:
        app.out.data(f"daemon {greeting.daemon}{_on(app)} is running (version {greeting.version})")


@daemon.command(example="opagent daemon stop")
@pass_app
def stop(app: App) -> None:
    """Stop the daemon and the agents it supervises; conversations stay."""
    if not app.here:
        _stop_there(app)
        return
    try:
        with Client(start=False) as client:
            pid = client.greeting.daemon
            client.request("daemon/stop")
    except DaemonUnavailable as error:
        if error.why:
            raise
        app.out.talk("no daemon is running")
        return
    end = time.monotonic() + (app.settings.timeout or STOP_DEADLINE)
    while _alive(pid):
        if time.monotonic() > end:
            raise DeadlinePassed(f"daemon {pid} has not ended yet", "it is stopping its agents", "opagent daemon status")
        time.sleep(0.02)
    app.out.talk(f"daemon {pid} has stopped")


@daemon.command(example="opagent daemon status --json")
@pass_app
def status(app: App) -> None:
    """Whether the daemon runs, and what it does. Starts nothing here; the way to another machine starts one there."""
    if app.here:
        with Client(start=False) as client:
            found = client.request("daemon/status")
    else:
        found = app.ask("daemon/status")
    if app.out.json:
        app.out.result(found)
        return
    for name, value in found.items():
        app.out.data(f"{name:14}{value}")


@daemon.command(example="OPAGENT_LOG=debug opagent daemon run", only_here=True)
@pass_app
def run(app: App) -> None:
    """Run the daemon in this terminal until Ctrl-C."""
    app.only_here("a daemon runs in a terminal", app.typed("opagent daemon start"))
    os.execv(sys.executable, [sys.executable, *launch.DAEMON])  # noqa: S606  # no shell is the point


def _stop_there(app: App) -> None:
    """Its end is not waited for: who looks whether it runs would start another."""
    app.ask("daemon/stop")
    assert isinstance(app.client, Elsewhere)
    mirrors = app.client.local.request("mirror/list")["mirrors"]
    again = [str(mirror["directory"]) for mirror in mirrors if mirror["machine"] == app.machine]
    then = f"the mirror in {again[0]} starts one again" if again else "the next command about that machine starts one"
    app.out.talk(f"daemon {app.client.greeting.daemon}{_on(app)} stops; {then}")


def _on(app: App) -> str:
    return "" if app.here else f" on {app.machine}"


def _alive(pid: int) -> bool:
    """Whether the process is there and no zombie of somebody who does not look."""
    try:
        os.kill(pid, 0)
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] != b"Z"
    except ProcessLookupError:
        return False
    except FileNotFoundError:  # gone between the two, or a system without /proc
        return os.path.exists("/proc/self/stat") is False
