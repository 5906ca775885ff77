"""The question about a turn that was stopped because its directory grew by too much; a `Pause`, stops nothing itself.

What a person adds counts for the conversation, as a row of its own: no agent and no binding can add anything.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from opagent import paths
from opagent.acp import elicitation
from opagent.binding import units
from opagent.daemon import limits
from opagent.daemon.asking import Said
from opagent.model import Approval, ConversationId, Origin, Turn
from opagent.process import bounds
from opagent.process.bounds import Hit
from opagent.store import ledger
from opagent.store.events import AuditKind, Draft, Journal, timestamp

if TYPE_CHECKING:
    from opagent.daemon.conversation import Conversation

DISK = "disk"  # reason of a turn's end
GO_ON = "Go on."
_RAISE, _DOUBLE, _STOP = "raise", "double", "stop"
_PARTS = {_RAISE: 4, _DOUBLE: 1}  # of the limit that are added


@dataclass(frozen=True, slots=True)
class Overgrown:
    """`used` of `most` bytes, which `origin` says; `fixed`: nobody may raise it. `sent`: whether the agent had the prompt."""

    conversation: ConversationId
    used: int
    most: int
    origin: str
    fixed: bool = False
    sent: bool = True

    reason = DISK

    @property
    def key(self) -> str:
        return f"{DISK}/{self.conversation}"

    @property
    def sentence(self) -> str:
        said = Hit(DISK, self.used, self.most).sentence(self.origin)
        return f"{said[0].upper()}{said[1:]}."

    @property
    def options(self) -> tuple[Mapping[str, str], ...]:
        stop = {"id": _STOP, "name": "Stop", "kind": ""}
        if self.fixed:
            return (stop,)
        named = ((ident, bounds.size(self._more(parts))) for ident, parts in _PARTS.items())
        return (*({"id": ident, "name": f"Raise it by {more} and go on", "kind": ""} for ident, more in named), stop)

    def _more(self, parts: int) -> int:
        """So much that `1/parts` of the limit can be used again, whatever was used beyond it."""
        return max(0, self.used - self.most) + max(1, -(-self.most // parts))

    def chosen(self, words: str) -> str:
        """An option, or a size to add: `500M`. Raises ValueError."""
        try:
            return elicitation.chosen(self.options, words)
        except ValueError:
            if self.fixed:
                raise
        size = words.removeprefix(_RAISE).strip()
        if not re.fullmatch(r"\d{1,9}(\.\d+)?[kMGT]", size):
            raise ValueError(f"it asks for {_RAISE}, {_DOUBLE}, {_STOP} or a size to add such as 500M")
        return size

    def added(self, answer: str) -> int:
        """What an answer adds to the limit, in bytes."""
        if answer == _STOP or self.fixed:
            return 0
        return self._more(_PARTS[answer]) if answer in _PARTS else units.size(answer)

    def commit(self, db: Any, journal: Journal, approval: Approval, said: Said) -> None:
        if more := self.added(said.words):
            ledger.raise_growth(db, self.conversation, more, timestamp(), said.by)
            body = self.as_json() | {"added": more, "approval": approval.id}
            journal.put(db, self.conversation, [Draft(AuditKind.LIMIT_RAISE, approval.turn, body, who={"human": said.by})])

    def next_words(self, answer: str, turn: Turn) -> str:
        if not self.added(answer):
            return ""
        return GO_ON if self.sent else turn.text

    def as_json(self) -> dict[str, Any]:
        return {
            "reason": self.reason, "limit": DISK, "conversation": self.conversation, "used": self.used, "most": self.most,
            "origin": self.origin, "fixed": self.fixed, "sent": self.sent,
        }  # fmt: skip


def of_log(said: Mapping[str, Any]) -> Overgrown:
    """The question of an event of an earlier daemon."""
    numbers = int(said["used"]), int(said["most"])
    return Overgrown(ConversationId(said["conversation"]), *numbers, str(said["origin"]), bool(said["fixed"]), bool(said["sent"]))


def too_much(c: Conversation, grown: int) -> Overgrown | None:
    """What growth goes beyond: the binding as it stands in the files now, with what persons added in this conversation."""
    binding = limits.binding(c)
    allowed = bounds.of(binding.limits).disk
    if not allowed or grown <= allowed:
        return None
    most = allowed + c.shared.database.read(lambda db: ledger.growth_raised(db, c.record.id))
    if grown <= most:
        return None
    origin = binding.origins.get("limits.disk", Origin("built-in"))
    return Overgrown(c.record.id, grown, most, str(origin), origin.file == str(paths.machine_policy()))
