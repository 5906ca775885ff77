"""One session of an editor: the events of one conversation as what its editor is told, and the requests that wait for them.

It asks no daemon anything; what it has to say goes out by `tell`, `answer`, `refuse` and `ask`, in the order of the events.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from opagent import jsonrpc
from opagent.acp import editor as agent
from opagent.acp import put
from opagent.acp.editor import Editor
from opagent.acp.messages import REQUEST_CANCELLED, Body, as_dict, as_text
from opagent.acp.passing import KINDS
from opagent.acp.shown import FINAL, History, Shown
from opagent.cli.lines import Line
from opagent.control import event_json
from opagent.model import Event, Kind

_DOWN = ("failed", "backoff", "stopped")


class Speaker(Protocol):
    """How a session speaks to its editor."""

    def notify(self, method: str, params: Body) -> None: ...

    def stream(self, session: str, event: Event) -> None:
        """Text of the agent, whose event has its body as JSON."""

    def answer(self, ident: jsonrpc.Id, result: Body) -> None: ...

    def refuse(self, ident: jsonrpc.Id, code: int, message: str, data: Body | None = None) -> None: ...

    def request(self, method: str, params: Body, then: Callable[[Body | None], None]) -> int:
        """`then` gets the result, None for an error."""

    def approve(self, session: Session, approval: str, said: Body) -> None: ...


@dataclass(slots=True)
class Opening:
    """A request that made, loaded, resumed or attached the session, and is not answered yet."""

    ident: jsonrpc.Id
    until: int = 0  # the events up to this seq are history
    facts: Body | None = None  # of the agent's session; {} when there are none to be had
    refusal: Callable[[str, Mapping[str, Any]], None] | None = None  # when the agent does not start; None: answer without facts
    more: Body = field(default_factory=dict)  # of the answer
    history: History | None = None
    notices: list[str] = field(default_factory=list)
    seen: int = 0


class Session:
    """`id` is the conversation's. `new`: this process made the conversation."""

    def __init__(self, conversation: Mapping[str, Any], line: Line, editor: Editor, speaker: Speaker) -> None:
        self.id, self.line, self.editor, self._speaker = str(conversation["id"]), line, editor, speaker
        self.workspace = str(conversation["workspace"])
        self.title = str(conversation.get("title") or "")
        self.path = str(conversation.get("path") or "")
        self.new = self.observes = self.events = False  # `events`: those of the log are wanted as they are, too
        self.cwd = self.workspace
        self.shown = Shown(editor)
        self.prompts: dict[str, jsonrpc.Id] = {}  # turn -> the request that waits for its end
        self.cancelled: set[str] = set()
        self.sets: dict[str, tuple[jsonrpc.Id, str]] = {}  # request -> who waits, and for what method
        self.asks: dict[str, int] = {}  # approval -> our request
        self.opening: Opening | None = None
        self._own: set[str] = set()  # approvals that are shown as a tool call of our own
        self._held: list[Body] = []  # updates that must not come before the answer that opens the session
        self._pending: dict[str, Mapping[str, Any]] = {}  # questions that wait while it opens

    # ---- to the editor -------------------------------------------------------------------------------------------------

    def tell(self, updates: Sequence[Body]) -> None:
        for update in updates:
            if self.opening is not None:
                self._held.append(update)
            elif update["sessionUpdate"] not in _CHUNKS or update["content"]["text"]:
                self._speaker.notify("session/update", {"sessionId": self.id, "update": update})

    def say(self, text: str, severity: str = "info") -> None:
        self.tell(self.shown.say(text, severity))

    def _ask(self, body: Mapping[str, Any]) -> None:
        """Put a question to the person at the editor."""
        approval = as_text(body.get("id"))
        if self.observes or approval in self.asks:
            return
        asked = put.question(self.id, body, self.editor)
        if asked is None:
            hint = f"opagent allow {approval} --answer TEXT"
            self.say(f"The agent asks: {as_text(body.get('subject'))}\nAnswer it with: {hint}", "warning")
            return
        method, params = asked
        if method == put.ASK and not as_text(body.get("call")):
            self._own.add(approval)

        def then(result: Body | None) -> None:
            waits = self.asks.pop(approval, None) is not None
            said = put.answer(method, result) if result is not None else None
            if waits and said is not None:
                self._speaker.approve(self, approval, said)

        self.asks[approval] = self._speaker.request(method, params, then)

    def _answered(self, body: Mapping[str, Any]) -> None:
        """Somebody has answered: here, in the file, at a terminal, in another editor."""
        approval = as_text(body.get("id"))
        self._pending.pop(approval, None)
        number = self.asks.pop(approval, 0)
        if number:
            self._speaker.notify("$/cancel_request", {"requestId": number})
            if body.get("answered_by") != "opagent":
                where = f" ({via})" if (via := as_text(body.get("via"))) else ""
                self.say(f"{approval} was {as_text(body.get('state'))} elsewhere{where}")
        if approval in self._own:
            self._own.discard(approval)
            self.tell([put.closed(body)])

    # ---- events --------------------------------------------------------------------------------------------------------

    def take(self, event: Event) -> None:
        """One event of the conversation, in order."""
        opening = self.opening
        if self.events and opening is None:
            self._speaker.notify(agent.EVENT, {"sessionId": self.id, **event_json(event)})
        if opening is not None and opening.history is not None and opening.seen < opening.until:
            if event.seq != opening.seen + 1:
                return  # from before it was opened anew: it comes again, at its place
            self._remember(event, opening.history)
        elif event.encoded and event.kind in KINDS and opening is None:
            self._speaker.stream(self.id, event)
        elif event.kind is Kind.APPROVAL_ASKED:
            self._put(event.body)
        elif event.kind is Kind.APPROVAL_ANSWERED:
            self._answered(event.body)
        else:
            if event.kind is Kind.AGENT_STATE:
                self._agent_state(event.body)
            if not (opening is not None and event.kind is Kind.AGENT_STATE and "session" in event.body):
                self.tell(self.shown.of(event))
            if event.kind is Kind.TURN_STATE and event.body.get("state") in FINAL:
                self._ended(str(event.turn), event.body)
        if opening is not None:
            opening.seen = event.seq
            self.look()

    def _remember(self, event: Event, history: History) -> None:
        if event.kind is Kind.APPROVAL_ASKED:
            self._pending[as_text(event.body.get("id"))] = event.body
        elif event.kind is Kind.APPROVAL_ANSWERED:
            self._pending.pop(as_text(event.body.get("id")), None)
        else:
            history.take(event)
            if event.kind is Kind.TURN_STATE and event.body.get("state") in FINAL:
                self._ended(str(event.turn), event.body)

    def waits(self, approval: Mapping[str, Any]) -> None:
        """A question that was asked before the session was opened."""
        self._pending[as_text(approval.get("id"))] = approval

    def _put(self, body: Mapping[str, Any]) -> None:
        if self.opening is not None:
            self._pending[as_text(body.get("id"))] = body
        else:
            self._ask(body)

    def _agent_state(self, body: Mapping[str, Any]) -> None:
        opening = self.opening
        if opening is not None and opening.facts is None:
            if "session" in body:
                opening.facts = as_dict(body["session"])
            elif body.get("state") in _DOWN:
                self.down(body)
        if request := as_text(body.get("set")):
            self._was_set(request, body)

    def down(self, body: Mapping[str, Any]) -> None:
        """The agent does not start: a new session is none; one that has a history can still be read."""
        opening = self.opening
        if opening is None or opening.facts is not None:
            return
        opening.facts = {}
        sentence = as_text(body.get("sentence")) or "the agent is not running"
        if opening.refusal is not None:
            opening.refusal(sentence, body)
        else:
            opening.notices.append(f"The agent could not be started: {sentence}")

    def _was_set(self, request: str, body: Mapping[str, Any]) -> None:
        ident, method = self.sets.pop(request, (None, ""))
        if ident is None:
            return
        if refused := as_dict(body.get("refused")):
            self._speaker.refuse(ident, int(refused.get("code") or -32603), as_text(refused.get("message")))
            return
        options = agent.options_for(body.get("configOptions"), self.editor)
        self._speaker.answer(ident, {"configOptions": options} if method == "session/set_config_option" else {})

    def _ended(self, turn: str, body: Mapping[str, Any]) -> None:
        ident = self.prompts.pop(turn, None)
        if ident is None:
            return
        stopped = agent.stopped(body, turn, turn in self.cancelled)
        self.cancelled.discard(turn)
        if isinstance(stopped, dict):
            if stopped["stopReason"] == "cancelled" and body.get("sentence"):
                self.say(agent.ending(body), "warning")
            self._speaker.answer(ident, stopped)
        else:
            data = {"code": stopped[0], "message": as_text(body.get("sentence")), "hint": as_text(body.get("hint")), "turn": turn}
            self._speaker.refuse(ident, jsonrpc.INTERNAL_ERROR, stopped[1], data)

    # ---- opening -------------------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Answer the request that opened the session, once all that belongs before the answer is known."""
        opening = self.opening
        if opening is None or opening.facts is None or (opening.history is not None and opening.seen < opening.until):
            return
        self.opening = None
        held, self._held = self._held, []
        if opening.history is not None:
            self.tell(list(opening.history.updates()))
        self._speaker.answer(opening.ident, {**agent.settings(opening.facts, self.editor), **opening.more})
        for notice in opening.notices:
            self.say(notice, "warning")
        self.tell(held)
        pending, self._pending = self._pending, {}
        for body in pending.values():
            self._ask(body)

    def gone(self) -> None:
        """The editor does not want it any more: nothing of it waits."""
        for number in self.asks.values():
            self._speaker.notify("$/cancel_request", {"requestId": number})
        self.asks.clear()
        for ident, _ in self.sets.values():
            self._speaker.refuse(ident, REQUEST_CANCELLED, "the session was closed")
        self.sets.clear()


_CHUNKS = ("agent_message_chunk", "agent_thought_chunk", "user_message_chunk")
