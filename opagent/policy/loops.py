"""Whether an agent goes in circles, told from its tool calls; looks at nothing else and stops nobody. Pure.

A call is known by sha256 of its kind, tool and arguments together with its result, where numbers, uuids and temporary paths count
as alike: a loop whose times change is one. A file that was brought into a state it has not been in is progress, and what was the
same before it no longer counts; so the 200th edit is no loop, and changing a file to and fro is. (Design: security.md, "Budgets
and loops".)
"""

from __future__ import annotations

import enum
import hashlib
import json
import re
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

SAME_NOTICE, SAME_PAUSE = 3, 5
ROUNDS, LONGEST = 3, 4  # a cycle of 2 to LONGEST calls, so often
IDLE_NOTICE, IDLE_PAUSE = 15, 30  # calls without a changed file, plan or text
SAME_ERROR = 5
MESSAGES = 10  # between two agents without a person or a changed file

_ALIKE = (
    (re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}"), "<uuid>"),
    (re.compile(r"(?:/private)?(?:/var)?/tmp/[^\s\"'`,;:)\]}]+|/var/folders/[^\s\"'`,;:)\]}]+"), "<temporary>"),
    (re.compile(r"0x[0-9a-fA-F]+|\d+(?:[.,:]\d+)*"), "<n>"),
)
_CHANGES = frozenset({"edit", "delete", "move"})


class Kind(enum.Enum):
    NOTICE = "notice"
    PAUSE = "pause"


@dataclass(frozen=True, slots=True)
class Verdict:
    kind: Kind
    why: str


@dataclass(frozen=True, slots=True)
class Call:
    """One finished tool call. `changed`: (path, state) of each file that it says it changed."""

    print: str
    error: str = ""  # digest of what it failed with, empty for one that did not fail
    changed: tuple[tuple[str, str], ...] = ()
    title: str = ""


def alike(text: str) -> str:
    """With what differs between two rounds of a loop taken out."""
    for pattern, word in _ALIKE:
        text = pattern.sub(word, text)
    return text


def read(call: Mapping[str, Any]) -> Call:
    """A tool call as ACP tells it, once it is `completed` or `failed`."""
    kind, title = str(call.get("kind") or ""), str(call.get("title") or call.get("name") or "")
    arguments = call.get("rawInput")
    asked = arguments if arguments is not None else [title, call.get("locations")]
    content = [part for part in call.get("content") or () if isinstance(part, Mapping)]
    result = call.get("rawOutput") if call.get("rawOutput") is not None else content
    failed = call.get("status") == "failed"
    known = str(call.get("name") or (kind if arguments is not None else title))
    print_ = _digest(kind, known, alike(_text(asked)), alike(_text(result)))
    return Call(print_, _digest(alike(_text(result))) if failed else "", () if failed else _changed(call, kind, content), title)


def _changed(call: Mapping[str, Any], kind: str, content: Sequence[Mapping[str, Any]]) -> tuple[tuple[str, str], ...]:
    diffs = [part for part in content if part.get("type") == "diff"]
    if diffs:
        return tuple((str(part.get("path")), _digest(str(part.get("newText") or ""))) for part in diffs)
    return (("", _digest(_text([call.get("rawInput"), call.get("locations")]))),) if kind in _CHANGES else ()


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "replace")).hexdigest()


@dataclass(slots=True)
class Watch:
    """One turn. Each verdict is given once."""

    _same: Counter[str] = field(default_factory=Counter)
    _errors: Counter[str] = field(default_factory=Counter)
    _states: set[tuple[str, str]] = field(default_factory=set)
    _last: deque[str] = field(default_factory=lambda: deque(maxlen=ROUNDS * LONGEST))
    _idle: int = 0
    _plan: str = ""

    def said(self) -> None:
        """The agent said something."""
        self._idle = 0

    def planned(self, entries: Any) -> None:
        plan = _digest(_text(entries))
        if plan != self._plan:
            self._plan, self._idle = plan, 0

    def wrote(self, path: str, digest: str) -> None:
        """It had us write a file."""
        self._advanced([(path, digest)])

    def called(self, call: Call) -> Verdict | None:
        """What is to be said about this call: the gravest."""
        if call.error:
            self._errors[call.error] += 1
        if not self._advanced(call.changed):
            self._idle += 1
            self._same[call.print] += 1
            self._last.append(call.print)
        return self._verdict(call)

    def _advanced(self, changed: Sequence[tuple[str, str]]) -> bool:
        """Whether a file is in a state now that it has not been in; then what was the same before counts no longer."""
        if self._states.issuperset(changed):
            return False
        self._states.update(changed)
        self._same.clear()
        self._last.clear()
        self._idle = 0
        return True

    def _verdict(self, call: Call) -> Verdict | None:
        same, errors = self._same[call.print], self._errors[call.error] if call.error else 0
        if same >= SAME_PAUSE:
            return Verdict(Kind.PAUSE, f"{same} times the same call with the same result: {call.title}")
        if errors >= SAME_ERROR:
            return Verdict(Kind.PAUSE, f"{errors} times the same error: {call.title}")
        if length := self._cycle():
            return Verdict(Kind.PAUSE, f"the same {length} calls {ROUNDS} times in turn, the last: {call.title}")
        if self._idle >= IDLE_PAUSE:
            return Verdict(Kind.PAUSE, f"{self._idle} calls without a changed file, a plan or a word")
        if same == SAME_NOTICE:
            return Verdict(Kind.NOTICE, f"{same} times the same call with the same result: {call.title}")
        if self._idle == IDLE_NOTICE:
            return Verdict(Kind.NOTICE, f"{self._idle} calls without a changed file, a plan or a word")
        return None

    def _cycle(self) -> int:
        """The length of the cycle that the last calls are, 0 for none."""
        last = list(self._last)
        for length in range(2, LONGEST + 1):
            end = last[-ROUNDS * length :]
            if len(end) == ROUNDS * length and len(set(end[:length])) > 1 and end == end[:length] * ROUNDS:
                return length
        return 0


@dataclass(slots=True)
class Pairs:
    """Messages between agents. More than MESSAGES of a pair, or a chain deeper than allowed, is denied."""

    _count: Counter[frozenset[str]] = field(default_factory=Counter)

    def progress(self) -> None:
        """A person said something, or a file was changed."""
        self._count.clear()

    def message(self, one: str, other: str, depth: int, most: int) -> str:
        """Why a message is denied; empty: it may go."""
        if depth > most:
            return f"calls go {most} deep, this one would be {depth}"
        pair = frozenset((one, other))
        if self._count[pair] >= MESSAGES:
            return f"{one} and {other} sent each other {MESSAGES} messages, and no person said a word and no file was changed"
        self._count[pair] += 1
        return ""


def circle(chain: Sequence[str], target: str, shown: Sequence[str]) -> str:
    """Why a call would come back to one that waits for it; empty: it does not. `shown`: names of the chain and the target."""
    if target not in chain:
        return ""
    way = " calls ".join(shown[chain.index(target) :])
    return f"that is a circle: {way}"
