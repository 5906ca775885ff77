"""What an agent asks us: permission, a client service, or something we do not have; and how its question ends.

Called by the consumer only; it waits for nobody. A question to a person is an approval, and its answer comes back as an item.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from opagent.acp import elicitation, messages
from opagent.acp.connection import Asked
from opagent.acp.permission import choose, read_permission
from opagent.control import METHOD_NOT_FOUND
from opagent.daemon.approvals import Question
from opagent.model import QUESTION, Approval, ApprovalId, ApprovalState, Effect, Kind, ProcessState, TurnState
from opagent.process.states import Happening
from opagent.store import turns as rows
from opagent.store.events import Draft

if TYPE_CHECKING:
    from opagent import jsonrpc
    from opagent.daemon.agent import Agent
    from opagent.daemon.conversation import Conversation
    from opagent.daemon.turns import Running


async def withdraw(c: Conversation, running: Running) -> None:
    """Every open permission request is answered `cancelled`."""
    for ident, request in list(running.pending.items()):
        del running.pending[ident]
        await c.shared.approvals.settle(ident, ApprovalState.CANCELLED, "the turn ended")
        if c.agent is not None:
            _say_cancelled(c, request)


def _say_cancelled(c: Conversation, request: Asked) -> None:
    assert c.agent is not None
    match request.method:
        case "session/request_permission":
            c.agent.answer(request.id, messages.cancelled_outcome())
        case "elicitation/create":
            c.agent.answer(request.id, elicitation.cancelled())
        case _:
            c.agent.refuse(request.id, messages.REQUEST_CANCELLED, "the turn was cancelled")


async def taken_back(c: Conversation, ident: jsonrpc.Id) -> None:
    """`$/cancel_request`: the agent no longer wants the answer to its question."""
    agent, running = c.agent, c.current
    assert agent is not None
    if c.services is not None:
        c.services.taken_back(ident)
    for approval, request in list(running.pending.items()) if running else ():
        if running is not None and request.id == ident:
            del running.pending[approval]
            await c.shared.approvals.settle(approval, ApprovalState.CANCELLED, "the agent took its question back")
            agent.refuse(ident, messages.REQUEST_CANCELLED, "taken back")
            await _goes_on(c, running, agent, approval)


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


async def _permission(c: Conversation, request: Asked) -> None:
    running, agent = c.current, c.agent
    assert agent is not None
    call = messages.as_dict(request.params.get("toolCall"))
    known = running.calls.get(messages.as_text(call.get("toolCallId")), {}) if running else {}
    permission = read_permission(request.params, known)
    if permission is None or running is None or running.cancel_reason is not None:
        agent.answer(request.id, messages.cancelled_outcome())
        if permission is None:
            await c.note("the agent asked for permission in a form that cannot be answered; it was told: cancelled")
        return
    decision = c.workspace.decide_permission(permission, c.shared.approvals.remembered(c.record.id, permission))
    if decision.effect is not Effect.ASK:
        option = permission.option(decision.effect is Effect.ALLOW)
        agent.answer(request.id, messages.selected_outcome(option) if option else messages.cancelled_outcome())
        verb = "allowed" if decision.effect is Effect.ALLOW else "denied"
        first = permission.subject.splitlines()[0]
        await c.note(f"{verb} by {decision.rule}: {first}", {"rule": decision.rule, "effect": verb})
        return
    await put(c, running, request, Question.of(permission, decision.rule))


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
    rule = "a question of the agent"
    await put(c, running, request, Question(QUESTION, form.message, form.digest, form.options, rule))


async def put(c: Conversation, running: Running, request: Asked, question: Question) -> Approval:
    """Put it to a person; the answer comes back as an item of the inbox."""
    approval = await c.shared.approvals.ask(c, running.turn, request, question)
    running.pending[approval.id] = request
    if running.account is not None and c.workspace.approval_timeout()[1]:
        running.account.watch.stop(c.shared.clock())  # a question that waits for ever must not use up the time
    await c.waits(approval)
    return approval


async def answered(c: Conversation, approval: Approval) -> None:
    """The committed answer goes to the agent, chosen by kind."""
    running, agent = c.current, c.agent
    request = running.pending.pop(approval.id, None) if running else None
    if running is None or agent is None or request is None:
        if c.services is not None:
            await c.services.answered(approval)
        return
    if request.method == "session/request_permission":
        chosen = choose(approval.options, approval.state is ApprovalState.ALLOWED)
        agent.answer(request.id, messages.selected_outcome(chosen) if chosen else messages.cancelled_outcome())
        if chosen is None:
            await c.note("the agent offered no option that says this, only for ever or not at all; it was told: cancelled")
    elif request.method == "elicitation/create":
        agent.answer(request.id, _words(approval, request))
    elif c.services is not None:
        await c.services.answered(approval)
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
    if running.account is not None and not running.pending:
        running.account.watch.go_on(c.shared.clock())
    draft = Draft(Kind.TURN_STATE, turn.id, {"state": turn.state.value, "message": turn.message, "delivered": settled})
    await c.append([draft], barrier=True, also=lambda db: rows.update(db, turn))
    await c.file.write()
