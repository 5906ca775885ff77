"""`opagent budget`: what a directory or a conversation may use and has used, and more of it for now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from opagent.cli.app import App
from opagent.cli.command import CONVERSATION, Command, pass_app
from opagent.cli.words import home_short
from opagent.errors import Usage

COLUMNS = {
    "METRIC": "metric", "USED": "used", "RESERVED": "reserved", "LIMIT": "limit", "LEFT": "left", "PER": "per",
    "ENFORCED": "enforcement", "FROM": "origin", "NOTE": "note",
}  # fmt: skip


@click.command(cls=Command, example="opagent budget docs --raise turns=50", exits=(0, 1, 2, 4, 5))
@click.argument("target", required=False, metavar="[TARGET]", type=CONVERSATION)
@click.option(
    "--raise", "more", multiple=True, metavar="METRIC=N", help="Add so much for now: turns=50, tokens=500k, cost=2, wall=1h."
)
@pass_app
def budget(app: App, target: str | None, more: tuple[str, ...]) -> None:
    """What may be used here, what was used, what is reserved and left. TARGET is a directory or a conversation.

    What is added counts as long as what was used: in this conversation, on this day, or in this directory.
    """
    params = _meant(app, target)
    if more:
        params["amounts"] = dict(_pair(word) for word in more)
    found = app.ask("budget/raise" if more else "budget/show", **params)
    if app.out.format == "json":
        app.out.result(found)
        return
    rows = found["limits"]
    if app.out.format == "ids":
        rows = [{"id": row["metric"]} for row in rows]
    elif app.out.format == "text":
        rows = [readable(row) for row in rows]
    columns = ({"CONVERSATION": "scope"} if found["per"] == "conversation" else {}) | COLUMNS
    app.out.records("limits", rows, columns, f"no budget limits {found['workspace']}")


def _meant(app: App, target: str | None) -> dict[str, Any]:
    word = app.name(target) if target is not None else app.path(None)
    environment = {"environment": app.environment()}
    return {"path" if app.is_directory(word, target or ".") else "conversation": word, **environment}


def _pair(word: str) -> tuple[str, str]:
    metric, sign, amount = word.partition("=")
    if not sign or not amount:
        raise Usage(f"'{word}' says nothing to add", "for example turns=50 or tokens=500k", "opagent budget --raise turns=50")
    return metric, amount


def readable(row: Mapping[str, Any]) -> dict[str, Any]:
    unit = str(row["unit"])
    notes = [f"{_number(row['raised'])} added"] if row["raised"] else []
    if row.get("metered") is not None:
        notes.append(f"reported {_number(row['reported'] or 0)}, metered {_number(row['metered'])}")
    notes += [f"asks {row['question']}"] if row.get("question") else []
    numbers = {key: f"{_number(row[key])} {unit}".strip() for key in ("limit", "left")}
    used = row["used"] + row["running"]
    return {
        **row, **numbers, "used": _number(used), "reserved": _number(row["reserved"]), "origin": home_short(str(row["origin"])),
        "per": f"{row['per']} {row['window']}".strip(), "note": "; ".join(notes),
    }  # fmt: skip


def _number(value: float) -> str:
    return f"{value:,.4f}".rstrip("0").rstrip(".") if isinstance(value, float) else f"{value:,}"
