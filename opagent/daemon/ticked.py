"""What becomes of the boxes that a person ticked in a conversation file, and of `/allow` and `/deny` typed there; writes no file.

API: `answer(conversation, ticks, git)`, `typed(conversation, allow, argument, git)`: sentences for the file's note about what
was not taken; `decide(tick, facts)`, the pure core.

(Design: "Approvals and questions in the file".)
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from opagent.daemon import filerights
from opagent.daemon.asking import SCOPES, Said
from opagent.daemon.filerights import Rights
from opagent.document.approval import Choice, Does, choices, shown
from opagent.document.ticks import Tick, fold
from opagent.errors import AlreadyDecided, ApprovalNotFound, Conflict, Usage
from opagent.model import Approval, ApprovalId, ApprovalState

if TYPE_CHECKING:
    from opagent.daemon.conversation import Conversation

_REASON = 2000  # characters


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of the approval that a tick names. `approval` is None where this conversation has none of that id."""

    approval: Approval | None
    logged: Mapping[str, Any] | None  # what was logged when it was asked; None unless an agent waits for the answer
    rights: Rights
    git: bool = False  # a git operation brought the save
    copies: int = 1  # how many blocks of this id the file holds


@dataclass(frozen=True, slots=True)
class Answer:
    """What a tick says."""

    does: Does
    words: str = ""  # the reason, or the answer of a question


def decide(tick: Tick, facts: Facts) -> Answer | str:
    """The answer, or why it is none. Allowed only if everything of the design's (a) to (e) holds and one box alone is ticked."""
    approval, logged = facts.approval, facts.logged
    if approval is None or (tick.reply and tick.reply != approval.turn):
        return "it does not belong here"
    if approval.state is not ApprovalState.PENDING:
        return f"it was {approval.state.value} before"
    if logged is None:
        return "the agent that asked is gone"
    if facts.copies > 1:
        return "it stands in the file more than once"
    if facts.git:
        return "git brought it"
    if not facts.rights.ticks:
        return facts.rights.reason
    if tick.shown != shown(logged):
        return "what it shows was changed"
    return _chosen(tick, choices(logged))


def _chosen(tick: Tick, offered: Sequence[Choice]) -> Answer | str:
    """The one box that is ticked; a no among several is a no. Words alone answer a question."""
    by_label = {fold(choice.label): choice for choice in offered}
    found = [by_label.get(fold(label)) for label in tick.chosen]
    if no := next((choice for choice in found if choice and choice.does in (Does.DENY, Does.DECLINE)), None):
        return Answer(no.does, tick.words)
    if not found:
        question = any(choice.does is Does.DECLINE for choice in offered)
        return Answer(Does.ANSWER, tick.words) if question else f"no box is ticked beside `{tick.words[:80]}`"
    if len(found) > 1:
        return "more than one box is ticked"
    choice = found[0]
    if choice is None:
        return "the box that is ticked is not one of its own"
    return Answer(choice.does, choice.option)


async def answer(c: Conversation, ticks: Sequence[Tick], git: bool) -> list[str]:
    """Commit what is an answer; the agent hears it from the inbox. Returns a sentence for each tick that is none."""
    copies = Counter(tick.approval for tick in ticks)
    rights = filerights.now(c)
    told: dict[str, None] = {}
    for tick in ticks:
        approval, logged = _known(c, tick.approval)
        facts = Facts(approval, logged, rights, git, copies[tick.approval])
        verdict = decide(tick, facts)
        if isinstance(verdict, Answer):
            verdict = await _commit(c, tick.approval, verdict)
        if verdict:
            told[_refused(c, tick.approval, verdict)] = None
    return list(told)


async def typed(c: Conversation, allow: bool, argument: str, git: bool) -> list[str]:
    """`/allow [ID] [once|conversation|ANSWER]` and `/deny [ID] [REASON]` in the draft. Without an id: the only open one."""
    waiting = c.shared.approvals.waiting_for(c.record.id)
    first, _, rest = argument.strip().partition(" ")
    if first in waiting:
        ident = ApprovalId(first)
    elif _known(c, first)[0] is not None:  # a sentence may begin with anything, an id of old means that one and no other
        return [_refused(c, first, "it waits no longer")]
    elif len(waiting) == 1:
        ident, rest = waiting[0], argument
    else:
        return ["Say which approval: " + ", ".join(waiting) if waiting else "Nothing waits for an answer."]
    said = _typed(allow, rest.strip(), choices(c.shared.approvals.logged(ident) or {}))
    if isinstance(said, Answer):
        rights = filerights.now(c)
        refused = "git brought it" if git else "" if rights.ticks else rights.reason
        said = refused or await _commit(c, ident, said)
    return [_refused(c, ident, said)] if said else []


def _typed(allow: bool, words: str, offered: Sequence[Choice]) -> Answer | str:
    """What a command says to these boxes."""
    does = [choice.does for choice in offered]
    if Does.DECLINE in does:
        return Answer(Does.ANSWER if allow else Does.DECLINE, words)
    if not allow:
        return Answer(Does.DENY, words)
    if (words or Does.ONCE) in does and words != Does.DENY:
        return Answer(Does(words or Does.ONCE))
    return "say once, conversation or binding"


def _known(c: Conversation, ident: str) -> tuple[Approval | None, Mapping[str, Any] | None]:
    """The approval as the table has it, if it is of this conversation, and what was logged when it was asked."""
    try:
        approval = c.shared.approvals.find(ident)
    except (ApprovalNotFound, Conflict):
        return None, None
    if approval.id != ident or approval.conversation != c.record.id:
        return None, None
    return approval, c.shared.approvals.logged(approval.id)


async def _commit(c: Conversation, ident: str, answer: Answer) -> str:
    """Why it was not taken, or empty."""
    scope = answer.does.value if answer.does.value in SCOPES else "once"
    said = Said(True, f"human:{os.getuid()}", "file", scope=scope, words=answer.words)
    if answer.does in (Does.DENY, Does.DECLINE):
        said = replace(said, allow=False, reason=answer.words[:_REASON] or None, words="")
    try:
        await c.shared.approvals.answer(ident, said)
    except AlreadyDecided:
        return "it was answered before"
    except Usage as error:
        return error.why
    return ""


def _refused(c: Conversation, ident: str, why: str) -> str:
    waits = c.shared.approvals.logged(ApprovalId(ident)) is not None
    hint = f" It waits on: `opagent allow {ident}` or `opagent deny {ident}` answers it." if waits else ""
    return f"The answer to {ident} was not taken: {why}.{hint}"
