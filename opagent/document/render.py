"""Events of one turn -> the Markdown of its reply; writes no file, reads no clock, orders nothing.

API::

    look = Look(fold="details", show=frozenset({"tools", "plan"}), zone=UTC, blobs="../.opagent/blobs/")
    reply = Reply(tag="k7q2", agent="Writer", look=look)
    reply.apply(event)          # any order of kinds, later events of a call or plan change what was shown
    reply.body()                # str, LF: what stands below the heading, closed, ends with a line end (or empty)
    reply.end()                 # words of the end marker: ("done", "2026-...", "in=5120", ...)
    reply.state, reply.waits, reply.blobs

Cost of `apply`: the chunk. Of `body`: the size of the reply and a parse of its last block. (Design: "What a reply shows".)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, tzinfo
from typing import Any

from opagent.document import notices
from opagent.document.approval import Approval
from opagent.document.clean import Cleaner
from opagent.document.excerpt import inert, one_line
from opagent.document.markers import word
from opagent.document.prose import Prose
from opagent.document.tools import ToolCall, lookups
from opagent.model import Event, Kind, TurnState

WHOLE = 12 << 20  # characters of text that one reply shows: a file of over 16 MiB is no conversation any more


@dataclass(frozen=True, slots=True)
class Look:
    """What is shown and how. `fold`: details, callout or none; `show`: of tools, plan, thoughts, usage.

    `blobs` is the path from the file to the directory of whole outputs, with its `/`; without it there are no links.
    """

    fold: str = "details"
    show: frozenset[str] = frozenset({"tools", "plan"})
    zone: tzinfo = UTC
    blobs: str = ""


class _Said:
    """Markdown that is replaced as a whole: plan, note, thoughts."""

    def __init__(self, text: str = "") -> None:
        self.text = text

    def markdown(self) -> str:
        return self.text


class _Note(_Said):
    """A sentence of OpAgent. It stands below a run of text that goes on, never inside it."""


class _Thoughts:
    def __init__(self, fold: str) -> None:
        self._fold = fold
        self._cleaner = Cleaner()
        self._pieces: list[str] = []

    def feed(self, text: str) -> None:
        self._pieces.append(self._cleaner.feed(text))

    def markdown(self) -> str:
        text = "".join(self._pieces)
        return notices.thoughts(text, self._fold) if text.strip() else ""


_Item = Prose | ToolCall | Approval | _Said | _Thoughts


class Reply:
    def __init__(self, tag: str, agent: str, look: Look) -> None:
        self.tag, self.agent, self.look = tag, one_line(agent, 60), look
        self.state = TurnState.QUEUED
        self._items: list[_Item] = []
        self._calls: dict[str, ToolCall] = {}
        self._approvals: dict[str, Approval] = {}
        self._plan: _Said | None = None
        self._usage: dict[str, Any] = {}
        self._ending = ""
        self._size = 0  # characters of text
        self._ended: tuple[str, str] = ("", "")  # time and reason

    def apply(self, event: Event) -> None:
        """Take one event of this turn. Kinds that show nothing are ignored."""
        body = event.body
        match event.kind:
            case Kind.TEXT:
                self._text(str(body.get("text", "")))
            case Kind.THOUGHT if "thoughts" in self.look.show:
                self._thought(str(body.get("text", "")))
            case Kind.TOOL_CALL if "tools" in self.look.show:
                self._tool(body)
            case Kind.PLAN if "plan" in self.look.show:
                self._replan(body)
            case Kind.USAGE:
                self._usage |= {key: value for key, value in body.items() if value is not None}
            case Kind.APPROVAL_ASKED:
                self._ask(event)
            case Kind.APPROVAL_ANSWERED:
                approval = self._approvals.get(str(body.get("id")))
                if approval:
                    approval.answered(event.at, self.look.zone, body)
            case Kind.NOTE:
                self._items.append(_Note(notices.alert("NOTE", one_line(str(body.get("text", "")), 600))))
            case Kind.TURN_STATE:
                self._move(event)

    @property
    def _last(self) -> _Item | None:
        """What the agent did last."""
        return next((item for item in reversed(self._items) if not isinstance(item, _Note)), None)

    def _add(self, item: _Item) -> None:
        if isinstance(last := self._last, Prose):
            last.finish()
        self._items.append(item)

    def _text(self, text: str) -> None:
        self._size += len(text)
        if (over := self._size - WHOLE) > 0:
            text = text[: max(0, len(text) - over)]
        if not text:
            return
        last = self._last
        if not isinstance(last, Prose):
            last = Prose()
            self._add(last)
        last.feed(text)

    def _thought(self, text: str) -> None:
        last = self._last
        if not isinstance(last, _Thoughts):
            last = _Thoughts(self.look.fold)
            self._add(last)
        last.feed(text)

    def _tool(self, body: Mapping[str, Any]) -> None:
        identifier = str(body.get("id", ""))
        if identifier not in self._calls:
            self._calls[identifier] = ToolCall(self.look.fold, self.look.blobs)
            self._add(self._calls[identifier])
        self._calls[identifier].merge(body)

    def _replan(self, body: Mapping[str, Any]) -> None:
        if self._plan is None:
            self._plan = _Said()
            self._add(self._plan)
        self._plan.text = notices.plan(body.get("entries") or ())

    def _ask(self, event: Event) -> None:
        approval = Approval(self.tag, self.agent, event.at, event.body)
        self._approvals[str(event.body.get("id"))] = approval
        self._add(approval)

    def _move(self, event: Event) -> None:
        state = str(event.body.get("state"))
        if state not in {known.value for known in TurnState}:
            return  # a newer daemon's log
        self.state = TurnState(state)
        self._ending = notices.ending(self.state, event.body)
        if self.state.final:
            self._ended = (notices.second(event.at), str(event.body.get("reason") or ""))
            for call in self._calls.values():
                call.stop()
            if isinstance(last := self._last, Prose):
                last.finish()

    @property
    def waits(self) -> bool:
        """Whether an approval of it is open."""
        return any(approval.waits for approval in self._approvals.values())

    @property
    def blobs(self) -> dict[str, str]:
        """Whole outputs that the file shows an excerpt of: file name -> text. The daemon stores them."""
        return {name: text for call in self._calls.values() for name, text in call.blobs().items()}

    def body(self) -> str:
        """All blocks, one blank line between them. The first text stands exactly as cleaned and escaped."""
        out: list[str] = []
        for block in self._blocks():
            if out:
                block = block.lstrip("\n")
                if not block:
                    continue
                if not out[-1].endswith("\n\n"):
                    out.append("\n")
            out.append(block)
        return "".join(out)

    def unclosed(self) -> str:
        """As `body`, without what closes its last text."""
        body = self.body()
        last = self._items[-1] if self._items else None
        if not isinstance(last, Prose):
            return body
        shown = last.markdown()
        whole = body.endswith(shown)
        return body.removesuffix(shown if whole else shown.lstrip("\n")) + (last.text if whole else last.text.lstrip("\n"))

    def _blocks(self) -> list[str]:
        blocks: list[str] = []
        together: list[ToolCall] = []
        last = self._last
        for item in self._items:
            if isinstance(item, Prose) and item.blank and item is not last:
                continue
            if isinstance(item, ToolCall) and item.lookup:
                together.append(item)
                continue
            _put_together(blocks, together)
            blocks.append(item.markdown())
        _put_together(blocks, together)
        return [block for block in (*blocks, self._cut_line(), self._usage_line(), self._ending) if block]

    def _cut_line(self) -> str:
        if self._size <= WHOLE:
            return ""
        return notices.alert("NOTE", f"Cut here: {self._size - WHOLE:,} more characters are in the log of OpAgent.")

    def _usage_line(self) -> str:
        if "usage" not in self.look.show or not self.state.final or not self._numbers():
            return ""
        shown = ", ".join(f"{value} {key}" for key, value in self._numbers().items())
        return f"<sub>{inert(shown)}</sub>\n"

    def _numbers(self) -> dict[str, str]:
        found = {}
        for key, name in (("in", "input"), ("out", "output")):
            if isinstance(self._usage.get(name), int):
                found[key] = str(self._usage[name])
        cost = self._usage.get("cost")
        if isinstance(cost, Mapping) and isinstance(cost.get("amount"), int | float):
            found["cost"] = f"{cost['amount']:.6f}".rstrip("0").rstrip(".") + one_line(str(cost.get("currency") or ""), 8)
        return found

    def end(self) -> tuple[str, ...]:
        """The words of the end marker: the state, and for a final one the time, the usage and the reason."""
        if not self.state.final:
            return (self.state.value,)
        at, reason = self._ended
        numbers = (f"{key}={word(value)}" for key, value in self._numbers().items())
        return (self.state.value, word(at), *numbers, f"reason={word(reason)}" if reason else "")


def _put_together(blocks: list[str], calls: list[ToolCall]) -> None:
    if calls:
        blocks.append(calls[0].markdown() if len(calls) == 1 else lookups(calls))
        calls.clear()
