"""One agent giving another one a turn: from the admission to one clear outcome, with nothing left running behind it.

    call = calls.begin(c, Wanted("proofreader", "Look at intro.md"))      # c runs a turn; its `over` is the outcome
    calls.stop(call, End.CANCELLED, "...")
    calls.turn_over(c, turn)                                              # what was called in it ends with it

A callee has a conversation of its own; a person answers its questions there. A call never outlives the turn that made it.
(Design: protocol.md 4, architecture.md "Agent calls agent".)
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from opagent.daemon import across, admitting, callees, callers, inbox
from opagent.daemon.admitting import Away, Target
from opagent.daemon.calltree import NOTHING, Call, End, Outcome, Spot, Tree, Under
from opagent.daemon.effects import Act
from opagent.daemon.turns import Prompt
from opagent.errors import Bug, Conflict, NotFound, OpAgentError, StoreFailed
from opagent.model import ConversationId, Kind, Turn, TurnId
from opagent.policy.budget import Metric
from opagent.process.profile import Level
from opagent.store import turns as turn_rows
from opagent.store.effects import State
from opagent.store.events import AuditKind, Draft

if TYPE_CHECKING:
    from opagent.daemon.arriving import Arrived
    from opagent.daemon.conversation import Conversation
    from opagent.daemon.host import Host

log = logging.getLogger(__name__)

MOST_OPEN = 64  # calls of one turn that run or wait for one that does
LONGEST = 3600.0  # seconds a call takes at most
KEPT = 256  # calls that ended, and whose outcome can still be asked for from memory


@dataclass(frozen=True, slots=True)
class Wanted:
    """`conversation`: the one of an earlier call of the same caller, to go on in."""

    to: str
    prompt: str
    timeout: float = LONGEST
    conversation: str = ""


class Calls:
    """One per daemon."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._calls: dict[str, Call] = {}
        self._running: Counter[tuple[ConversationId, TurnId]] = Counter()  # by the caller's turn
        self._slots: dict[tuple[ConversationId, TurnId], asyncio.Semaphore] = {}
        self._trees: dict[tuple[ConversationId, TurnId], Tree] = {}
        self.arrived: dict[str, Arrived] = {}  # from other machines, by their keys
        self._ends: dict[tuple[ConversationId, TurnId], asyncio.Future[tuple[Turn, str]]] = {}

    # ---- for those that call -----------------------------------------------------------------------------------------------

    def begin(self, c: Conversation, wanted: Wanted) -> Call:
        """Start a call for the running turn of `c`. Raises Conflict outside a turn, and for too many at once."""
        running = c.current
        if running is None or running.cancel_reason is not None:
            raise Conflict("nobody is called outside a turn", "", "opagent ps")
        place = (c.record.id, running.turn.id)
        if self._running[place] >= MOST_OPEN:
            raise Conflict("too many calls at once", f"{MOST_OPEN} of this turn have not ended", "wait for one of them")
        parent = self.of_turn(*place)
        tree = parent.tree if parent is not None else self._trees.setdefault(place, Tree())
        ident = self.new_id()
        by = Spot(self._host.host, c.workspace.path, c.role)
        call = Call(ident, tree, by, *place, parent, self._under(c, parent))
        self._forget_old()
        self._calls[ident] = call
        self._running[place] += 1
        call.task = self._host.shared.spawn(self._run(call, self._made(c, call, wanted)), f"call-{ident}")
        return call

    def begin_for_person(self, found: Target, base: str, by: str, wanted: Wanted) -> Call:
        """A person's: `by` as the author of the turn, from the directory `base`. No rule of `agents` binds them."""
        call = Call(self.new_id(), Tree(), Spot(self._host.host, base, by), ConversationId(""), TurnId(""), to=found.spot)
        self._forget_old()
        self._calls[call.id] = call
        self._running[call.caller, call.working] += 1

        async def made() -> Outcome:
            call.begun, title = True, callees.title(self._host, wanted.prompt)
            callee = await self._host.create(found.workspace, found.spot.role, title)
            outcome = await self._turn(call, callee, Prompt(wanted.prompt, by, "call", request(call.id)), wanted.timeout)
            callees.give_back(self._host, call)
            return outcome

        call.task = self._host.shared.spawn(self._run(call, made()), f"call-{call.id}")
        return call

    def begin_for_machine(self, call: Call, found: Target, wanted: Wanted) -> None:
        """One that an agent of another machine makes; `call` is admitted. Its conversation lies in the callee's directory."""
        host = self._host
        self._forget_old()
        self._calls[call.id] = call
        self._running[call.caller, call.working] += 1
        prompt = host.shared.known.hide(wanted.prompt)
        obj = {"name": found.request, "path": found.spot.workspace, "role": found.spot.role, "from": callers.by(host, call)}
        act = Act(AuditKind.CALL_START, obj, {"command": prompt}, agent=call.by.role, call=call.id, trace=call.trace)

        async def made() -> Outcome:
            async with self._recorded(call, act):
                call.begun = True
                callee = callees.earlier(host, call.caller, found, wanted.conversation) if wanted.conversation else None
                callee = callee or await host.create(found.workspace, found.spot.role, callees.title(host, prompt))
                said = Prompt(prompt, f"agent:{call.by.role}", "call", request(call.id), call=callees.named(host, call))
                outcome = await self._turn(call, callee, said, min(wanted.timeout, LONGEST))
            callees.give_back(host, call)
            return outcome

        call.task = host.shared.spawn(self._run(call, made()), f"call-{call.id}")

    def new_id(self) -> str:
        return self._host.shared.new_id("call", lambda db, drawn: turn_rows.conversation_of(db, request(drawn)))

    def all(self) -> list[Call]:
        """Those that are known, the oldest first."""
        return list(self._calls.values())

    def find(self, ident: str, caller: ConversationId | None = None) -> Call:
        """By its id; `caller`: only one of this conversation. Raises NotFound."""
        call = self._calls.get(ident)
        if call is None or (caller is not None and call.caller != caller):
            raise NotFound(f"there is no call {ident!r}", "", "opagent ps --tree")
        return call

    def stop(self, call: Call, end: End, why: str) -> None:
        """End it; its outcome is on its way when this returns."""
        if call.over.done() or call.unwanted is not None:
            return
        call.unwanted, call.why = end, why
        for below in self._made_in(call.conversation, call.turn):
            self.stop(below, End.CANCELLED, "the call that it works for is ended")
        callee = self._host.conversations.get(call.conversation) if call.conversation is not None else None
        if callee is not None and call.turn is not None:
            callee.post(inbox.Cancel(call.turn, end.value))
        else:
            asyncio.get_running_loop().call_soon(self._cancel, call)  # not before its task has begun: it sets the outcome

    @staticmethod
    def _cancel(call: Call) -> None:
        if call.task is not None and not call.begun:
            call.task.cancel()

    # ---- for the conversations -----------------------------------------------------------------------------------------------

    def of_turn(self, conversation: ConversationId, turn: TurnId) -> Call | None:
        """The call that a turn works for."""
        found = (each for each in self._calls.values() if each.conversation == conversation and each.turn == turn)
        return next(found, None)

    def under(self, conversation: ConversationId, turn: Turn | None) -> Under:
        """What binds the agent of a turn beside its own binding."""
        call = self.of_turn(conversation, turn.id) if turn is not None and turn.author.startswith("agent:") else None
        return call.under if call is not None else NOTHING

    def wait_for(self, conversation: ConversationId, turn: TurnId) -> bool:
        """Whether the turn waits for a call that it made."""
        return any(not each.over.done() for each in self._made_in(conversation, turn))

    def turn_stops(self, conversation: ConversationId, turn: TurnId, reason: str) -> None:
        """The turn is being ended: what was called in it is not wanted any more."""
        end = callees.REASONS.get(reason, End.CANCELLED)
        for call in self._made_in(conversation, turn):
            self.stop(call, end, f"the turn that called is ended: {reason}")

    def turn_ended(self, c: Conversation, turn: Turn, sentence: str) -> None:
        """Committed. Whoever called it hears; what it called ends, and the processes of those are given back."""
        place = (c.record.id, turn.id)
        if (heard := self._ends.pop(place, None)) is not None and not heard.done():
            heard.set_result((turn, sentence))
        self.turn_stops(*place, turn.reason or turn.state.value)
        for call in self._made_in(*place):
            call.left = True
            callees.give_back(self._host, call)
        self._trees.pop(place, None)
        self._slots.pop(place, None)

    def uses(self, key: str) -> None:
        """Something was used of what the caller of a call from another machine left: it is told."""
        if (arrived := self.arrived.get(key)) is not None:
            arrived.call.heard()

    def waits(self, c: Conversation, approval: str) -> None:
        """The turn waits for a person, or (empty) goes on: everybody that it works for shows it."""
        current = c.current
        for call in self.of_turn_line(c.record.id, current.turn.id) if current is not None else ():
            call.waits = approval
            self.show(call)

    def of_turn_line(self, conversation: ConversationId, turn: TurnId) -> list[Call]:
        call = self.of_turn(conversation, turn)
        return list(call.line()) if call is not None else []

    # ---- one call ------------------------------------------------------------------------------------------------------------

    async def _run(self, call: Call, made: Coroutine[Any, Any, Outcome]) -> None:
        outcome = Outcome(End.FAILED, "the daemon made a mistake", Bug.code)
        try:
            outcome = await made
        except OpAgentError as error:
            end = End.FAILED if isinstance(error, StoreFailed | Bug) else End.REFUSED
            outcome = Outcome(end, str(error), error.code, error.hint)
        except asyncio.CancelledError:
            if call.unwanted is None:
                raise  # the daemon ends
            outcome = Outcome(call.unwanted, call.why)
        finally:
            self._running[call.caller, call.working] -= 1
            if not call.over.done():
                call.over.set_result(outcome)
                self.show(call)
            if call.left:
                callees.give_back(self._host, call)

    def _slot(self, c: Conversation) -> asyncio.Semaphore:
        """So many calls of a turn run at a time; the others wait for one to end."""
        assert c.current is not None
        capabilities = c.workspace.binding.capabilities
        most = min(each.max_children for each in (capabilities, *capabilities.within))
        return self._slots.setdefault((c.record.id, c.current.turn.id), asyncio.Semaphore(max(1, most)))

    async def _made(self, c: Conversation, call: Call, wanted: Wanted) -> Outcome:
        """For an agent. Raises OpAgentError where it does not begin."""
        host, slot = self._host, self._slot(c)
        prompt = host.shared.known.hide(wanted.prompt)
        who = (call.caller, call.working, call.by.role)
        asked = {"command": prompt}
        act = Act(AuditKind.CALL_START, {"name": wanted.to}, asked, None, None, *who, call=call.id, trace=call.trace)
        try:
            given = host.brought(c.workspace.path)
            found: Target | Away = admitting.away(host, c, wanted.to, given) or admitting.target(
                host, c.workspace.path, wanted.to, given, c.record.agent
            )
            call.to = found.spot
            admitting.within_bounds(call, found, admitting.deepest(c.workspace.binding.capabilities))
            decision, approval = await admitting.allowed(c, found, prompt)
        except OpAgentError as error:
            await host.shared.effects.denied(act, str(error)[:300])
            raise
        if isinstance(found, Away):
            obj = {"name": found.request, "machine": found.there.machine}
            async with slot, self._recorded(call, replace(act, obj=obj, decision=decision, approval=approval)):
                return await across.turn(
                    host, call, found.there, replace(wanted, prompt=prompt, timeout=min(wanted.timeout, LONGEST))
                )
        obj = {"name": found.request, "path": found.spot.workspace, "role": found.spot.role}
        async with slot, self._recorded(call, replace(act, obj=obj, decision=decision, approval=approval)):
            call.begun = True  # from here on it is not cancelled, but looks at the end of each step whether it is still wanted
            callee = await callees.conversation(host, c, found, wanted)
            said = Prompt(prompt, f"agent:{call.by.role}", "call", request(call.id), call=callees.named(host, call))
            return await self._turn(call, callee, said, min(wanted.timeout, LONGEST))

    @asynccontextmanager
    async def _recorded(self, call: Call, act: Act) -> AsyncIterator[None]:
        """Write-ahead: without the record of its begin there is no call. Raises StoreFailed."""
        effects = self._host.shared.effects
        begun = asyncio.ensure_future(effects.begin(act))
        try:
            effect = await asyncio.shield(begun)
        except asyncio.CancelledError:
            await effects.end(await begun, act, State.FAILED, {"outcome": (call.unwanted or End.FAILED).value}, call.why)
            raise
        state, why = State.FAILED, ""
        try:
            yield
            state, why = (State.DONE, "") if call.end is End.ANSWER else (State.FAILED, call.why)
        except OpAgentError as problem:
            why = str(problem)
            raise
        finally:
            adds = {"outcome": (call.end or End.FAILED).value, "conversation": call.conversation, "turn": call.turn}
            if call.there is not None:
                adds |= {"conversation": call.there.conversation, "turn": call.there.turn, "machine": call.there.machine}
            await asyncio.shield(effects.end(effect, act, state, adds, why[:300]))

    async def _turn(self, call: Call, callee: Conversation, said: Prompt, within: float) -> Outcome:
        """The callee's turn, to its end."""
        host = self._host
        before = host.journal.last_seq(callee.record.id)
        call.conversation, call.file = callee.record.id, callee.record.path
        if call.unwanted is not None:
            call.end = call.unwanted
            return Outcome(call.unwanted, call.why)
        turn = await self._queued(callee, call, said)
        self.show(call)
        heard = self._ends[callee.record.id, turn.id]
        try:
            async with asyncio.timeout(within):
                ended, sentence = await asyncio.shield(heard)
        except TimeoutError:
            self.stop(call, End.TIMED_OUT, f"it took longer than {within:g} s")
            ended, sentence = await heard
        text = await asyncio.to_thread(callees.answer, host, call, callee.record, turn.id, before)
        if callees.changed_files(host, ended):
            call.tree.pairs.progress()
        outcome = callees.outcome(call, ended, sentence, text)
        call.end, call.why = outcome.end, outcome.text
        return outcome

    async def _queued(self, callee: Conversation, call: Call, said: Prompt) -> Turn:
        """Known as this call's before it can begin, and so before it can end."""

        def drawn(turn: Turn) -> None:
            call.turn = turn.id
            self._ends[callee.record.id, turn.id] = asyncio.get_running_loop().create_future()

        turn, _ = await callee.enqueue(replace(said, drawn=drawn))
        if call.unwanted is not None:  # it was ended while this was committed
            callee.post(inbox.Cancel(turn.id, call.unwanted.value))
        return turn

    def _under(self, c: Conversation, parent: Call | None) -> Under:
        """What binds whoever is called from the running turn of `c`."""
        above = parent.under if parent is not None else NOTHING
        running = c.current
        assert running is not None
        own = replace(c.workspace.binding.capabilities, within=())
        limits = running.account.limits if running.account is not None else ()
        kept = tuple(each for each in limits if each.metric is not Metric.WALL)  # a caller's clock runs while it waits
        strict = above.strict or (c.agent is not None and c.agent.plan.level is Level.STRICT)
        kin = above.kin | {f"{c.record.id}/{running.turn.id}"}
        return Under((*above.capabilities, own), strict, kept, kin)

    def _made_in(self, conversation: ConversationId | None, turn: TurnId | None) -> list[Call]:
        return [each for each in self._calls.values() if each.caller == conversation and each.working == turn]

    def show(self, call: Call) -> None:
        """In the caller's file: a line with the way to the callee's; to the machine that it came from."""
        call.heard()
        caller = self._host.conversations.get(call.caller)
        if caller is not None and call.to is not None:
            caller.post(inbox.Tells(call.working, (Draft(Kind.TOOL_CALL, call.working, callees.shown(call, caller.record)),)))

    def _forget_old(self) -> None:
        ended = [each.id for each in self._calls.values() if each.over.done() and not self._running[each.caller, each.working]]
        for ident in ended[: max(0, len(ended) - KEPT)]:
            del self._calls[ident]
        self.arrived = {key: each for key, each in self.arrived.items() if each.call.id in self._calls}
        self._running += Counter()  # drops what is zero


def request(ident: str) -> str:
    """The key of the callee's turn: a call can be found by it after the daemon ended."""
    return f"call {ident}"
