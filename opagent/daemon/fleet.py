"""What is asked of this machine and of the known others at once: their processes, what waits for a person there.

API: `processes`, `approvals`, `find`. What others answer is data of strangers: only what has the form of a row is passed on.
(Design: "The link".)
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from opagent.daemon import callers, peer
from opagent.daemon.params import Params, number, text
from opagent.daemon.server import Client
from opagent.errors import DeadlinePassed, HostUnreachable, OpAgentError
from opagent.store import machines as rows
from opagent.store.machines import Machine

if TYPE_CHECKING:
    from opagent.daemon.host import Host

WITHIN = 3000  # milliseconds for all of them: they are asked at the same time
MOST = 1000  # rows of one machine
_AT_ONCE = 16  # machines that are dialed at the same time
_NULL = type(None)

# name -> the types that it may have, in a list where it is one, a table where it is a row; `?`: a row is one without it
_PROCESS: dict[str, Any] = {
    "conversation": str, "path": str, "workspace": str, "agent": str, "runtime": str, "state": str, "since": str, "queued": int,
    "restarts": int, "sentence": str, "id": str | _NULL, "pid": int | _NULL, "turn": str | _NULL, "?memory": int,
    "?cpu": int | float, "?processes": int, "?uptime": int | float, "?draft": str, "?not_sent": str, "?unknown": int,
    "?stuck": str, "?waiting_for": [str], "?level": str | _NULL, "?ports": [int],
    "?children": [{"pid": int, "parent": int, "command": str}],
    "?called_by": {"host": str | _NULL, "conversation": str, "turn": str, "call": str},
    "?calls": [{"call": str, "host": str, "agent": str, "conversation": str, "path": str}],
}  # fmt: skip
_APPROVAL: dict[str, Any] = {
    "id": str, "conversation": str, "turn": str | _NULL, "process": str, "kind": str, "subject": str,
    "options": [{"id": str, "name": str, "kind": str}], "asked_at": str, "expires_at": str | _NULL, "state": str,
    "answered_by": str | _NULL, "answered_at": str | _NULL, "reason": str | _NULL, "rule": str | _NULL, "?answer": str | _NULL,
    "?workspace": str, "?path": str, "?agent": str,
}  # fmt: skip
_NUMBER = int | float
_USAGE: dict[str, Any] = {
    "name": str, "currency": str, "turns": int, "wall": _NUMBER, "tool_calls": int, "tokens": int, "cost": _NUMBER, "last": str,
    "estimated": int, "doubtful": int, "?reported_input": int | _NULL, "?reported_output": int | _NULL,
    "?reported_cost": _NUMBER | _NULL, "?metered_input": int | _NULL, "?metered_output": int | _NULL,
    "?metered_cost": _NUMBER | _NULL,
}  # fmt: skip
_FORMS = {"process/list": ("processes", _PROCESS), "approval/list": ("approvals", _APPROVAL), "usage/list": ("usage", _USAGE)}


@dataclass(frozen=True, slots=True)
class Answer:
    """Of one machine. `why`: it did not answer; `rows` are then the ones that it gave last, at `seen`."""

    machine: Machine
    rows: list[dict[str, Any]]
    seen: str
    why: str = ""

    def as_json(self) -> dict[str, Any]:
        return {"name": self.machine.name, "answered": not self.why, "seen": self.seen} | ({"why": self.why} if self.why else {})


async def processes(host: Host, client: Client, params: Params) -> dict[str, Any]:
    """`{processes: [row + {host, stale?}], hosts: [{name, answered, seen, why?}]}` of all machines but this one.

    `dial` false: a machine without an open connection is not asked. `within`: milliseconds.
    """
    wanted = {name: True for name in ("all", "ports", "tree") if params.get(name)}
    answers = await _all(host, client, params, "process/list", wanted)
    found: list[dict[str, Any]] = []
    for answer in answers:
        said = answer.rows
        if answer.why:
            said = [dict(row) for row in answer.machine.rows if isinstance(row, dict)]
        else:
            await _keep(host, answer)
        more = {"host": answer.machine.name} | ({"stale": answer.seen} if answer.why else {})
        found += callers.linked(host, [row | more for row in said])
    return {"processes": found, "hosts": [answer.as_json() for answer in answers]}


async def usage(host: Host, client: Client, params: Params) -> dict[str, Any]:
    """`{usage: [row + {host}], hosts}` of all machines but this one; one that does not answer has no rows."""
    wanted = {name: params[name] for name in ("by", "since") if params.get(name)}
    answers = await _all(host, client, params, "usage/list", wanted)
    found = [row | {"host": answer.machine.name} for answer in answers for row in answer.rows]
    return {"usage": found, "hosts": [answer.as_json() for answer in answers]}


async def approvals(host: Host, client: Client, params: Params) -> list[dict[str, Any]]:
    """What waits for a person on the machines that are connected; none is dialed for it."""
    wanted = {"all": True} if params.get("all") else {}
    answers = await _all(host, client, {**params, "dial": False}, "approval/list", wanted)
    return [row | {"host": answer.machine.name} for answer in answers if not answer.why for row in answer.rows]


async def find(host: Host, client: Client, params: Params) -> dict[str, Any]:
    """Which connected machines have an open approval of this id or beginning."""
    host.refuse_agents(client)
    word = text(params, "approval")
    open_ = [row for row in await approvals(host, client, {}) if row["state"] == "pending" and row["id"].startswith(word)]
    return {"hosts": sorted({row["host"] for row in open_})}


async def _all(host: Host, client: Client, params: Params, method: str, wanted: Mapping[str, Any]) -> list[Answer]:
    """Every known machine, asked at the same time. One that has two names is asked once."""
    known = _distinct(host.database.read(rows.listed), host.links.connected)
    end = asyncio.get_running_loop().time() + number(params, "within", WITHIN) / 1000
    few = asyncio.Semaphore(_AT_ONCE)

    async def one(machine: Machine) -> Answer:
        if params.get("dial") is False and not host.links.connected(machine.name):
            return Answer(machine, [], machine.seen_at, "it is not connected")
        try:
            async with asyncio.timeout_at(end), few:
                said = await _asked(host, client, machine.name, params, method, wanted)
        except TimeoutError:
            return Answer(machine, [], machine.seen_at, "no answer in time")
        except OpAgentError as error:
            return Answer(machine, [], machine.seen_at, str(error))
        return Answer(machine, said, host.shared.now())

    return list(await asyncio.gather(*(one(machine) for machine in known)))


async def _asked(
    host: Host, client: Client, name: str, params: Params, method: str, wanted: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Raises HostUnreachable and its kinds, and what the daemon there raises."""
    if not host.links.connected(name):
        host.shared.spawn(host.links.finish(name), f"the link to {name}")
    where = await host.links.socket(name, client, params)
    try:
        there = await peer.connect(where, "fleet")
    except DeadlinePassed as error:
        raise HostUnreachable("no answer", str(error)) from error
    try:
        key, form = _FORMS[method]
        return _formed((await there.request(method, wanted)).get(key), form)
    finally:
        there.close()


def _formed(said: Any, form: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows that are rows, with what is known of rows."""
    found = [_row(each, form) for each in (said if isinstance(said, list) else [])[:MOST]]
    return [row for row in found if row is not None]


def _row(said: Any, form: Mapping[str, Any]) -> dict[str, Any] | None:
    if not isinstance(said, dict):
        return None
    row: dict[str, Any] = {}
    for name, kind in form.items():
        key = name.removeprefix("?")
        value = _row(said.get(key), kind) if isinstance(kind, dict) else said.get(key)
        if _fits(value, kind) and key in said:
            row[key] = _formed(value, kind[0]) if isinstance(kind, list) and isinstance(kind[0], dict) else value
        elif key == name:
            return None
    return row


def _fits(value: Any, kind: Any) -> bool:
    if isinstance(kind, dict):
        return value is not None
    if not isinstance(kind, list):
        return isinstance(value, kind) and not isinstance(value, bool)
    return isinstance(value, list) and (isinstance(kind[0], dict) or all(_fits(each, kind[0]) for each in value))


def _distinct(known: Iterable[Machine], connected: Any) -> list[Machine]:
    """One record for a user of a machine; that of an open connection where there is one."""
    found: dict[tuple[str, ...], Machine] = {}
    for machine in known:
        who = tuple(str(machine.facts.get(name, "")) for name in ("uid", "socket"))
        same = (machine.identity, *who) if machine.identity else (machine.name,)
        if same not in found or (connected(machine.name) and not connected(found[same].name)):
            found[same] = machine
    return sorted(found.values(), key=lambda machine: machine.name)


async def _keep(host: Host, answer: Answer) -> None:
    """For when it does not answer. Nothing is written where nothing is new but the time of a minute."""
    record = host.database.read(lambda db: rows.get(db, answer.machine.name))
    if record is None or (record.rows == answer.rows and record.seen_at[:16] == answer.seen[:16]):
        return
    kept = host.links.keep(replace(record, rows=answer.rows, seen_at=answer.seen))
    await host.database.write(lambda db: rows.renew(db, kept))
