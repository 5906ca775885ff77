"""`opagent usage`: what agents used, summed up by agent, directory, day, model or conversation."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from opagent.cli.app import App
from opagent.cli.command import Command, pass_app
from opagent.cli.words import duration, home_short
from opagent.errors import Usage

BY = ("agent", "dir", "host", "day", "model", "conversation")
COLUMNS = {"TURNS": "turns", "TIME": "time", "TOOL CALLS": "tool_calls", "TOKENS": "tokens", "COST": "cost", "METERED": "metered",
           "NOTE": "note"}  # fmt: skip
WITHIN = 3.0  # seconds for other machines to answer
_GRACE = 30.0
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@click.command(cls=Command, example="opagent usage --by day --since 7d", exits=(0, 1, 2))
@click.option("--by", type=click.Choice(BY), default="agent", show_default=True, help="What to sum up by.")
@click.option("--since", metavar="WHEN", help="A day (2026-11-29), or how long ago (24h, 7d, 4w).")
@click.option("-a", "--all", "everything", is_flag=True, help="On every known machine.")
@pass_app
def usage(app: App, by: str, since: str | None, everything: bool) -> None:
    """What agents used. Tokens and costs are as agents report them, or as the proxy reads them, whichever is more."""
    wanted = {"by": by, **({"since": moment(since)} if since else {})}
    found = _all(app, wanted) if everything and app.here else app.ask("usage/list", **wanted)
    rows = found["usage"]
    if app.out.format == "json":
        app.out.result({"usage": rows, **({"hosts": found["hosts"]} if "hosts" in found else {})})
        return
    if app.out.format == "ids":
        rows = [{**row, "id": row["name"]} for row in rows]
    elif app.out.format == "text":
        rows = [readable(row) for row in rows]
    columns = {} if by == "host" else {by.upper(): "name"}
    columns |= {"HOST": "host"} if "hosts" in found or by == "host" else {}
    app.out.records("usage", rows, columns | COLUMNS, "nothing was used yet")
    for host in found.get("hosts") or ():
        if not host["answered"]:
            app.out.talk(f"{host['name']}: no answer ({host.get('why')})")


def _all(app: App, wanted: Mapping[str, Any]) -> dict[str, Any]:
    from opagent.elsewhere import dialing  # not for what is here

    within = app.settings.timeout or WITHIN
    more = {"hosts": True, "within": int(within * 1000), **dialing()}
    return app.client.request("usage/list", {**wanted, **more}, within + _GRACE)


def readable(row: Mapping[str, Any]) -> dict[str, Any]:
    metered = sum(int(row.get(f"metered_{name}") or 0) for name in ("input", "output"))
    notes = [f"{row['estimated']} estimated"] if row["estimated"] else []
    notes += [f"{row['doubtful']} doubtful"] if row["doubtful"] else []
    return {
        **row, "name": home_short(str(row["name"])), "host": row.get("host") or "here", "time": duration(float(row["wall"])),
        "tokens": f"{row['tokens']:,}", "cost": f"{row['cost']:.4f} {row['currency']}".strip() if row["currency"] else "",
        "metered": f"{metered:,}" if metered else "", "note": ", ".join(notes),
    }  # fmt: skip


def moment(since: str) -> str:
    """The time that is meant, ISO 8601 UTC. Raises Usage."""
    if found := re.fullmatch(r"(\d{1,5})([mhdw])", since):
        then = datetime.now(UTC) - timedelta(**{_UNITS[found[2]]: int(found[1])})
        return then.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if re.fullmatch(r"\d{4}-\d{2}-\d{2}", since):
        return since
    raise Usage(f"'{since}' is no time", "a day such as 2026-11-29, or 24h, 7d, 4w", "opagent usage --since 7d")
