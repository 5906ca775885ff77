"""What a person is asked and what they say to it, as values; asks nobody, remembers nothing."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from opagent.acp.connection import Asked
from opagent.acp.messages import as_dict, as_text
from opagent.acp.permission import Permission
from opagent.daemon import filerights
from opagent.document.approval import Does
from opagent.model import QUESTION, Approval, Decision, Turn
from opagent.policy import remembering

if TYPE_CHECKING:
    from opagent.daemon.conversation import Conversation
    from opagent.store.events import Journal


@dataclass(frozen=True, slots=True)
class Waiting(Asked):
    """What stands for a request of the agent where a tool asks that it called through us; a text: why there is no answer."""

    heard: asyncio.Future[Approval | str] = field(default_factory=asyncio.Future, compare=False)


SCOPES = ("once", "conversation", "binding")


@dataclass(frozen=True, slots=True)
class Question:
    """What a person is asked. `pattern` is what "the same again" means; without one an answer is never remembered.

    `digest`: of the canonical arguments, and for a write of the target too. `shown`: more for the block in the file (action,
    content, where); `call`: the agent's tool call.
    """

    kind: str
    subject: str
    digest: str
    options: tuple[Mapping[str, str], ...]
    decision: Decision
    pattern: str = ""
    shown: Mapping[str, Any] = field(default_factory=dict)
    call: str = ""
    again: int = 0  # the same request was asked so often before, and the answer did not fit any more

    @classmethod
    def of(cls, permission: Permission, decision: Decision, pattern: str) -> Question:
        shown: dict[str, Any] = {}
        if permission.changes:
            shown = {"action": permission.action, "content": permission.changes}
        if permission.kind == "execute":
            shown["where"] = as_text(as_dict(permission.tool_call.get("rawInput")).get("cwd"))
        said = (permission.kind, permission.subject, permission.digest, permission.options)
        return cls(*said, decision, pattern, shown, as_text(permission.tool_call.get("toolCallId")))

    @property
    def offers(self) -> list[str]:
        """What a person may do, by the words of `document/approval.py`."""
        if self.kind == QUESTION:
            return [Does.ANSWER, Does.DECLINE]
        return [Does.ONCE, *([Does.CONVERSATION, Does.BINDING] if self.pattern else []), Does.DENY]

    def body(self, approval: Approval, conversation: Conversation) -> dict[str, Any]:
        """Of the event that asks: what `document/approval.py` shows, and what `opagent why` tells."""
        shown = dict(self.shown)
        if self.kind == "execute":
            shown["where"] = shown.get("where") or os.path.basename(conversation.workspace.path) + "/"
        if self.pattern:
            shown["same"] = remembering.shown(self.pattern)
            if wider := remembering.wider(self.pattern):
                shown["wider"] = remembering.shown(wider)
        if self.call:
            shown["call"] = self.call
        return {
            "id": approval.id, "kind": approval.kind, "subject": approval.subject, "expires_at": approval.expires_at,
            "rule": approval.rule, "options": [dict(option) for option in approval.options], "agent": conversation.role,
            "offers": self.offers, "in_file": filerights.now(conversation).ticks, **shown,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Said:
    """A person's answer. `words`: of a question; an option's id or name, or any text where it has no options.

    `scope`: one of SCOPES, and with `wider` for the pattern one step wider. `where`: uid, pid, tty and client, as the kernel
    says, of a person who came by a connection.
    """

    allow: bool
    by: str  # human:UID
    via: str
    reason: str | None = None
    scope: str = "once"
    wider: bool = False
    words: str = ""
    where: Mapping[str, Any] = field(default_factory=dict)


class Pause(Protocol):
    """A question of ours about a turn that was stopped; `daemon/pauses.py` has them."""

    @property
    def reason(self) -> str:
        """Of the turn's end."""

    @property
    def key(self) -> str:
        """What it is about: the same is not asked twice at a time."""

    @property
    def sentence(self) -> str:
        """What happened."""

    @property
    def options(self) -> tuple[Mapping[str, str], ...]: ...

    def chosen(self, words: str) -> str:
        """The answer that a person's words are. Raises ValueError."""

    def commit(self, db: Any, journal: Journal, approval: Approval, said: Said) -> None:
        """What a yes does, in its transaction."""

    def next_words(self, answer: str, turn: Turn) -> str:
        """What the agent is told then, empty for nothing."""

    def as_json(self) -> dict[str, Any]:
        """For the log."""


def nobody(reason: str) -> Said:
    """The answer of an end that no person chose."""
    return Said(False, "opagent", "daemon", reason)
