"""The life of one turn: queued, running, waiting, ended; each step committed before it acts. Called by the consumer only.

Order (conversation.md, section 15): queued is durable before anybody is told; the file shows the message and an open
reply; running is durable before the first byte goes to the agent; the end is durable before the file shows it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from opagent.acp import messages
from opagent.acp.connection import Asked, Refusal, Update
from opagent.daemon import aftercare, granted, inbox, pauses, questions, spending, standing
from opagent.daemon.asking import Pause
from opagent.daemon.attachments import attached
from opagent.daemon.spending import Account
from opagent.document.names import LETTERS
from opagent.errors import BudgetReached, Conflict, StoreFailed
from opagent.model import ApprovalId, Kind, MessageId, ProcessState, Turn, TurnId, TurnState
from opagent.policy import loops
from opagent.process.states import Happening
from opagent.store import conversations as conversation_rows
from opagent.store import ledger
from opagent.store import turns as rows
from opagent.store.events import Draft

if TYPE_CHECKING:
    from opagent.daemon.aftermath import Acts
    from opagent.daemon.asking import Question
    from opagent.daemon.conversation import Conversation
    from opagent.daemon.effects import Act

CANCEL_WITHIN = 10.0  # seconds an agent has to end a cancelled turn
_LOOKED_BACK = 50  # turns
COALESCED = 64 * 1024  # characters of text that one event takes from updates that lay in the inbox together
_STOPS = {
    "end_turn": (TurnState.DONE, None),
    "cancelled": (TurnState.CANCELLED, "cancelled"),
    "refusal": (TurnState.FAILED, "refusal"),
    "max_tokens": (TurnState.FAILED, "max_tokens"),
    "max_turn_requests": (TurnState.FAILED, "max_turn_requests"),
}
_SENTENCES = {
    "refusal": "the agent reports that it refuses to answer this",
    "max_tokens": "the agent reports that the answer reached its length limit",
    "max_turn_requests": "the agent reports that it asked its model too often in this turn",
}


_TITLES = {
    "instructions": "Instructions for this directory",
    "conversation": "The conversation so far",
    "meanwhile": "Said in this conversation since your last answer",
}


@dataclass(slots=True)
class Running:
    """The turn that the agent works on."""

    turn: Turn
    number: int  # of our session/prompt
    pending: dict[ApprovalId, Asked] = field(default_factory=dict)
    held: list[tuple[Asked, Question]] = field(default_factory=list)  # asked after too many others: nobody sees them yet
    calls: dict[str, dict[str, Any]] = field(default_factory=dict)  # tool calls as far as they are known
    usage: dict[str, Any] = field(default_factory=dict)
    granted: dict[str, list[tuple[int, Act]]] = field(default_factory=dict)  # by tool call: the records of what we said yes to
    reported: list[tuple[str, str]] = field(default_factory=list)  # of these, the calls that ended, and how
    cancel_reason: str | None = None
    cancel_sentence: str = ""
    stalled: bool = False
    account: Account | None = None
    watch: loops.Watch = field(default_factory=loops.Watch)
    verdicts: list[loops.Verdict] = field(default_factory=list)  # of the last updates, not acted on yet
    pause: Pause | None = None  # why we stop it, to be asked about at its end


@dataclass(frozen=True, slots=True)
class Prompt:
    """What somebody wants to say. `request`: the client's key. `agent`: another one than the conversation's, this once.

    `raw`: the draft of the file that it was. The log keeps its bytes, so that a save of an editor that has it still is known.
    """

    text: str
    author: str  # human:UID, agent:NAME, or `file` where it cannot be told
    via: str
    request: str | None = None
    agent: str | None = None
    raw: bytes = b""
    call: Mapping[str, Any] = field(default_factory=dict)  # of an agent's: the call that it is for
    drawn: Callable[[Turn], None] = lambda turn: None  # told of the turn before it can begin


async def queue(c: Conversation, prompt: Prompt) -> tuple[Turn, bool]:
    """Commit a new turn; (the turn that this request key already has, False) when it came before."""
    ident = c.shared.new_id("reply")
    turn = Turn(  # the message is called after its reply: where one is unique, so is the other
        id=TurnId(ident), message=MessageId(LETTERS["message"] + ident[1:]), conversation=c.record.id,
        author=prompt.author, text=prompt.text, state=TurnState.QUEUED, queued_at=c.shared.now(), request=prompt.request,
        agent=prompt.agent if prompt.agent != c.record.agent else None,
    )  # fmt: skip
    said = {"state": "queued", "message": turn.message, "author": turn.author, "text": turn.text, "via": prompt.via}
    more = {"agent": turn.agent, "raw": prompt.raw.decode("latin-1"), "call": dict(prompt.call)}
    body = said | {key: value for key, value in more.items() if value}
    draft = Draft(Kind.TURN_STATE, turn.id, body, who={"agent" if prompt.call else "human": turn.author})

    def change(db: Any) -> None:
        if rows.queue(db, turn).id != turn.id:
            raise Conflict("this request was made before")

    try:
        await c.append([draft], barrier=True, also=change)
    except Conflict:
        known = by_request(c, prompt.request or "")
        if known is None:
            return await queue(c, prompt)  # the id was taken: another one
        return known, False
    prompt.drawn(turn)
    return turn, True


async def begin(c: Conversation, turn: Turn) -> None:
    """The file, the log, then the agent."""
    agent = c.agent
    assert agent is not None and agent.session is not None
    running = replace(turn, state=TurnState.RUNNING)
    c.current = current = Running(running, 0)  # from here on whatever goes wrong ends this turn
    try:
        current.account = account = Account.open(c, running)
        c.shared.ownership.take(c.workspace.path)
        c.aftermath.begin(turn.id)
        if agent.fresh:
            c.retold, c.versions.forgot = "", False  # it is told what stands in the file
        await standing.tell(c)
        await c.file.open_turn(turn)
        body = {"state": "running", "message": turn.message, "agent": c.role_of(turn)}
        drafts = [Draft(Kind.TURN_STATE, turn.id, body), *c.redaction.warning(turn), *account.drafts(turn)]

        def change(db: Any) -> None:
            rows.update(db, running)
            account.begin(db)

        await c.append(drafts, barrier=True, also=change)
    except (StoreFailed, BudgetReached) as error:
        c.current = None
        c.queue.appendleft(turn)  # nothing was sent: it runs when the store is back
        if isinstance(error, StoreFailed):
            raise
        c.post(inbox.Look())  # another turn was faster: look again at what it leaves
        return
    c.shared.accounts.started(c.record.id, account)
    await pauses.withdraw(c, "the conversation went on")
    blocks = await _blocks(c, turn, agent.fresh)
    await aftercare.before(c)
    await c.shared.turn_begins(c)
    await c.aftermath.ready()
    current.number = agent.request("session/prompt", messages.prompt(agent.session, blocks))
    agent.last_heard = c.shared.clock()
    if drafts := collect(c.current, c.take_early()):
        await c.append(drafts)
    c.tick()


async def _blocks(c: Conversation, turn: Turn, fresh: bool) -> list[dict[str, Any]]:
    """The prompt: for a fresh session first what the directory tells every agent, and the conversation so far; then the files
    that the message names, and at last the message."""
    assert c.agent is not None
    if fresh:
        context = [("instructions", c.workspace.instructions(c.role_of(turn))), ("conversation", await c.file.history())]
    else:
        context = [("meanwhile", await _meanwhile(c, turn))]
    blocks = [_context_block(name, text, c.agent.facts.embedded_context) for name, text in context if text]
    found = await attached(c.workspace, c.record.path, turn.text, c.agent.facts)
    for note in found.notes:
        await c.note(note)
    return [*blocks, *found.blocks, messages.text_block(turn.text)]


async def _meanwhile(c: Conversation, turn: Turn) -> str:
    """What others were asked since the last turn that this session took."""
    last = c.shared.database.read(lambda db: rows.newest(db, c.record.id, _LOOKED_BACK))
    before = [each for each in last if each.id != turn.id and each.state.final and each.reason != "removed"]
    taken = [each for each in before if each.agent == turn.agent]
    if not before or not taken or before[-1] is taken[-1]:
        return ""
    return await c.file.history(since=taken[-1].id)


def last_guest(c: Conversation) -> str | None:
    """Which other agent of the binding took the last turn, if one did."""
    last = c.shared.database.read(lambda db: rows.newest(db, c.record.id, 1))
    return last[-1].agent if last else None


def by_request(c: Conversation, request: str) -> Turn | None:
    """The turn that was made by this request."""
    return c.shared.database.read(lambda db: rows.by_request(db, c.record.id, request))


def _context_block(name: str, text: str, embedded: bool) -> dict[str, Any]:
    if embedded:
        resource = {"uri": f"opagent://{name}", "mimeType": "text/markdown", "text": text}
        return {"type": "resource", "resource": resource}
    title = _TITLES[name]
    return messages.text_block(f"<{name}>\n{title}:\n\n{text}\n</{name}>")


def collect(running: Running, updates: Iterable[Update]) -> list[Draft]:
    """The updates as drafts; text that follows text of its kind becomes one draft of about COALESCED characters."""
    drafts: list[Draft] = []
    pieces: list[str] = []
    said, size = Kind.TEXT, 0
    for update in updates:
        read = messages.read_update(update.update)
        if read is None:
            continue
        kind, body = read
        _watched(running, kind, body, update.update)
        if pieces and (kind is not said or size >= COALESCED):
            drafts.append(Draft(said, running.turn.id, {"text": "".join(pieces)}))
            pieces, size = [], 0
        if kind not in (Kind.TEXT, Kind.THOUGHT):
            drafts.append(Draft(kind, running.turn.id, _other(running, kind, body)))
        elif body["text"]:
            said, size = kind, size + len(body["text"])
            pieces.append(body["text"])
    if pieces:
        drafts.append(Draft(said, running.turn.id, {"text": "".join(pieces)}))
    return drafts


def _watched(running: Running, kind: Kind, body: Mapping[str, Any], update: Mapping[str, Any]) -> None:
    """What it costs, and whether it goes in circles."""
    spending.heard(running.account, kind, update)
    if kind is Kind.TEXT and body["text"]:
        running.watch.said()
    elif kind is Kind.PLAN:
        running.watch.planned(body["entries"])


def _other(running: Running, kind: Kind, body: dict[str, Any]) -> dict[str, Any]:
    """Of a tool call only what changed; what was used is kept for the end."""
    if kind is Kind.TOOL_CALL:
        known = running.calls.setdefault(body["id"], {})
        changed = {key: value for key, value in body.items() if key == "id" or known.get(key) != value}
        known.update(body)
        if known.get("status") in ("completed", "failed") and "status" in changed:
            if (verdict := running.watch.called(loops.read(known))) is not None:
                running.verdicts.append(verdict)
            running.calls[body["id"]] = {key: known[key] for key in ("id", "title", "kind", "status") if key in known}
            if body["id"] in running.granted:
                running.reported.append((body["id"], known["status"]))
        return changed
    if kind is Kind.USAGE:
        running.usage.update(body)
    return body


async def ended(c: Conversation, number: int, result: Mapping[str, Any]) -> None:
    """The agent answered the prompt."""
    running = c.current
    if running is None or running.number != number:
        return
    await c.settle()  # a text that the store refused must not end as done
    await _settle_in(c)
    running.usage.update(messages.turn_usage(result))
    spending.answered(running.account, result)
    reason = messages.as_text(result.get("stopReason"))
    state, word = _STOPS.get(reason, (TurnState.DONE, None))
    if running.cancel_reason is not None:
        state, word = TurnState.CANCELLED, running.cancel_reason
    await finish(c, state, word, running.cancel_sentence or _SENTENCES.get(reason, ""))


async def refused(c: Conversation, number: int, refusal: Refusal) -> None:
    """The agent answered the prompt with an error: its own words, as its own."""
    running = c.current
    if running is None or running.number != number:
        return
    if running.cancel_reason is not None:
        await finish(c, TurnState.CANCELLED, running.cancel_reason, running.cancel_sentence)
    elif refusal.code == messages.AUTH_REQUIRED and c.agent is not None:
        error = c.agent.signed_out(refusal)
        await finish(c, TurnState.FAILED, error.code, str(error), error.hint)
    else:
        await finish(c, TurnState.FAILED, "agent_error", f"the agent reports: {refusal.message}")


async def finish(c: Conversation, state: TurnState, reason: str | None, sentence: str, hint: str = "") -> None:
    """The end of the running turn: log (barrier), then the file, then the next turn."""
    running = c.current
    assert running is not None
    await questions.withdraw(c, running)
    await granted.reported(c, running)
    await granted.unheard(c, running)
    if running.pause is not None and state is TurnState.CANCELLED:
        sentence, hint = await pauses.put(c, running.turn, running.pause)
    await aftercare.after(c)
    await spending.closing(c)
    turn = replace(running.turn, state=state, ended_at=c.shared.now(), reason=reason, usage=running.usage)
    _, acts = await c.aftermath.end(turn)
    await _end(c, turn, sentence, hint, running.account, acts)
    c.current = None  # not before it is committed: the store may refuse, and then it is tried again
    c.shared.accounts.ended(c.record.id)
    if running.account is not None:
        await spending.afterwards(c, running.account)
    if c.agent is not None:
        c.agent.met("cancel")
        if c.process_state is ProcessState.WAITING:
            await c.move(Happening.ANSWERED)
    c.idle_since = c.shared.clock()
    c.shared.conversation_idle(c)
    if c.agent is not None and c.agent.stale:
        c.post(inbox.StopAgent(again=False, force=False, idle=True))  # what it should not write lies open to it
    c.post(inbox.Look())


async def end_queued(c: Conversation, turn: Turn, state: TurnState, reason: str, sentence: str = "", hint: str = "") -> None:
    """The end of a turn that never began; the file shows the message and why, unless the person took it back."""
    if state is TurnState.FAILED or await c.file.stands(turn):
        await c.file.open_turn(turn)
    await _end(c, replace(turn, state=state, ended_at=c.shared.now(), reason=reason), sentence, hint)


async def _end(c: Conversation, turn: Turn, sentence: str, hint: str, account: Account | None = None, acts: Acts = ()) -> None:
    body: dict[str, Any] = {"state": turn.state.value, "message": turn.message, "usage": dict(turn.usage)}
    body |= {key: value for key, value in {"reason": turn.reason, "sentence": sentence, "hint": hint}.items() if value}
    spent, used = account.settlement(turn, c.shared.clock()) if account is not None else ([], None)

    def change(db: Any) -> None:
        rows.update(db, turn)
        c.aftermath.record(db, acts)
        if account is not None and used is not None:
            ledger.end(db, account.place, used, turn.ended_at or c.shared.now())

    with c.shared.held(c.record.id):  # who hears of the end finds it in the file
        await c.append([Draft(Kind.TURN_STATE, turn.id, body), *spent], barrier=True, also=change)
        await c.file.close_turn(turn)
    c.shared.calls.turn_ended(c, turn, sentence)


async def cancel(c: Conversation, reason: str) -> None:
    """Ask the agent to stop; it has ten seconds, then the process ends."""
    running, agent = c.current, c.agent
    assert running is not None
    if running.cancel_reason is not None:
        return
    running.cancel_reason = reason
    c.shared.calls.turn_stops(c.record.id, running.turn.id, reason)
    if agent is None or agent.session is None:
        await finish(c, TurnState.CANCELLED, reason, running.cancel_sentence)
        return
    agent.notify("session/cancel", {"sessionId": agent.session})
    await questions.withdraw(c, running)
    agent.deadline("cancel", CANCEL_WITHIN)


async def _settle_in(c: Conversation) -> None:
    """A new session has answered, so it knows the conversation so far: from now on it is the one to come back to."""
    if c.agent is not None and c.agent.fresh:
        c.agent.fresh = False
        if c.guest is not None or c.retold:
            return  # it was here for one turn, or knows what was said otherwise
        c.moved(replace(c.record, acp_session=c.agent.session))
        await c.shared.database.write(lambda db: conversation_rows.update(db, c.record))
