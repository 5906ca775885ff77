"""What a person at a terminal is told about the events of a conversation, as lines; keeps the approvals that are open."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from opagent.cli.app import App
from opagent.cli.words import answered_word
from opagent.errors import AlreadyDecided
from opagent.model import QUESTION, Event, Kind

_TITLE, _NOTE, _NOTE_LINES = 200, 300, 10  # characters of a tool call's title and of a line of a note; its lines


def keys(approval: Mapping[str, Any], text: str) -> str:
    """What to type to answer. `text`: how an answer in words is typed here."""
    if approval.get("kind") != QUESTION:
        return "  o + Enter = once, d + Enter = deny"
    count = len(approval.get("options") or ())
    yes = text if not count else "1 + Enter = this" if count == 1 else f"1 to {count} + Enter = one of these"
    return f"  {yes}, d + Enter = decline"


def understood(approval: Mapping[str, Any], line: str) -> dict[str, Any] | None:
    """What a line says to an approval, as parameters of `approval/answer`; None where it is no answer."""
    if line == "d":
        return {"allow": False}
    if approval.get("kind") != QUESTION:
        return {"allow": True} if line == "o" else None
    options = approval.get("options") or ()
    number = int(line) if line.isdecimal() and len(line) < 4 else 0
    return {"allow": True, "answer": options[number - 1]["id"]} if 0 < number <= len(options) else None


class Teller:
    """Lines for every event but the text itself; the same words in `open -m` and in the chat.

    `typed` makes of a hint what works where it is read.
    """

    def __init__(self, agent: str, typed: Callable[[str], str] = str) -> None:
        self.agent, self._typed = agent, typed
        self.asked: dict[str, Mapping[str, Any]] = {}  # open approvals, oldest first
        self._tools: dict[str, str] = {}  # id -> title of those that were shown

    def lines(self, event: Event, turn: str | None) -> list[str]:
        """Lines to say now; [] for what is not worth one. Tool calls of other turns than `turn` are not."""
        body = event.body
        match event.kind:
            case Kind.TOOL_CALL if event.turn == turn:
                return self._tool(body)
            case Kind.APPROVAL_ASKED:
                return self.ask(body)
            case Kind.APPROVAL_ANSWERED:
                return self._answered(body)
            case Kind.AGENT_STATE if body.get("sentence") and body.get("state") != "waiting":
                return [f"{self.agent}: {body.get('state')}, {body['sentence']}"]
            case Kind.AGENT_STATE if body.get("state") == "stalled":
                return [f"{self.agent}: stalled, nothing came for {body.get('seconds', '?')} s"]
            case Kind.DOCUMENT if body.get("what") == "stopped" and body.get("text"):
                hint = [f"  try: {self._typed(str(body['hint']))}"] if body.get("hint") else []
                return [str(body["text"]).replace("\n", " "), *hint]
            case Kind.NOTE if body.get("text"):
                return [line[:_NOTE] for line in str(body["text"]).splitlines()[:_NOTE_LINES]]
        return []

    def question(self, turn: Mapping[str, Any]) -> list[str]:
        """What was asked from elsewhere (another terminal, the file), by whom, so that the answer is no riddle."""
        lines = str(turn.get("text") or "").splitlines()[:_NOTE_LINES] or [""]
        return [f"› {lines[0]}   (from elsewhere: {turn.get('author') or 'somebody'})", *(f"  {line}" for line in lines[1:])]

    def ask(self, approval: Mapping[str, Any]) -> list[str]:
        """The exact action, or the question with its options; the caller names the `keys` when they count."""
        ident = str(approval.get("id"))
        if ident in self.asked:
            return []
        self.asked[ident] = approval
        action = [f"    {line}" for line in str(approval.get("subject") or "").splitlines()]
        options = approval.get("options") or () if approval.get("kind") == QUESTION else ()
        choices = [f"    {number} {option.get('name')}".rstrip() for number, option in enumerate(options, 1)]
        return [f"{self.agent} asks ({ident}):", *action, *choices]

    @property
    def oldest(self) -> Mapping[str, Any]:
        """The approval that the next line answers; there must be one."""
        return next(iter(self.asked.values()))

    def answer(self, app: App, said: Mapping[str, Any]) -> list[str]:
        """Give a person's answer to the oldest one to the daemon; somebody else may have been first.

        Raises Usage for words that are no answer; then it is asked still.
        """
        ident = next(iter(self.asked))
        try:
            answered = app.ask("approval/answer", approval=ident, scope="once", **said)
        except AlreadyDecided as error:
            self.asked.pop(ident, None)
            return [f"  {ident}: {error}"]
        self.asked.pop(ident, None)
        return [f"  {ident}: {answered_word(answered, answered['state'])}"]

    def _answered(self, body: Mapping[str, Any]) -> list[str]:
        """By somebody else: what we answered ourselves was said already."""
        ident = str(body.get("id"))
        approval = self.asked.pop(ident, None)
        if approval is None:
            return []
        by = f" by {body['answered_by']}" if body.get("answered_by") else ""
        return [f"  {ident}: {answered_word(approval, str(body.get('state', 'answered')))}{by}"]

    def _tool(self, body: Mapping[str, Any]) -> list[str]:
        """One line when a tool call begins, one more when it fails."""
        ident, title = str(body.get("id", "")), str(body.get("title") or body.get("name") or "")
        lines = []
        if ident not in self._tools and title:
            self._tools[ident] = title.splitlines()[0][:_TITLE]
            lines.append(f"  · {self._tools[ident]}")
        if body.get("status") == "failed":
            lines.append(f"  ✗ {self._tools.get(ident, ident)} failed")
        return lines
