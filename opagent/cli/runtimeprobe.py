"""`opagent runtime probe`: what an installed agent really does, seen in a conversation in a sandbox of its own."""

from __future__ import annotations

from typing import Any

import click

from opagent.cli.app import App
from opagent.cli.command import Command, pass_app
from opagent.cli.runtimenames import RUNTIME

DEADLINE = 300.0  # seconds; a probe ends by itself before that


@click.command(cls=Command, example="opagent runtime probe echo", exits=(0, 1, 2, 3, 4, 10))
@click.argument("name", metavar="NAME[@VERSION]", shell_complete=RUNTIME)
@pass_app
def probe(app: App, name: str) -> int:
    """Talk to an installed runtime in an empty directory, in the sandbox, and keep what it did.

    Does it ask before it writes, honour a cancel, come back to a session, report usage, take MCP servers, leave processes behind?
    Where it needs a model it is given one that follows a script, on this machine. No account and no network is used.
    """
    app.out.talk(f"probing {name}: up to a minute")
    given = {"name": name, "environment": app.environment()}
    record = app.client.request("runtime/probe", given, app.settings.timeout or DEADLINE)
    if app.out.json:
        app.out.result(record)
    else:
        _show(app, record)
    return 10 if record["problem"] else 0


def _show(app: App, record: dict[str, Any]) -> None:
    app.out.data(f"{record['runtime']} {record['version']}   ({record['agent'] or 'it says no name'}, in {record['seconds']} s)")
    app.out.table(("WHAT", "SEEN"), [(what, seen) for what, seen in record["lines"]])
    for note in record["notes"]:
        app.out.data(f"note     {note}")
    if record["problem"]:
        app.out.data(f"problem  {record['problem']}")
    lacks = [need for need, seen in record["can"].items() if not seen]
    app.out.talk(f"a role can need: {', '.join(need for need in record['can'] if need not in lacks) or 'nothing'}")
