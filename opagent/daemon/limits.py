"""The budget of a binding as limits of `policy/budget.py`, what persons added included; counts and decides nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opagent import paths
from opagent.binding import units
from opagent.daemon import keys
from opagent.errors import OpAgentError, Usage
from opagent.model import Binding, Conversation, Origin, Turn
from opagent.policy.budget import MILLIONTHS, Limit, Metric, Per, Place, Scope
from opagent.store import ledger

if TYPE_CHECKING:
    from opagent.daemon.conversation import Conversation as Actor
    from opagent.daemon.workspace import Workspace
    from opagent.store.database import Database

# how each is kept: the daemon counts what it does itself, the rest is told
ENFORCED = {
    Metric.TURNS: "proxy", Metric.MESSAGES: "proxy", Metric.WALL: "proxy", Metric.TOOL_CALLS: "acp", Metric.TOKENS: "advisory",
    Metric.COST: "advisory",
}  # fmt: skip
_FORMS = {
    Metric.COST: (r"\d+(\.\d+)?( [A-Z]{3})?", "an amount such as 5 or 5 USD"),
    Metric.WALL: (r"\d+(\.\d+)?[smhd]", "a duration such as 90s, 10m or 2h"),
}
_AMOUNT = (r"\d+|\d+(\.\d+)?[kMG]", "a number such as 200, 50k or 2M")


def enforced(workspace: Workspace, metric: Metric) -> str:
    """How a budget is kept, in the words of `explain`: the proxy counts tokens where it stands before the model."""
    if metric is not Metric.TOKENS or workspace.binding.agent is None:
        return ENFORCED[metric]
    try:
        found = keys.keys(workspace, workspace.binding.agent)
    except OpAgentError:
        return ENFORCED[metric]
    return "proxy" if any(key.variable and key.usage for key in found) else ENFORCED[metric]


def today() -> str:
    return datetime.now(UTC).date().isoformat()


def place(conversation: Conversation, turn: Turn | None) -> Place:
    """Where a turn runs; without one, where the next would."""
    ident = f"{conversation.id}/{turn.id}" if turn is not None else ""
    return Place(ident, conversation.id, conversation.workspace, today())


def binding(c: Actor) -> Binding:
    """As it stands in the files now: a budget that a person changes holds for the next turn, not for the next process."""
    if (now := look(c.workspace.path)) != c.bound[0]:
        try:
            c.bound = now, c.shared.look_again(c.record).binding
        except OpAgentError:  # it is broken at present: what held before holds
            c.bound = now, c.bound[1]
    return c.bound[1]


def look(workspace: str) -> tuple[object, ...]:
    """What tells whether one of the files that say a budget is another now."""
    parents = (Path(workspace), *Path(workspace).parents)
    found = []
    for path in (*(parent / paths.BINDING for parent in parents), paths.user_config(), paths.machine_policy()):
        try:
            stat = path.stat()
            found.append((stat.st_ino, stat.st_mtime_ns, stat.st_size))
        except OSError:
            found.append((0, 0, 0))
    return tuple(found)


def per(binding: Binding) -> Per:
    return Per(binding.budget.get("per", Per.CONVERSATION))


def of(database: Database, binding: Binding, here: Place) -> tuple[Limit, ...]:
    """What limits a turn there."""
    scope = here.scope(per(binding))
    return database.read(lambda db: tuple(_limits(db, binding, scope)))


def _limits(db: Any, binding: Binding, scope: Scope) -> list[Limit]:
    found = []
    for metric in Metric:
        if metric.value in binding.budget:
            most = whole(metric, binding.budget[metric.value]) + ledger.raised(db, (scope, metric))
            origin = binding.origins.get(f"budget.{metric.value}", Origin("built-in"))
            found.append(Limit(scope, metric, most, str(origin), origin.file == str(paths.machine_policy())))
    return found


def whole(metric: Metric, value: float) -> int:
    """A number of a binding as an amount."""
    return round(value * {Metric.COST: MILLIONTHS, Metric.WALL: 1000}.get(metric, 1))


def amount(metric: Metric, text: str) -> int:
    """What a person typed, as an amount. Raises Usage."""
    form, words = _FORMS.get(metric, _AMOUNT)
    if not re.fullmatch(form, text):
        raise Usage(f"'{text}' is no amount of {metric.value.replace('_', ' ')}", f"it asks for {words}", "opagent budget --help")
    if metric is Metric.COST:
        return whole(metric, float(text.partition(" ")[0]))
    if metric is Metric.WALL:
        return whole(metric, units.seconds(text))
    return units.amount(int(text) if text.isdecimal() else text)


def currency(binding: Binding) -> str:
    return str(binding.budget.get("currency", ""))


def as_json(limit: Limit) -> dict[str, Any]:
    scope = limit.scope
    return {
        "per": scope.per.value, "name": scope.name, "window": scope.window, "metric": limit.metric.value, "most": limit.most,
        "origin": limit.origin, "fixed": limit.fixed,
    }  # fmt: skip


def from_json(said: Mapping[str, Any]) -> Limit:
    """Of the log."""
    scope = Scope(Per(said["per"]), str(said["name"]), str(said["window"]))
    return Limit(scope, Metric(said["metric"]), int(said["most"]), str(said["origin"]), bool(said["fixed"]))
