"""`opagent acp`: the agent of a directory for an editor that speaks the Agent Client Protocol."""

from __future__ import annotations

import signal
import sys

import click

from opagent.cli.app import App
from opagent.cli.command import EXITS, TARGET, Command, pass_app
from opagent.errors import Usage


@click.command(cls=Command, example="opagent acp ./docs", exits=tuple(EXITS))
@click.argument("target", required=False, type=TARGET)
@click.option("--agent", metavar="NAME", help="Another agent of the binding, or one without a binding.")
@click.option("--trust", metavar="[DIR]", is_flag=False, flag_value=".", help="Ask a person to trust DIR, and leave.")
@click.option("--sign-in", metavar="[DIR]", is_flag=False, flag_value=".", help="Sign in to the agent of DIR, and leave.")
@pass_app
def acp(app: App, target: str | None, agent: str | None, trust: str | None, sign_in: str | None) -> None:
    """An ACP agent on stdin and stdout, for editors: the one that a directory is bound to, here or on another machine.

    Without TARGET each session gets the agent of the directory that the editor names.
    """
    if trust is not None:
        from opagent.cli.trust import question

        question(app, app.path(target if trust == "." else trust), agent, None)
        return
    if sign_in is not None:
        from opagent.cli import signin

        signin.sign_in(app, app.path(target if sign_in == "." else sign_in), agent)
        return
    path = app.path(target) if target or app.settings.directory or not app.here else ""
    if path and app.is_file(path):
        raise Usage(f"{path} is a file", "a session is made in a directory", "opagent acp DIR")
    _serve(app.machine, path, agent or "")


def _serve(machine: str, path: str, agent: str) -> None:
    from opagent.cli.editorrequests import HANDLERS
    from opagent.cli.editorserver import Server
    from opagent.cli.stdio import Stdio

    if sys.stdin.isatty() and sys.stdout.isatty():
        raise Usage("an editor starts this", "it speaks a protocol, not to people", "opagent open .")
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    server = Server(machine, path, agent, Stdio(sys.stdin.fileno(), sys.stdout.fileno()))
    server.handlers = HANDLERS
    try:
        server.run()
    finally:
        server.leave()
