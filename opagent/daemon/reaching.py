"""The questions about hosts, as the consumer of a conversation puts them and takes them back; decides nothing."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from opagent.acp.connection import Asked
from opagent.daemon import inbox, questions
from opagent.daemon.asking import Question
from opagent.daemon.connecting import CONNECT
from opagent.policy import remembering

if TYPE_CHECKING:
    from opagent.daemon.conversation import Conversation


async def ask(c: Conversation, item: inbox.Connects) -> None:
    """Put it to a person, unless nobody can be asked at this moment."""
    running, agent = c.current, c.agent
    if agent is None:
        return
    if running is None or running.cancel_reason is not None:
        c.shared.network.answered(item.guest, item.request, "", False, "nobody can be asked outside a turn")
        return
    c.shared.connects += 1
    asked = Asked(f"net {item.request}", CONNECT, {"host": item.request, "guest": item.guest}, -c.shared.connects)
    digest = hashlib.sha256(f"connect {item.request}".encode()).hexdigest()
    whose = "" if item.guest == agent.id else f", for a server of its tools ({item.guest})"
    subject, pattern = f"connect to {item.request}{whose}", remembering.literal("network", item.request)
    await questions.put(c, running, asked, Question("network", subject, digest, (), item.decision, pattern))


async def gone(c: Conversation, item: inbox.ConnectGone) -> None:
    """The program that wanted it does not wait any more."""
    running = c.current
    if running is None:
        return
    for asked in [*running.pending.values(), *(held for held, _ in running.held)]:
        if asked.method == CONNECT and (asked.params["host"], asked.params["guest"]) == (item.request, item.guest):
            await questions.end(c, running, asked.number, "the agent does not want it any more")
