"""Follows one turn: answer to stdout, talk to stderr, approvals asked inline, and the error that fits a bad ending."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import click

from opagent.cli import keys as typing
from opagent.cli.app import App
from opagent.cli.output import close_stdout
from opagent.cli.telling import Teller, keys, understood
from opagent.errors import BY_CODE, AgentCrashed, BudgetReached, OpAgentError, Usage, WaitingForApproval
from opagent.model import OURS, QUESTION, Event, Kind, TurnState

# reasons of a turn's end that are no codes of errors
_REASONS: dict[str, type[OpAgentError]] = {
    **dict.fromkeys(("crashed", "memory", "processes", "tmp"), AgentCrashed),
    **dict.fromkeys(("budget", "disk"), BudgetReached),
    "loop": WaitingForApproval,
}
_TEXT = "the answer + Enter"
FINAL = {state.value for state in TurnState if state.final}


def follow(app: App, conversation: Mapping[str, Any], started: Mapping[str, Any]) -> None:
    """Print a turn until it ends; the caller subscribed before it started.

    Raises what `ending` gives, WaitingForApproval, DeadlinePassed. Ctrl-C cancels the turn and goes on to be raised.
    """
    followed = _Followed(app, conversation, str(started["turn"]["id"]))
    try:
        if started.get("place"):
            app.out.talk(f"queued, {started['place']} before it")
            followed.look_for_approvals()
        followed.run()
    except BrokenPipeError:  # nobody reads: leave quietly, but only a finished turn is a success
        close_stdout()
        raise click.exceptions.Exit(1) from None
    except KeyboardInterrupt:
        app.out.end_line()
        app.ask("turn/cancel", conversation=conversation["id"], turn=followed.turn)
        app.out.talk("cancelled")
        raise
    finally:
        app.out.end_line()


def ending(app: App, body: Mapping[str, Any], conversation: str) -> OpAgentError | None:
    """The error behind the last `turn_state` of a turn; None for a finished one."""
    state, reason = str(body.get("state")), str(body.get("reason") or "")
    if state == TurnState.DONE.value:
        return None
    kind = _REASONS.get(reason) or BY_CODE.get(reason, OpAgentError)
    words = str(body.get("sentence") or "") or (reason.replace("_", " ") if kind is OpAgentError else "")
    hint = app.typed(str(body.get("hint") or f"opagent logs {conversation}"))
    return kind(f"the turn {'was ' if state != 'failed' else ''}{state}", words, hint)


def waiting(app: App, who: str, approval: Mapping[str, Any]) -> WaitingForApproval:
    ident = approval.get("id")
    words = " --answer TEXT" if approval.get("kind") == QUESTION else ""
    hint = app.typed(f"opagent allow {ident}{words}")
    return WaitingForApproval(f"{who} waits for an answer to {ident}", str(approval.get("subject") or ""), hint)


class _Followed:
    def __init__(self, app: App, conversation: Mapping[str, Any], turn: str) -> None:
        self.app, self.turn = app, turn
        self.id, self.agent = str(conversation["id"]), str(conversation["agent"])
        self.teller = Teller(self.agent, app.typed)
        self._named = 0  # approvals whose keys were named
        limit = app.settings.timeout
        self._end = None if limit is None else time.monotonic() + limit

    def run(self) -> None:
        while True:
            event = self._question() if self.teller.asked and self.app.interactive else self._next(None)
            if event is None:
                continue
            if self.app.out.json:
                self.app.out.event(event, self.app.client.host)
            if event.kind is Kind.TURN_STATE and event.turn == self.turn and event.body.get("state") in FINAL:
                error = ending(self.app, event.body, self.id)
                if error is not None:
                    raise error
                return
            self._show(event)

    def look_for_approvals(self) -> None:
        """What was asked before we came: the turn before ours may wait for a person."""
        for approval in self.app.ask("approval/list", conversation=self.id)["approvals"]:
            if approval["process"] != OURS:
                self._tell(self.teller.ask(approval))

    def _next(self, longest: float | None) -> Event | None:
        left = None if self._end is None else self._end - time.monotonic()
        if left is not None and left <= 0:
            raise self.app.late(f"opagent wait {self.id}")
        waits = [length for length in (left, longest) if length is not None]
        return self.app.client.next_event(min(waits) if waits else None)

    def _show(self, event: Event) -> None:
        if event.kind is Kind.APPROVAL_ASKED and "pause" in event.body:
            return  # no agent waits for it, and the end of the turn names it
        if event.kind is Kind.TEXT:
            if event.turn == self.turn and not self.app.out.json:
                self.app.out.stream(str(event.body.get("text", "")))
            return
        lines = self.teller.lines(event, self.turn)
        if lines and event.kind is Kind.TOOL_CALL and not self.app.out.json:  # what the agent says next begins a line
            self.app.out.end_line()
        self._tell(lines)

    def _say(self, lines: list[str]) -> None:
        if lines and not self.app.out.json:
            self.app.out.talk("\n".join(lines))

    def _tell(self, lines: list[str]) -> None:
        """Say it; where nobody could answer an approval, leave the turn waiting and say who waits instead."""
        if self.teller.asked and not self.app.interactive:
            raise waiting(self.app, self.agent, self.teller.oldest)
        asks = len(self.teller.asked) > self._named
        if asks and not self.app.out.json:
            typing.forget_typed()
        self._say([*lines, keys(self.teller.oldest, _TEXT)] if asks else lines)
        self._named = len(self.teller.asked)

    def _question(self) -> Event | None:
        """A line for the oldest approval, or the event that came first."""
        event = self._next(0)
        if event is not None:
            return event
        line = typing.line_or_traffic(self.app.client.fileno(), 1.0)
        approval = self.teller.oldest
        if line == typing.END:
            raise waiting(self.app, self.agent, approval)
        if line is None:
            return None
        said = understood(approval, line)
        if said is None and line and approval.get("kind") == QUESTION and not approval.get("options"):
            said = {"allow": True, "answer": line}
        try:
            self._say(self.teller.answer(self.app, said) if said else [keys(approval, _TEXT)])
        except Usage as error:
            self._say([f"  {error}"])
        return None
