"""An approval or question inside a reply: an open block with boxes, one quoted line once it is answered; decides nothing.

API: `Approval`, `choices`, `shown`, `Choice`, `Does`.

The block is made of the event alone, so that the log gives the same bytes again. Of the event's body count: `kind`, `subject`
(or `action`, the same without its diffs), `content` (diffs), `where`, `offers` (words of `Does`; without them there are no
boxes), `options` of a question, and `in_file`: whether a box that is ticked in this file is an answer.
"""

from __future__ import annotations

import enum
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import tzinfo
from typing import Any

from opagent.document.clean import clean
from opagent.document.edit import title
from opagent.document.excerpt import code, diff, fence, inert, one_line, quote, visible
from opagent.document.markers import marker, word
from opagent.document.notices import moment, second
from opagent.document.ticks import fold, plain
from opagent.model import QUESTION

_ACTIONS = {
    "execute": ("to run a command", "sh"),
    "exec": ("to run a command", "sh"),
    "edit": ("to change a file", "text"),
    "write": ("to change a file", "text"),
    "delete": ("to delete a file", "text"),
    "move": ("to move a file", "text"),
    "read": ("to read a file", "text"),
    "fetch": ("to reach the network", "text"),
    "network": ("to reach the network", "text"),
    "agents": ("to call another agent", "text"),
    QUESTION: ("you", "text"),
}


class Does(enum.StrEnum):
    """What a ticked box means."""

    ONCE = "once"
    CONVERSATION = "conversation"
    BINDING = "binding"
    DENY = "deny"
    ANSWER = "answer"
    DECLINE = "decline"


_LABELS = {
    Does.ONCE: "Allow once",
    Does.CONVERSATION: "Allow in this conversation",
    Does.BINDING: "Allow here from now on",
    Does.DENY: "Deny",
    Does.DECLINE: "Decline",
}
# (state, scope) of an answer -> the word of the end marker, and what a person reads
_OUTCOMES = {
    ("allowed", "once"): ("allow-once", "allowed once"),
    ("allowed", "conversation"): ("allow-conversation", "allowed in this conversation"),
    ("allowed", "binding"): ("allow-binding", "allowed here from now on"),
    ("denied", ""): ("deny", "denied"),
    ("allowed", QUESTION): ("answer", "answered"),
    ("denied", QUESTION): ("decline", "declined to answer"),
}


@dataclass(frozen=True, slots=True)
class Choice:
    """One box. `option` is the id of a question's option."""

    label: str
    does: Does
    option: str = ""


def choices(body: Mapping[str, Any]) -> tuple[Choice, ...]:
    """The boxes of an asked approval, no two labels alike when folded."""
    found: list[Choice] = []
    for offer in body.get("offers") or ():
        if offer == Does.ANSWER:
            found += _options(body)
        elif offer in _LABELS:
            found.append(Choice(_LABELS[Does(offer)], Does(offer)))
    return tuple(found)


def _options(body: Mapping[str, Any]) -> list[Choice]:
    """An agent names them: a name may be that of a box of ours, of another option, or look like a reason."""
    taken = {fold(label) for label in _LABELS.values()}
    found = []
    for number, option in enumerate(body.get("options") or (), 1):
        label = inert(visible(one_line(str(option.get("name") or option.get("id")), 100))) or "(empty)"
        label = code(label.replace("`", "'")) if re.match(r"deny\s*:", label, re.I) else label
        label = f"{label} ({number})" if fold(label) in taken else label
        taken.add(fold(label))
        found.append(Choice(label, Does.ANSWER, str(option.get("id"))))
    return found


def _free(body: Mapping[str, Any]) -> bool:
    """Whether the answer is any text."""
    return Does.ANSWER in (body.get("offers") or ()) and not body.get("options")


def shown(body: Mapping[str, Any], agent: str = "") -> bytes:
    """What an open block shows, in the form of `Tick.shown`. `agent`: who asks, where the event does not say it."""
    return plain(_open(body, agent).encode("utf-8", "replace"))


def _open(body: Mapping[str, Any], agent: str) -> str:
    agent = title(str(body["agent"])) if body.get("agent") else agent
    action, info = _ACTIONS.get(str(body.get("kind", "")), ("for a permission", "text"))
    where = f" in {code(visible(one_line(str(body['where']), 200)))}" if body.get("where") else ""
    blocks = [fence(visible(str(body.get("action") or body.get("subject", ""))), info), *_changes(body)]
    asked = quote(f"[!IMPORTANT]\n**{inert(agent)} asks {action}**{where} · {_how(body)}\n\n" + "\n".join(blocks))
    boxes = "".join(f"- [ ] {choice.label}\n" for choice in choices(body))
    answer = "\nAnswer:\n" if _free(body) else ""
    return asked + answer + (f"\n{boxes}\n" if boxes else "")


def _how(body: Mapping[str, Any]) -> str:
    """The commands that answer, and whether a tick does."""
    ident = _id(body)
    words = " --answer TEXT" if body.get("kind") == QUESTION else ""
    commands = f"`opagent allow {ident}{words}` or `opagent deny {ident}`"
    if body.get("in_file"):
        return f"answer here, or with {commands}"
    return f"answer with {commands}" + ("; a box ticked in this file does not count" if body.get("offers") else "")


def _changes(body: Mapping[str, Any]) -> list[str]:
    """The whole diff, uncut: a person must see all of what they allow."""
    content = body.get("content")
    parts = [part for part in content if isinstance(part, Mapping)] if isinstance(content, list | tuple) else []
    texts = [(str(part.get("oldText") or ""), str(part.get("newText") or "")) for part in parts if part.get("type") == "diff"]
    return [fence(visible("\n".join(diff(clean(old), clean(new)).lines)), "diff") for old, new in texts]


def _id(body: Mapping[str, Any]) -> str:
    return word(str(body.get("id", ""))) or "p0"


class Approval:
    """One question to a person, from the event that asked it to the event that answered it."""

    def __init__(self, tag: str, agent: str, at: str, body: Mapping[str, Any]) -> None:
        self._tag, self._body = tag, body
        self._block = _open(body, agent)
        digest = hashlib.sha256(plain(self._block.encode("utf-8", "replace"))).hexdigest()[:8]
        self._opening = marker(tag, _id(body), "ask", word(second(at)), f"sum={digest}")
        self._answer: Mapping[str, Any] | None = None
        self._answered_at = ("", "")  # the time of the log, and HH:MM

    def answered(self, at: str, zone: tzinfo, body: Mapping[str, Any]) -> None:
        self._answer = body
        self._answered_at = (second(at), moment(at, zone)[1])

    @property
    def waits(self) -> bool:
        return self._answer is None

    def markdown(self) -> str:
        if self._answer is None:
            return self._opening + self._block + marker(self._tag, f"/{_id(self._body)}", "open")
        by, via = (word(str(self._answer.get(key) or "")) for key in ("answered_by", "via"))
        words = (word(self._outcome[0]), by and f"by={by}", via and f"via={via}", word(self._answered_at[0]))
        return self._opening + self._line() + marker(self._tag, f"/{_id(self._body)}", *words)

    @property
    def _outcome(self) -> tuple[str, str]:
        """The word of the end marker, and what a person did; the second is empty where nobody did anything."""
        answer = self._answer or {}
        state, scope = str(answer.get("state") or "answered"), str(answer.get("scope") or "once")
        if self._body.get("kind") == QUESTION:
            scope = QUESTION
        elif state == "denied":
            scope = ""
        return _OUTCOMES.get((state, scope), (state, ""))

    def _line(self) -> str:
        answer = self._answer or {}
        who = inert(one_line(str(answer.get("answered_by") or "somebody"), 60))
        outcome, did = self._outcome
        said = f"{who} {did}" if did else inert(one_line(outcome, 20))
        via = inert(one_line(str(answer.get("via") or ""), 20)) if did else ""
        how = ", ".join(filter(None, (self._answered_at[1], "in this file" if via == "file" else via and f"via {via}")))
        subject = code(visible(_first_line(str(self._body.get("subject", "")))))
        words = (inert(visible(one_line(str(answer.get(key) or ""), 200))) for key in ("answer", "reason"))
        more = "".join(f" · {each}" for each in words if each)
        return f"> [!NOTE]\n> **{said[:1].upper()}{said[1:]}**{f' ({how})' if how else ''}: {subject}{more}\n"


def _first_line(text: str) -> str:
    first, _, rest = text.strip().partition("\n")
    return one_line(first) + (" ..." if rest.strip() else "")
