"""What the turns that run may use and have used: reserved at the begin, looked at while they run, settled at the end.

`Accounts` is the host's, an `Account` one running turn's. The rows are changed in the transaction of the turn (`Account.begin`,
`Account.end`); what to do where a limit is reached is in `daemon/pauses.py`. Used by the consumers of conversations, on the loop.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from opagent.acp import messages
from opagent.acp.messages import as_dict, as_text
from opagent.daemon import inbox, limits
from opagent.errors import BudgetReached, NotFound
from opagent.model import ConversationId, Kind, Turn
from opagent.policy import budget
from opagent.policy.budget import BEGINNING, Key, Limit, Line, Metric, Per, Place, Refusal
from opagent.policy.usage import Counts, Meter, Stopwatch, true_amount
from opagent.store import ledger
from opagent.store.events import AuditKind, Draft, timestamp

if TYPE_CHECKING:
    from opagent.daemon.abroad import Abroad
    from opagent.daemon.calltree import Under
    from opagent.daemon.conversation import Conversation
    from opagent.daemon.shared import Shared

_TOLD = (Metric.TOKENS, Metric.COST)  # what others say; where nobody does, the estimate counts
_MORE = 10  # parts of what was used that are reserved beyond it, when a turn needs more than it reserved


@dataclass(slots=True)
class Account:
    """One running turn."""

    place: Place
    limits: tuple[Limit, ...]
    begun: ledger.Begun
    meter: Meter
    watch: Stopwatch
    seen: dict[Key, int]  # what was used of each limit when it was last looked at
    held: dict[Key, int] = field(default_factory=dict)
    kin: frozenset[str] = frozenset()  # the turns that called it
    settled: Mapping[str, int | None] = field(default_factory=dict)  # what the proxy had seen when the end was reckoned

    @classmethod
    def open(cls, c: Conversation, turn: Turn) -> Account:
        """Before the turn runs; nothing is stored yet."""
        here, binding = limits.place(c.record, turn), limits.binding(c)
        under = c.shared.calls.under(c.record.id, turn)
        found = with_callers(limits.of(c.shared.database, binding, here), under)
        session = str(c.agent.session or "") if c.agent is not None else ""
        agent = c.role_of(turn)
        read = c.shared.database.read
        past = read(lambda db: ledger.past(db, here.workspace, agent)) if found else {}
        amounts = {each.key: budget.estimate(each.metric, each.most, past.get(each.metric, ())) for each in found}
        before = read(lambda db: ledger.lines(db, amounts))
        meter = Meter(_counts(c, agent), limits.currency(binding), read(lambda db: ledger.earlier(db, session)))
        begun = ledger.Begun(here, agent, _model(c), session, timestamp(), amounts)
        seen = {key: line.used for key, line in before.items()}
        return cls(here, found, begun, meter, Stopwatch(c.shared.clock()), seen, dict(amounts), under.kin)

    def drafts(self, turn: Turn) -> list[Draft]:
        """The audit of what it reserves."""
        if not self.limits:
            return []
        reserved = {limit.metric.value: self.held[limit.key] for limit in self.limits}
        return [Draft(AuditKind.BUDGET_RESERVE, turn.id, reserved, who={"agent": self.begun.agent})]

    def begin(self, db: Any) -> None:
        """In the transaction of the turn. Raises BudgetReached where another turn was faster."""
        lines = ledger.lines(db, self.begun.amounts)
        if budget.refusal(self.limits, lines, self.kin) is not None:
            raise BudgetReached("the budget was used up or reserved meanwhile")
        ledger.begin(db, self.begun)

    def now(self, metric: Metric, clock: float) -> int:
        """What it used so far, as far as it is known."""
        if metric in BEGINNING:
            return 1
        return self.watch.elapsed(clock) if metric is Metric.WALL else self.meter.used(metric) or 0

    def covers(self, key: Key) -> bool:
        """Whether what it uses counts there."""
        return key[0] in {self.place.scope(per) for per in Per} or any(limit.scope == key[0] for limit in self.limits)

    def used(self, clock: float) -> ledger.Used:
        """All of it, for the end; of what nobody told anything, what was reserved."""
        counted, estimated = {}, []
        for metric in Metric:
            amount = self.meter.used(metric) if metric in _TOLD else self.now(metric, clock)
            reserved = max((held for (_, other), held in self.held.items() if other is metric), default=0)
            if amount is None and reserved:
                estimated.append(metric.value)
            counted[metric] = amount if amount is not None else reserved
        return ledger.Used(
            counted, _facts(self.meter.reported_by), _facts(self.meter.seen_by),
            self.meter.found_currency or (self.meter.currency if Metric.COST in estimated else ""), ",".join(sorted(estimated)),
            ",".join(sorted(self.meter.doubts)), tuple(limit.key for limit in self.limits),
        )  # fmt: skip

    def settlement(self, turn: Turn, clock: float) -> tuple[list[Draft], ledger.Used]:
        """The audit of what it used, and the rows' facts."""
        used = self.used(clock)
        self.settled = used.metered
        body: dict[str, Any] = {metric.value: amount for metric, amount in used.counted.items()}
        body |= {key: value for key, value in {"estimated": used.estimated, "doubts": used.doubts}.items() if value}
        spent = Draft(AuditKind.BUDGET_SPEND, turn.id, body, who={"agent": self.begun.agent})
        return [spent] if self.limits else [], used


class Accounts:
    """The turns that run on this host, and the conversations whose next turn waits for what they leave."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._running: dict[ConversationId, Account] = {}
        self._waiting: dict[ConversationId, Conversation] = {}
        self.abroad: dict[str, Abroad] = {}  # calls to other machines, by their names in the ledger
        self.changed = asyncio.Event()  # set, and another one then, when something was given back

    def started(self, conversation: ConversationId, account: Account) -> None:
        self._running[conversation] = account

    def ended(self, conversation: ConversationId) -> None:
        """Its end is stored, or never will be: whoever waits looks again."""
        self._running.pop(conversation, None)
        self.wake()

    def wake(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()
        waiting, self._waiting = self._waiting, {}
        for each in waiting.values():
            each.post(inbox.Look())

    def raised(self, key: Key, more: int) -> None:
        """A person added to a limit: it holds for the turns that run, too, and whoever waits looks again."""
        for account in self._running.values():
            account.limits = tuple(replace(each, most=each.most + more) if each.key == key else each for each in account.limits)
        self.wake()

    def wait(self, c: Conversation) -> None:
        self._waiting[c.record.id] = c

    def live(self, keys: Iterable[Key], turns: Collection[str] | None = None) -> dict[Key, int]:
        """What the turns that run, or just these of them, and the calls to other machines have used by now."""
        found: Counter[Key] = Counter()
        running = [each for each in self._running.values() if not each.settled and (turns is None or each.place.turn in turns)]
        for key in keys:
            for account in running:
                if account.covers(key):
                    found[key] += account.now(key[1], self._shared.clock())
            found[key] += sum(each.now(key) for each in self.abroad.values()) if turns is None else 0
        return dict(found)


def gate(c: Conversation, turn: Turn) -> Refusal | None:
    """What keeps a turn from beginning at this moment."""
    under = c.shared.calls.under(c.record.id, turn)
    found = with_callers(limits.of(c.shared.database, limits.binding(c), limits.place(c.record, turn)), under)
    if not found:
        return None
    lines: Mapping[Key, Line] = c.shared.database.read(lambda db: ledger.lines(db, [limit.key for limit in found]))
    return budget.refusal(found, lines, under.kin)


def with_callers(own: tuple[Limit, ...], under: Under) -> tuple[Limit, ...]:
    """Its own limits and those of the turns that called it: what it uses counts there, too."""
    known = {limit.key for limit in own}
    return (*own, *(limit for limit in under.limits if limit.key not in known))


async def look(c: Conversation) -> Refusal | None:
    """What a running turn has used: says so when most is used, reserves more where it needs more. Gives what is exceeded."""
    account = c.current.account if c.current is not None else None
    if account is None or not account.limits:
        return None
    keys = [limit.key for limit in account.limits]
    lines = c.shared.database.read(lambda db: ledger.lines(db, keys))
    live = c.shared.accounts.live(keys)
    for limit in account.limits:
        used = lines[limit.key].used + live.get(limit.key, 0)
        if budget.nearly(limit, account.seen[limit.key], used):
            await _notice(c, limit, used)
        account.seen[limit.key] = max(used, account.seen[limit.key])
        if limit.scope.per is Per.CALL:
            c.shared.calls.uses(limit.scope.name)
    _grow(c, account)
    return budget.over(account.limits, lines, live)


async def _notice(c: Conversation, limit: Limit, used: int) -> None:
    metric, coin = limit.metric, limits.currency(limits.binding(c))
    share = min(100, used * 100 // limit.most)
    most = budget.said(metric, limit.most, coin)
    amount, where = budget.number(metric, used), budget.window(limit.scope)
    text = f"{share} % of the budget is used {where}: {amount} of {most} ({limit.origin})"
    await c.note(text, {"severity": "warning", "budget": limits.as_json(limit) | {"used": used}})


def _grow(c: Conversation, account: Account) -> None:
    """What it used beyond its reservation is reserved as well: a crash must not lose it."""
    for key in account.held:
        now = account.now(key[1], c.shared.clock())
        if now > account.held[key]:
            account.held[key] = now + now // _MORE + 1
            c.shared.database.write(partial(_hold, account.place.turn, key, account.held[key]))


def _hold(turn: str, key: Key, amount: int, db: Any) -> None:
    ledger.hold(db, turn, key, amount)


async def closing(c: Conversation) -> None:
    """Before the end of a turn: the notice of what only its end told."""
    account = c.current.account if c.current is not None else None
    if account is None or not account.limits:
        return
    counted = account.used(c.shared.clock()).counted
    lines = c.shared.database.read(lambda db: ledger.lines(db, [limit.key for limit in account.limits]))
    for limit in account.limits:
        used = lines[limit.key].used + counted[limit.metric]
        if budget.nearly(limit, account.seen[limit.key], used):
            await _notice(c, limit, used)
    if account.meter.doubts:
        why = ", ".join(sorted(account.meter.doubts))
        await c.note(f"what the agent reports of its usage cannot be true ({why}); it was not taken as it came")


def heard(account: Account | None, kind: Kind, update: Mapping[str, Any]) -> None:
    """An update of the agent, as it came."""
    if account is None:
        return
    if kind is Kind.TOOL_CALL:
        account.meter.called(as_text(update.get("toolCallId")))
    elif kind is Kind.USAGE and (cost := as_dict(update.get("cost"))):
        account.meter.cost(cost.get("amount"), as_text(cost.get("currency"))[:8])


def answered(account: Account | None, result: Mapping[str, Any]) -> None:
    """The numbers of the answer to the prompt."""
    if account is not None:
        for name, value in messages.said_usage(result).items():
            account.meter.tokens(name, value)


async def metered(c: Conversation, usage: Mapping[str, int | None]) -> None:
    """What the proxy read in one response to a conversation's agent, by "input", "output" and "cost"; None: it does not say."""
    known = {name: usage[name] for name in ledger.NAMES if usage.get(name) is not None}
    if c.current is not None and c.current.account is not None:
        for name, value in known.items():
            c.current.account.meter.metered(name, value)
        c.post(inbox.Tick())
        return
    metric = {"cost": Metric.COST}
    await _after_the_end(c, {name: true_amount(value, metric.get(name, Metric.TOKENS)) for name, value in known.items()})


async def afterwards(c: Conversation, account: Account) -> None:
    """After the end of a turn is stored: what the proxy read meanwhile."""
    await _after_the_end(c, {name: (account.meter.seen_by(name) or 0) - (account.settled[name] or 0) for name in ledger.NAMES})


async def _after_the_end(c: Conversation, amounts: Mapping[str, int | None]) -> None:
    for name, amount in amounts.items():
        if amount:
            await c.shared.database.write(partial(_late, c.record.id, name, amount))


def _late(conversation: ConversationId, name: str, amount: int, db: Any) -> None:
    ledger.late(db, ledger.last_turn(db, conversation), name, amount)


def _facts(read: Any) -> dict[str, int | None]:
    return {name: read(name) for name in ledger.NAMES}


def _model(c: Conversation) -> str:
    return str(c.agent.role.model or "") if c.agent is not None else ""


def _counts(c: Conversation, agent: str) -> Counts:
    try:
        return Counts(c.workspace.runtime(agent).quirks.get("usage", Counts.TURN))
    except (NotFound, ValueError):
        return Counts.TURN
