"""The methods about what was used and what may be: `usage/list`, `budget/show`, `budget/raise`; decides nothing about a turn."""

from __future__ import annotations

import shlex
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from opagent.daemon import fleet, limits, pauses
from opagent.daemon.params import Params, environment, maybe, place, wanted
from opagent.daemon.server import Client
from opagent.daemon.workspace import Workspace
from opagent.errors import Denied, Usage
from opagent.model import Conversation as Record
from opagent.model import ConversationId
from opagent.policy import budget
from opagent.policy.budget import MILLIONTHS, NOTHING, Limit, Metric, Per, Place
from opagent.store import conversations as rows
from opagent.store import ledger

if TYPE_CHECKING:
    from opagent.daemon.host import Host

Result = Mapping[str, Any]
_SHOWN = 20  # conversations of a directory whose budgets are shown


async def usage_list(host: Host, client: Client, params: Params) -> Result:
    by, since = maybe(params, "by") or "agent", maybe(params, "since") or ""
    if by not in ledger.GROUPS:
        raise Usage(f"usage by {by!r} is not known", "by " + ", ".join(ledger.GROUPS), "opagent usage --help")
    found = _usage(host.database.read(lambda db: ledger.usage(db, by, since)))
    if not params.get("hosts"):
        return {"usage": found}
    others = await fleet.usage(host, client, params)
    return {"usage": [row | {"host": None} for row in found] + others["usage"], "hosts": others["hosts"]}


def _usage(found: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row for each name, or for each currency of one; turns without a cost stand with the first."""
    shown: dict[str, list[dict[str, Any]]] = {}
    for each in found:
        others = shown.setdefault(str(each["name"]), [])
        same = next((other for other in others if not each["currency"] or not other["currency"]), None)
        if same is None:
            others.append(dict(each))
            continue
        same["currency"] = same["currency"] or each["currency"]
        for key, value in each.items():
            if key == "last":
                same[key] = max(same[key], value)
            elif isinstance(value, int):
                same[key] = (same[key] or 0) + value
    return [_row(each) for group in shown.values() for each in group]


def _row(each: Mapping[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {key: each[key] for key in ("name", "currency", "turns", "tool_calls", "tokens", "last")}
    row |= {"wall": each["wall"] / 1000, "cost": each["cost"] / MILLIONTHS}
    row |= {key: each[key] for key in ("estimated", "doubtful")}
    for source in ("reported", "metered"):
        for name in ("input", "output"):
            row[f"{source}_{name}"] = each[f"{source}_{name}"]
        cost = each[f"{source}_cost"]
        row[f"{source}_cost"] = None if cost is None else cost / MILLIONTHS
    return row


# ---- budgets -------------------------------------------------------------------------------------------------------------


async def budget_show(host: Host, client: Client, params: Params) -> Result:
    workspace, records = await _meant(host, params)
    per = limits.per(workspace.binding)
    found = [row for record in records for row in _lines(host, workspace, record)]
    return {"workspace": workspace.path, "per": per.value, "limits": found}


async def budget_raise(host: Host, client: Client, params: Params) -> Result:
    """Add to limits for now: for the conversation, the day, or the directory, as the binding counts."""
    host.refuse_agents(client)
    workspace, records = await _meant(host, params)
    wanted_ = params.get("amounts")
    if not isinstance(wanted_, dict) or not wanted_:
        raise Usage("what is to be raised is missing", "for example turns=50", "opagent budget --raise turns=50")
    per = limits.per(workspace.binding)
    if per is Per.TURN or (per is Per.CONVERSATION and "conversation" not in params):
        why = "a budget per turn is raised in the binding" if per is Per.TURN else "it counts per conversation: name one"
        raise Usage("there is nothing to raise", why, "opagent conversations list")
    here = Place("", records[0].id, workspace.path, limits.today())
    known = {limit.metric: limit for limit in limits.of(host.database, workspace.binding, here)}
    found = [(_raisable(known, str(name), workspace), str(amount)) for name, amount in wanted_.items()]
    more = [(limit, limits.amount(limit.metric, amount)) for limit, amount in found]
    await pauses.raise_now(host.shared, more, f"human:{client.uid}")
    return await budget_show(host, client, params)


def _raisable(known: Mapping[Metric, Limit], name: str, workspace: Workspace) -> Limit:
    limit = known.get(Metric(name)) if name in set(Metric) else None
    if limit is None:
        limited = ", ".join(metric.value for metric in known) or "nothing"
        hint = f"opagent budget {shlex.quote(workspace.path)}"
        raise Usage(f"no budget limits {name!r} here", f"limited: {limited}", hint)
    if limit.fixed:
        raise Denied("this budget cannot be raised", f"the policy of this machine sets it ({limit.origin})", "opagent explain")
    return limit


async def _meant(host: Host, params: Params) -> tuple[Workspace, list[Record]]:
    """A directory and its conversations, the newest first, or the one that is named."""
    if params.get("conversation"):
        record = (await host.found(wanted(params))).record
        return host.look_again(record), [record]
    path = place(params, "path")
    workspace = Workspace.resolve(path, maybe(params, "agent"), await host.environment(environment(params), path), host.database)
    known = host.database.read(lambda db: rows.listed(db, workspace.path, "open", limit=_SHOWN))
    if limits.per(workspace.binding) is not Per.CONVERSATION or not known:
        return workspace, [Record(ConversationId(""), workspace.path, "", "")]  # stands for the next one
    return workspace, known


def _lines(host: Host, workspace: Workspace, record: Record) -> list[dict[str, Any]]:
    here = Place("", record.id, workspace.path, limits.today())
    found = limits.of(host.database, workspace.binding, here)
    lines = host.database.read(lambda db: ledger.lines(db, [limit.key for limit in found]))
    live = host.shared.accounts.live(limit.key for limit in found)
    return [_line(host, workspace, limit, lines.get(limit.key, NOTHING), live.get(limit.key, 0)) for limit in found]


def _line(host: Host, workspace: Workspace, limit: Limit, line: budget.Line, live: int) -> dict[str, Any]:
    read, key = host.database.read, limit.key

    def source(name: str) -> float | int | None:
        amount = read(lambda db: ledger.used(db, key, name))
        return None if amount is None else _unit(limit.metric, amount)

    held = line.reserved()
    said: dict[str, Any] = {
        "metric": limit.metric.value, "per": limit.scope.per.value, "scope": limit.scope.name, "window": limit.scope.window,
        "limit": _unit(limit.metric, limit.most), "raised": _unit(limit.metric, read(lambda db: ledger.raised(db, key))),
        "used": _unit(limit.metric, line.used), "running": _unit(limit.metric, live), "reserved": _unit(limit.metric, held),
        "left": _unit(limit.metric, max(0, limit.most - line.used - max(held, live))),
        "unit": _UNITS.get(limit.metric, "") or (limits.currency(workspace.binding) if limit.metric is Metric.COST else ""),
        "enforcement": limits.enforced(workspace, limit.metric), "origin": limit.origin,
    }  # fmt: skip
    if limit.metric in (Metric.TOKENS, Metric.COST):
        said |= {"reported": source("reported"), "metered": source("metered")}
    if (asked := host.shared.approvals.posed(pauses.OverBudget(limit, 0).key)) is not None:
        said["question"] = asked
    return said


_UNITS = {Metric.WALL: "s"}


def _unit(metric: Metric, amount: int) -> float | int:
    return amount / {Metric.COST: MILLIONTHS, Metric.WALL: 1000}[metric] if metric in (Metric.COST, Metric.WALL) else amount


METHODS: dict[str, Callable[[Host, Client, Params], Awaitable[Result]]] = {
    "usage/list": usage_list, "budget/show": budget_show, "budget/raise": budget_raise,
}  # fmt: skip
