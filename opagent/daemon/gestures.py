"""When what a conversation file asks for counts, and doing what is done at once: commands, the front matter; sends no draft.

API: `refused`, `obey`, `head`, `model`. Called by the consumer only. (Design: "The draft and sending", "When a gesture counts".)
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from opagent.daemon import filerights, inbox, recollection, ticked, turns
from opagent.document.draft import Gesture, Said
from opagent.document.history import history
from opagent.document.parse import Part
from opagent.document.records import file_digest
from opagent.errors import OpAgentError
from opagent.store import conversations as rows

if TYPE_CHECKING:
    from opagent.daemon.conversation import Conversation


async def refused(c: Conversation, brought: bool) -> str:
    """Why what the file asks for does not count now, or empty. `brought`: a git operation brought the save."""
    if brought:
        return "git brought this change, not a person"
    rights = filerights.now(c)
    if not rights.sends:
        return rights.reason
    memory = await c.versions.ready()
    last = next((region.id for region in reversed(memory.document.regions) if region.part is Part.REPLY), "")
    if last and not recollection.happened_here(c.shared, c.record.id, last):
        return "its last turn did not happen here"
    if not last and not c.versions.fresh:
        return "it was here before OpAgent looked"
    return ""


async def obey(c: Conversation, said: Said, brought: bool) -> list[str]:
    """A last line that acts at once and leaves the draft alone. Returns what a person has to be told."""
    try:
        match said.gesture:
            case Gesture.CANCEL:
                return _cancel(c)
            case Gesture.RETRY:
                return await _retry(c)
            case Gesture.ALLOW | Gesture.DENY:
                return await ticked.typed(c, said.gesture is Gesture.ALLOW, said.argument, brought)
            case Gesture.FORK:
                return await _fork(c, said.argument.strip())
            case Gesture.COMPACT:
                return await _compact(c)
    except (OSError, OpAgentError) as error:  # a wrong id is no reason to end what runs
        return [f"`/{said.gesture.value}`: {error}"]
    return []


async def head(c: Conversation, brought: bool) -> list[str]:
    """Title, agent and whether it is archived, as the front matter says them. It never widens what the binding allows."""
    settings, told = c.file.subject.settings, []
    title = c.redaction.hide(settings.title or c.record.title)[:200]
    wanted = replace(c.record, title=title, state="closed" if settings.archived else "open")
    if settings.agent and settings.agent != wanted.agent:
        if settings.agent not in c.shared.look_again(c.record).binding.roles:
            told.append(f"`agent: {settings.agent}` names no role of this directory")
        elif why := await refused(c, brought):
            told.append(f"`agent: {settings.agent}` does not count: {why}")
        else:
            wanted = replace(wanted, agent=settings.agent, acp_session=None)
    if wanted == c.record:
        return told
    if wanted.agent != c.record.agent and c.agent is not None and c.guest is None:
        c.guest = c.record.agent  # the process is still that one, and ends before the next turn
    await c.shared.database.write(lambda db: rows.update(db, wanted))
    c.moved(wanted)
    return told


async def model(c: Conversation) -> str:
    """The model that the file asks for, if it may: a role that names one has that."""
    try:
        await c.versions.ready()
        c.model = c.file.subject.settings.model
        return "" if c.model and await refused(c, False) else c.model
    except (OSError, OpAgentError):
        return ""  # the turn says why


def _cancel(c: Conversation) -> list[str]:
    if not c.ahead():
        return ["`/cancel`: nothing runs"]
    c.post(inbox.Cancel(None, "cancelled"))
    return []


async def _retry(c: Conversation) -> list[str]:
    """The last message again, as it stands in the file, as a new turn: one, also where a daemon dies between log and file."""
    memory = await c.versions.ready()
    said = [each for each in history(memory.content(), tag=memory.tag) if not each.reply and each.author != "summary"]
    if not said:
        return ["`/retry`: nothing was said yet"]
    key = f"retry {memory.document.did} {file_digest(said[-1].text.encode())}"
    agent = turns.last_guest(c)
    await c.enqueue(turns.Prompt(said[-1].text, filerights.now(c).author, "retry", request=key, agent=agent))
    return []


async def _fork(c: Conversation, turn: str) -> list[str]:
    made = await c.shared.fork(c.record, turn or None)
    return [f"Goes on in {made.path.rpartition('/')[2]}, too"]


async def _compact(c: Conversation) -> list[str]:
    await c.file.write()
    return [] if await c.file.split_off(0) else ["`/compact`: there is nothing old enough to move to a part"]
