"""A save of a conversation's mirror on another machine, taken as a save of its file: merged, obeyed, answered with the result.

Called by the consumer only. (Design: "The mirror".)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from opagent.daemon import inbox, saves
from opagent.document import settings
from opagent.document.settings import Write
from opagent.errors import Conflict, FileRefused, OpAgentError, StoreFailed

if TYPE_CHECKING:
    from opagent.daemon.conversation import Conversation


async def saved(c: Conversation, item: inbox.Foreign) -> None:
    """Whoever waits gets what stands in the file now, durably, or why the save is not taken."""
    done = item.done
    try:
        found = await _saved(c, item)
    except Exception as error:  # whoever waits hears of it, whatever it is
        if not done.done():
            done.set_exception(error)
        if isinstance(error, StoreFailed) or not isinstance(error, OpAgentError | OSError):
            raise
        return
    if not done.done():
        done.set_result(found)


async def _saved(c: Conversation, item: inbox.Foreign) -> tuple[bytes, str]:
    """Raises FileRefused where the file is gone, Conflict where it cannot be written at present: then it is tried again."""
    versions, path = c.versions, c.record.path
    if not await versions.read():
        raise Conflict(f"somebody writes {path}", "", f"ls -l {path}")
    await saves.answer(c)  # what was saved here came first
    if versions.gone:
        raise FileRefused(f"{path} is gone", "", f"opagent conversations rebuild {c.record.id}")
    if versions.stopped:  # what is wrong with the file here will be mended here
        raise Conflict(f"{path} is not written", versions.problem, f"ls -l {path}")
    present = versions.standing_content or b""
    off = c.file.subject.settings.write is Write.OFF and settings.read(item.content).write is Write.OFF
    if why := "its front matter says `write: off`" if off else await versions.foreign(item):
        return present, why
    versions.fresh = versions.fresh or not item.brought
    await saves.answer(c)
    await c.file.write(sync=True)
    if versions.behind or versions.standing_content is None:
        raise Conflict(f"{path} was not written", versions.problem, f"ls -l {path}")
    return versions.standing_content, ""
