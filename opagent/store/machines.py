"""Rows of the table `machine`: the other machines that this host has reached, and what they said of themselves."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

_SELECT = "select name, target, settings, identity, facts, transport, seen_at, rows from machine "


@dataclass(frozen=True, slots=True)
class Machine:
    """`name` is what a person calls it; `target`: `[user@]host[:port]`; `settings`: how it is dialed; `facts`: what it said last.

    `rows`: the processes that it showed last, for when it does not answer.
    """

    name: str
    target: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    identity: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    transport: str = ""
    seen_at: str = ""
    rows: list[Any] = field(default_factory=list)

    def seen(self, identity: str, facts: Mapping[str, Any], transport: str, at: str) -> Machine:
        return replace(self, identity=identity, facts=facts, transport=transport, seen_at=at)

    def as_json(self) -> dict[str, Any]:
        """As `host list` shows it."""
        return {
            "name": self.name, "target": self.target, "settings": dict(self.settings), "identity": self.identity,
            "transport": self.transport, "seen": self.seen_at, "facts": dict(self.facts),
        }  # fmt: skip


def put(connection: sqlite3.Connection, machine: Machine) -> None:
    """New, or in the place of the one of that name."""
    values = (
        machine.name, machine.target, json.dumps(dict(machine.settings)), machine.identity, json.dumps(dict(machine.facts)),
        machine.transport, machine.seen_at, json.dumps(machine.rows),
    )  # fmt: skip
    connection.execute("insert or replace into machine values(?, ?, ?, ?, ?, ?, ?, ?)", values)


def renew(connection: sqlite3.Connection, machine: Machine) -> None:
    """In the place of the one of that name, if it was not forgotten meanwhile."""
    if get(connection, machine.name) is not None:
        put(connection, machine)


def get(connection: sqlite3.Connection, name: str) -> Machine | None:
    row = connection.execute(_SELECT + "where name = ?", (name,)).fetchone()
    return _machine(row) if row else None


def listed(connection: sqlite3.Connection) -> list[Machine]:
    return [_machine(row) for row in connection.execute(_SELECT + "order by name")]


def remove(connection: sqlite3.Connection, name: str) -> bool:
    """Whether there was one."""
    return connection.execute("delete from machine where name = ?", (name,)).rowcount > 0


def _machine(row: tuple[str, ...]) -> Machine:
    name, target, settings, identity, facts, transport, seen_at, rows = row
    return Machine(name, target, json.loads(settings), identity, json.loads(facts), transport, seen_at, json.loads(rows))
