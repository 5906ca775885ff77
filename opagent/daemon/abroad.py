"""The budgets of a caller, for what it has done on another machine: reserved here, told there, counted here as it is used there.

With a call goes what is left of each limit of its caller; there it is a limit like others, `Per.CALL` (`limits`), and stops the
callee also while nobody here hears of it. What it uses is told back (`used`) and counts here (`Abroad`) like that of a turn:
has reserved, may be seen to be too much, and is settled at the end. A caller's clock runs while it waits: no `wall`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from opagent.binding.question import visible
from opagent.daemon import inbox
from opagent.errors import BudgetReached, StoreFailed, Usage
from opagent.policy import budget
from opagent.policy.budget import Answer, Key, Limit, Metric, Per, Scope
from opagent.store import ledger

if TYPE_CHECKING:
    from opagent.daemon.calltree import Call
    from opagent.daemon.host import Host

MOST = 10**15  # of anything in one call; more is a mistake
_ORIGIN = 300  # characters
_MORE = 10  # parts of what was used that are reserved beyond it


class Abroad:
    """What one call to another machine uses of its caller's limits. On the loop."""

    def __init__(self, host: Host, call: Call) -> None:
        self._host, self._call = host, call
        self._limits = call.under.limits
        self._held: dict[Key, int] = {}
        self._used: dict[Metric, int] = {}  # as that machine told it last
        self.name = f"{ledger.CALL}{call.id}"  # of the turn that it is in the ledger

    async def begin(self) -> list[dict[str, Any]]:
        """Reserve, once others have not reserved all that is left; what is left then, for that machine. Raises BudgetReached."""
        if not self._limits:
            return []
        accounts = self._host.shared.accounts
        while True:
            changed = accounts.changed
            writing = self._host.database.write(self._reserved)
            try:
                found = await asyncio.shield(writing)
            except asyncio.CancelledError:
                await writing  # what it reserved is given back
                raise
            if isinstance(found, budget.Refusal):
                if found.answer is Answer.BUSY:
                    await changed.wait()
                    continue
                raise _reached(found.limit, found.used)
            accounts.abroad[self.name] = self
            return self._left(found)

    def _reserved(self, db: Any) -> budget.Refusal | budget.Lines:
        lines = ledger.lines(db, [limit.key for limit in self._limits])
        if (refusal := budget.refusal(self._limits, lines, self._call.under.kin)) is not None:
            return refusal
        self._held = {limit.key: budget.estimate(limit.metric, limit.most, ()) for limit in self._limits}
        for key, amount in self._held.items():
            ledger.hold(db, self.name, key, amount)
        return lines

    def _left(self, lines: budget.Lines) -> list[dict[str, Any]]:
        """Without what others have reserved, and what the turns that call have used by now. Raises BudgetReached."""
        kin = self._call.under.kin
        live = self._host.shared.accounts.live((limit.key for limit in self._limits), kin)
        said = []
        for limit in self._limits:
            line = lines[limit.key]
            left = limit.most - line.used - line.reserved(kin) - live.get(limit.key, 0)
            if left <= 0:
                raise _reached(limit, limit.most - left)
            said.append({"metric": limit.metric.value, "most": left, "origin": limit.origin})
        return said

    def heard(self, said: Any) -> None:
        """What that machine says it has used by now. Whoever shares a limit looks whether it is too much."""
        if not isinstance(said, Mapping):
            return
        known = {limit.metric for limit in self._limits}
        self._used |= {metric: amount for metric in known if (amount := _amount(said.get(metric.value))) is not None}
        for key in self._held:
            now = self._used.get(key[1], 0)
            if now > self._held[key]:
                self._held[key] = now if key[1] in budget.BEGINNING else now + now // _MORE + 1
                self._host.database.write(partial(self._hold, key, self._held[key]))
        caller = self._host.conversations.get(self._call.caller)
        if caller is not None:
            caller.post(inbox.Tick())

    def _hold(self, key: Key, amount: int, db: Any) -> None:
        ledger.hold(db, self.name, key, amount)

    def now(self, key: Key) -> int:
        return self._used.get(key[1], 0) if key in self._held else 0

    async def end(self, begun: bool) -> None:
        """Settle. What nobody told counts as it was reserved, unless nothing began. A daemon that ends leaves it to the next."""
        held, self._held = self._held, {}
        if not held:
            return
        amounts = {key: self._used.get(key[1], amount) if begun else 0 for key, amount in held.items()}
        with contextlib.suppress(StoreFailed):
            await self._host.database.write(lambda db: ledger.settled(db, self.name, amounts))
        self._host.shared.accounts.abroad.pop(self.name, None)
        self._host.shared.accounts.wake()


def _reached(limit: Limit, used: int) -> BudgetReached:
    most, where = budget.number(limit.metric, limit.most), budget.window(limit.scope)
    why = f"{budget.number(limit.metric, used)} of {most} {limit.metric.value.replace('_', ' ')} {where} ({limit.origin})"
    return BudgetReached("the budget of the caller is used up", why, "opagent budget")


# ---- there -----------------------------------------------------------------------------------------------------------------


def limits(said: Any, key: str, machine: str) -> tuple[Limit, ...]:
    """What a caller elsewhere left of its limits, the least of each metric. Raises Usage."""
    found: dict[Metric, Limit] = {}
    for each in said if isinstance(said, list) else []:
        if not isinstance(each, Mapping) or each.get("metric") not in set(Metric) or not _amount(each.get("most")):
            raise Usage("that is no limit of a caller", repr(each)[:200])
        origin = visible(str(each.get("origin") or ""))[:_ORIGIN]
        metric, most = Metric(each["metric"]), int(each["most"])
        if metric not in found or most < found[metric].most:
            place = f"{origin} on {machine or 'the machine that called'}"
            found[metric] = Limit(Scope(Per.CALL, key), metric, most, place, fixed=True)
    return tuple(found.values())


def used(host: Host, under: Sequence[Limit]) -> dict[str, int]:
    """What was used of such limits by now, by metric."""
    keys = [limit.key for limit in under]
    lines, live = host.database.read(lambda db: ledger.lines(db, keys)), host.shared.accounts.live(keys)
    return {key[1].value: lines[key].used + live.get(key, 0) for key in keys}


def _amount(value: Any) -> int | None:
    return min(value, MOST) if type(value) is int and value >= 0 else None
