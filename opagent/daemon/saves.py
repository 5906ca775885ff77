"""What a person's save of the file asks for, and doing it: answers, the gesture of the draft; called by the consumer only.

A draft that is to be sent is stored as a queued turn first, then stamped into the file, then given to the agent. While a turn
runs the draft itself is the place in the queue: it can still be changed or taken back. (Design: "The draft and sending",
"While a turn runs".)
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from opagent.daemon import filerights, gestures, inbox, standing, ticked, turns
from opagent.daemon.versions import Heard
from opagent.document import draft as drafts
from opagent.document.draft import Gesture, Said
from opagent.document.records import file_digest
from opagent.document.settings import Write
from opagent.errors import Conflict, FileRefused, OpAgentError, StoreFailed, Usage
from opagent.model import Turn

if TYPE_CHECKING:
    from opagent.daemon.conversation import Conversation

LONGEST = 8 * 2**20  # bytes of a message
COMMANDS = 8  # of one save; more are no person's
AGAIN = 10.0  # seconds until a file is looked at again that somebody keeps open; that it was closed is told
_TOLD = {
    "moved_to_draft": "What you typed into the reply stands here now, and nothing was sent",
    "not_kept": "What you changed in the unfinished reply was not kept; your save is in .opagent/saves/",
}


async def noticed(c: Conversation, watched: bool) -> None:
    """The file may have changed: read it, answer what was ticked, send what is to be sent.

    `watched`: it did so before our eyes.
    """
    try:
        if not await c.versions.read():
            asyncio.get_running_loop().call_later(AGAIN, c.changed)
        c.versions.fresh = c.versions.fresh or (watched and any(each.new for each in c.versions.heard))
        if c.versions.gone or c.versions.stopped:
            _put_off(c)
            return
        await answer(c)
    except StoreFailed as error:
        c.versions.problem = str(error)
        raise  # what waits goes on waiting
    except (OSError, OpAgentError) as error:
        c.versions.hindered(str(error))
        _put_off(c)


def _put_off(c: Conversation) -> None:
    """The draft is not to be read: it does not wait, and what waits behind it goes on."""
    c.versions.heard.clear()
    standing.settle(c)
    if c.versions.gone:
        c.post(inbox.StopAgent(again=False, force=False, idle=True))
    c.post(inbox.Look())


async def answer(c: Conversation) -> None:
    """What the saves say that were merged since the last time, and a draft whose time has come."""
    heard, c.versions.heard = c.versions.heard, []
    if c.file.subject.settings.write is Write.OFF:
        _put_off(c)
        return
    if any(each.new for each in heard):
        c.standing.said = tuple(dict.fromkeys(_TOLD[what] for each in heard for what in _facts(each) if what in _TOLD))
    for each in heard:
        await _take(c, each)
    if heard:
        c.standing.said += tuple(await gestures.head(c, heard[-1].brought))
    if heard or c.standing.waits:
        await _act(c, heard)
    await standing.tell(c)
    if c.versions.due:  # not for streamed text alone: our own write of that is a change too, and would ask for the next
        await c.file.write()
    if c.queue and c.current is None:
        c.post(inbox.Look())


def _facts(heard: Heard) -> list[str]:
    return [fact.what for fact in heard.merged.facts]


async def _take(c: Conversation, heard: Heard) -> None:
    """Ticks, and what the save says besides its draft."""
    if heard.merged.ticks:
        for sentence in await ticked.answer(c, heard.merged.ticks, heard.brought):
            if c.current is None:
                c.standing.said += (sentence,)
            else:
                await c.note(sentence)  # beside the question
    if heard.retold and (c.agent is not None or c.versions.forgot):
        edited = next((fact.region for fact in heard.merged.facts if fact.what in ("edited", "reply_edited")), "")
        fork = f"; `/fork {edited}` goes on from there in another file" if edited else ""
        c.retold = f"What was said before is another now: the next turn begins with what stands here{fork}"


async def _act(c: Conversation, heard: Sequence[Heard]) -> None:
    """What the draft asks for. What stays of it when a command was obeyed may ask for more."""
    for _ in range(COMMANDS):
        if not await _obeyed(c, heard):
            return


async def _obeyed(c: Conversation, heard: Sequence[Heard]) -> bool:
    """Whether it was a command, which leaves the draft alone."""
    memory = await c.versions.ready()
    raw = memory.draft()
    said = _said(c, drafts.read(raw), heard)
    brought, new = bool(heard) and heard[-1].brought, any(each.new for each in heard)
    if said.gesture is Gesture.NONE:
        standing.settle(c)
    elif not new and c.standing.digest == file_digest(raw):
        pass  # it was refused before, and nobody has said it once more
    elif (new or not c.standing.waits) and (why := await gestures.refused(c, brought)):
        standing.refuse(c, f"`/{said.gesture.value}` does not count: {why}" if said.gesture.commands else why, raw)
    elif said.gesture.commands:
        memory.obeyed()
        c.versions.behind = True
        c.standing.said += tuple(await gestures.obey(c, said, brought))
        return True
    elif not said.text.strip():
        memory.obeyed()
        c.versions.behind = True
        standing.settle(c)
    elif len(said.text) > LONGEST:
        standing.refuse(c, f"the message is larger than {LONGEST >> 20} MiB", raw)
    else:
        await _send(c, steer=said.gesture is Gesture.STEER)
    return False


def _said(c: Conversation, said: Said, heard: Sequence[Heard]) -> Said:
    """With `send: save`, a draft that was changed by a save asks to be sent."""
    if said.gesture is not Gesture.NONE or not said.text.strip() or not c.file.subject.settings.on_save:
        return said
    changed = any(each.new and each.merged.gestures and drafts.read(each.before).text != said.text for each in heard)
    return replace(said, gesture=Gesture.SEND) if changed or c.standing.waits else said


async def _send(c: Conversation, steer: bool) -> None:
    standing.wait(c, c.shared.now())
    if steer or not any(turn.id in c.standing.behind for turn in c.ahead()):
        await sent(c, turns.Prompt("", filerights.now(c).author, "file"), steer)


async def sent(c: Conversation, prompt: turns.Prompt, steer: bool = False) -> Turn:
    """The draft as a turn: queued durably, then stamped into the file, then it is the agent's.

    `prompt` says who sends it. Raises Usage for an empty draft.
    """
    memory = await c.versions.ready()
    raw = memory.draft()
    text = drafts.read(raw).text.decode("utf-8", "replace").replace("\r\n", "\n")
    if not text.strip():
        raise Usage(f"there is no draft in {c.record.path}", "write below the last heading and save", "opagent send FILE TEXT")
    queued, _ = await turns.queue(c, replace(prompt, text=text, agent=prompt.agent or _guest(c, text), raw=raw))
    c.insert(queued, first=steer)
    standing.settle(c)
    await standing.tell(c)
    await c.file.open_turn(queued)
    if steer and c.current is not None:
        c.post(inbox.Cancel(c.current.turn.id, "steered"))
    c.post(inbox.Look())
    return queued


def _guest(c: Conversation, text: str) -> str | None:
    """`@reviewer ...`: a message that begins with the name of another agent of the binding goes to that one, this once."""
    word = text.split(None, 1)[0]
    name = word[1:].rstrip(":,")
    known = word.startswith("@") and name in c.workspace.binding.roles
    return name if known and not os.path.lexists(os.path.join(c.workspace.path, name)) else None


async def send_draft(c: Conversation, item: inbox.SendDraft) -> None:
    """A person said elsewhere that the draft is to be sent; whoever waits gets the turn, or why not."""
    done = item.done
    try:
        turn = await _sent_by_hand(c, item)
    except Exception as error:  # whoever waits hears of it, whatever it is
        if not done.done():
            done.set_exception(error)
        if not isinstance(error, OpAgentError | OSError):
            raise
        return
    if not done.done():
        done.set_result(turn)


async def _sent_by_hand(c: Conversation, item: inbox.SendDraft) -> Turn:
    if item.prompt.request and (known := turns.by_request(c, item.prompt.request)):
        return known
    settled = await c.versions.read()
    heard, c.versions.heard = c.versions.heard, []  # the gesture of these saves is this very command
    path = c.record.path
    if c.versions.gone:
        raise FileRefused(f"{path} is gone", "", f"opagent conversations rebuild {c.record.id}")
    if not settled or c.versions.stopped:
        raise Conflict(f"{path} cannot be read", c.versions.problem or "somebody writes it", f"ls -l {path}")
    for each in heard:
        await _take(c, each)
    return await sent(c, item.prompt, item.steer)


async def project(c: Conversation, anew: bool, done: asyncio.Future[str | None] | None) -> None:
    """Bring the file to what the log says; `anew`: the whole of it. What stands in the way is told to who asked."""
    saved = None
    try:
        if anew:
            saved = await c.file.rebuild()
        else:
            await c.file.write()
    except (OSError, OpAgentError) as error:
        if done is None or done.done():
            c.versions.hindered(str(error))
        else:
            done.set_exception(error)
        return
    if done is not None and not done.done():
        done.set_result(saved)
