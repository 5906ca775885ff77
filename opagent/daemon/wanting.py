"""A question to a person that comes from no request of ACP: from a tool that an agent calls through us. Decides nothing.

    answer = await wanting.person(c, question)        # an Approval, or why nobody could be asked; from any task

The consumer's part puts it among the questions of the running turn, and takes it back when whoever waits is cancelled.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from opagent.acp.connection import Asked
from opagent.daemon import inbox, questions
from opagent.daemon.asking import Question, Waiting
from opagent.model import Approval

if TYPE_CHECKING:
    from opagent.daemon.conversation import Conversation

METHOD = "opagent/tool"


@dataclass(slots=True)
class _Counter:
    last: int = 0


_COUNTER = _Counter()


async def person(c: Conversation, question: Question) -> Approval | str:
    """Put it to a person and wait. A text: nobody was asked, or the turn ended before the answer."""
    heard: asyncio.Future[Approval | str] = asyncio.get_running_loop().create_future()
    _COUNTER.last += 1
    number = -1_000_000 - _COUNTER.last  # apart from those of other questions of ours
    request = Waiting(f"tool {_COUNTER.last}", METHOD, {}, number, heard)
    c.post(inbox.Asks(c.generation, request, question))
    try:
        return await heard
    except asyncio.CancelledError:
        c.post(inbox.AsksNoMore(c.generation, number))
        raise


async def ask(c: Conversation, request: Waiting, question: Question) -> None:
    """Called by the consumer."""
    running = c.current
    if request.heard.done():
        return
    if running is None or c.agent is None or running.cancel_reason is not None:
        request.heard.set_result("nobody can be asked outside a turn")
        return
    await questions.put(c, running, request, question)


async def no_more(c: Conversation, number: int) -> None:
    """Called by the consumer: nobody waits for the answer any more."""
    if c.current is not None:
        await questions.end(c, c.current, number, "the agent does not want it any more")


def is_ours(request: Asked) -> bool:
    return isinstance(request, Waiting)
