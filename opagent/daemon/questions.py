"""What an agent asks us: permission, a client service, or something we do not have; and how its question ends.

Called by the consumer only; it waits for nobody. A question to a person is an approval, and its answer comes back as an item.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

from opagent.acp import elicitation, messages
from opagent.acp.connection import Asked
from opagent.acp.permission import Permission, choose, read_permission
from opagent.control import METHOD_NOT_FOUND
from opagent.daemon import connecting, enforcing, granted, inbox
from opagent.daemon.asking import Question, Waiting
from opagent.model import QUESTION, Approval, ApprovalId, ApprovalState, Decision, Effect, Kind, ProcessState, TurnState
from opagent.policy import fatigue, remembering
from opagent.process.states import Happening
from opagent.store import turns as rows
from opagent.store.events import Draft

if TYPE_CHECKING:
    from opagent import jsonrpc
    from opagent.daemon.agent import Agent
    from opagent.daemon.conversation import Conversation
    from opagent.daemon.turns import Running


GUARD = "opagent/guard"  # stands for a request of the agent in the question whether it may ask on


async def withdraw(c: Conversation, running: Running) -> None:
    """Every open permission request is answered `cancelled`."""
    held, running.held = running.held, []
    for request, _ in held if c.agent is not None else ():
        _say_cancelled(c, request)
    for ident, request in list(running.pending.items()):
        del running.pending[ident]
        await c.shared.approvals.settle(ident, ApprovalState.CANCELLED, "the turn ended")
        if c.agent is not None:
            _say_cancelled(c, request)


def _say_cancelled(c: Conversation, request: Asked) -> None:
    assert c.agent is not None
    if isinstance(request, Waiting):
        if not request.heard.done():
            request.heard.set_result("the turn was cancelled")
        return
    match request.method:
        case "session/request_permission":
            c.agent.answer(request.id, messages.cancelled_outcome())
        case "elicitation/create":
            c.agent.answer(request.id, elicitation.cancelled())
        case connecting.CONNECT:
            connecting.cancelled(c, request)
        case method if method == GUARD:
            pass  # no agent waits for it
        case _:
            c.agent.refuse(request.id, messages.REQUEST_CANCELLED, "the turn was cancelled")


async def taken_back(c: Conversation, ident: jsonrpc.Id) -> None:
    """`$/cancel_request`: the agent no longer wants the answer to its question."""
    agent, running = c.agent, c.current
    assert agent is not None
    if c.services is not None:
        c.services.taken_back(ident)
    for request, question in list(running.held) if running else ():
        if running is not None and request.id == ident:
            running.held.remove((request, question))
            agent.refuse(ident, messages.REQUEST_CANCELLED, "taken back")
    for approval, request in list(running.pending.items()) if running else ():
        if running is not None and request.id == ident:
            del running.pending[approval]
            await c.shared.approvals.settle(approval, ApprovalState.CANCELLED, "the agent took its question back")
            agent.refuse(ident, messages.REQUEST_CANCELLED, "taken back")
            await _goes_on(c, running, agent, approval)


async def end(c: Conversation, running: Running, number: int, reason: str) -> None:
    """A question that is not wanted any more, and that nobody waits to hear the answer of."""
    running.held = [each for each in running.held if each[0].number != number]
    for approval, request in list(running.pending.items()):
        if request.number == number and c.agent is not None:
            del running.pending[approval]
            await c.shared.approvals.settle(approval, ApprovalState.CANCELLED, reason)
            await _goes_on(c, running, c.agent, approval)


async def asked(c: Conversation, request: Asked) -> None:
    """A request of the agent: permission, a client service, or something we do not have."""
    agent = c.agent
    assert agent is not None
    if request.method == "session/request_permission":
        await _permission(c, request)
    elif request.method == "elicitation/create":
        await _question(c, request)
    elif c.services is not None and c.services.takes(request.method):
        await c.services.serve(request)
    else:
        agent.refuse(request.id, METHOD_NOT_FOUND, f"no method {request.method!r}")


def _read(running: Running | None, request: Asked) -> Permission | None:
    """With what the tool call said before."""
    call = messages.as_dict(request.params.get("toolCall"))
    known = running.calls.get(messages.as_text(call.get("toolCallId")), {}) if running else {}
    return read_permission(request.params, known)


async def _permission(c: Conversation, request: Asked) -> None:
    running, agent = c.current, c.agent
    assert agent is not None
    permission = _read(running, request)
    if permission is None or running is None or running.cancel_reason is not None:
        agent.answer(request.id, messages.cancelled_outcome())
        if permission is None:
            await c.note("the agent asked for permission in a form that cannot be answered; it was told: cancelled")
        return
    pattern = remembering.claimed(permission.kind, permission.same)
    earlier = c.shared.approvals.remembered(c, permission.kind, pattern)
    decision = c.workspace.decide_permission(permission, earlier, enforcing.stands(agent).confined)
    if decision.effect is Effect.ASK:
        await put(c, running, request, Question.of(permission, decision, pattern))
    else:
        await _at_once(c, running, request, permission, decision)


async def _at_once(c: Conversation, running: Running, request: Asked, permission: Permission, decision: Decision) -> None:
    """A rule decides, or what a person said before."""
    assert c.agent is not None
    option = permission.option(decision.effect is Effect.ALLOW)
    if option and decision.effect is Effect.ALLOW:
        await granted.grant(c, running, permission, decision, None)
    c.agent.answer(request.id, messages.selected_outcome(option) if option else messages.cancelled_outcome())
    verb = "allowed" if decision.effect is Effect.ALLOW else "denied"
    first = permission.subject.splitlines()[0]
    more = {"rule": decision.rule, "effect": verb, "call": messages.as_text(permission.tool_call.get("toolCallId"))}
    await c.note(f"{verb} by {decision.rule}: {first}", {key: value for key, value in more.items() if value})


async def _question(c: Conversation, request: Asked) -> None:
    """Words for the agent: a person answers, or says that they will not."""
    agent, running = c.agent, c.current
    assert agent is not None
    if running is None or running.cancel_reason is not None:
        agent.answer(request.id, elicitation.cancelled())
        return
    try:
        form = elicitation.read_question(request.params)
    except ValueError as error:
        agent.answer(request.id, elicitation.declined())
        message = messages.as_text(request.params.get("message"))
        await c.note(f"the agent asked a question that cannot be shown, since {error}; it was declined: {message}")
        return
    decision = Decision(Effect.ASK, "a question of the agent", "agent", "acp")
    await put(c, running, request, Question(QUESTION, form.message, form.digest, form.options, decision))


async def put(c: Conversation, running: Running, request: Asked, question: Question) -> None:
    """Put it to a person; the answer comes back as an item of the inbox. Where there were too many, it is held for a while."""
    if running.held or not c.guard.takes(c.shared.clock()):
        running.held.append((request, question))
        if len(running.held) > 1:
            return
        c.guard.summaries += 1
        request, question = Asked(GUARD, GUARD, {}, -c.guard.summaries), _summary(c)
    approval = await c.shared.approvals.ask(c, running.turn, request, question)
    running.pending[approval.id] = request
    if running.account is not None and c.workspace.approval_timeout()[1]:
        running.account.watch.stop(c.shared.clock())  # a question that waits for ever must not use up the time
    await c.waits(approval)


def _summary(c: Conversation) -> Question:
    """The one question that stands for all that wait behind it. A yes answers none of them."""
    minutes = int(fatigue.WITHIN // 60)
    subject = (
        f"{c.role} has asked {fatigue.MOST} questions in {minutes} minutes and is paused. Let it ask on? A no ends its turn."
    )
    decision = Decision(Effect.ASK, f"more than {fatigue.MOST} questions in {minutes} minutes", "built-in", "proxy")
    return Question("pause", subject, hashlib.sha256(subject.encode()).hexdigest(), (), decision)


async def _let_ask(c: Conversation, running: Running, approval: Approval) -> None:
    """What was held is asked, one by one; or the turn ends."""
    held, running.held = running.held, []
    if approval.state is ApprovalState.ALLOWED:
        c.guard.reset()
        for request, question in held:
            await put(c, running, request, question)
        return
    for request, _ in held:
        _say_cancelled(c, request)
    c.post(inbox.Cancel(running.turn.id, "asked too much"))


async def answered(c: Conversation, approval: Approval) -> None:
    """The committed answer goes to the agent, chosen by kind."""
    running, agent = c.current, c.agent
    if agent is not None and not agent.lives:
        return  # it never hears it: its end, which is on its way, makes the answer void
    request = running.pending.pop(approval.id, None) if running else None
    if running is None or agent is None or request is None:
        return  # the turn ended before: nobody waits for it, and nothing is done for it
    if request.method == GUARD:
        await _let_ask(c, running, approval)
    elif request.method == "session/request_permission":
        chosen = choose(approval.options, approval.state is ApprovalState.ALLOWED)
        permission = _read(running, request)
        if chosen and permission and approval.state is ApprovalState.ALLOWED:
            said = Decision(Effect.ALLOW, approval.rule or "", approval.answered_by or "", "acp")
            await granted.grant(c, running, permission, said, approval.id)
        agent.answer(request.id, messages.selected_outcome(chosen) if chosen else messages.cancelled_outcome())
        if chosen is None:
            await c.note("the agent offered no option that says this, only for ever or not at all; it was told: cancelled")
    elif request.method == "elicitation/create":
        agent.answer(request.id, _words(approval, request))
    elif request.method == connecting.CONNECT:
        connecting.answered(c, approval, request)
    elif isinstance(request, Waiting):
        if not request.heard.done():
            request.heard.set_result(approval)
    elif c.services is not None:
        await c.services.answered(approval, request)
    await _goes_on(c, running, agent, approval.id)


def _words(approval: Approval, request: Asked) -> messages.Body:
    if approval.state is ApprovalState.ALLOWED:
        return elicitation.accepted(request.params, approval.answer or "")
    return elicitation.declined() if approval.state is ApprovalState.DENIED else elicitation.cancelled()


async def _goes_on(c: Conversation, running: Running, agent: Agent, settled: ApprovalId) -> None:
    """A question is settled and the agent was told: the turn runs again if it was the last one."""
    turn = running.turn if not running.pending else replace(running.turn, state=TurnState.WAITING)
    if not running.pending and c.process_state is ProcessState.WAITING:
        await c.move(Happening.ANSWERED)
    agent.last_heard = c.shared.clock()
    if not running.pending:
        c.shared.calls.waits(c, "")
    if running.account is not None and not running.pending:
        running.account.watch.go_on(c.shared.clock())
    draft = Draft(Kind.TURN_STATE, turn.id, {"state": turn.state.value, "message": turn.message, "delivered": settled})
    await c.append([draft], barrier=True, also=lambda db: rows.update(db, turn))
    await c.file.write()
