"""The MCP servers of the binding that run for agents: who gets a connection to one, and that none outlives its agent.

    shared.tooling = Tooling(shared)                    # hears of every connection that asks for a server by name
    await shared.tooling.ended(agent.id)                # when it returns, nothing of its servers is left

What happens on a connection is in `toolsession.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING

from opagent.daemon.lines import Line, Send, Speaker
from opagent.model import ProcessId

if TYPE_CHECKING:
    from opagent.daemon.shared import Shared
    from opagent.daemon.toolsession import Session

MOST_SESSIONS = 8  # connections of one agent to servers at a time
_ENDED = 3.0  # seconds that a session has to come to its end by itself


class Tooling:
    """One per daemon."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._sessions: dict[Session, asyncio.Task[None]] = {}
        shared.lines.named = self._speaker

    def _speaker(self, line: Line, send: Send, name: str) -> Speaker | None:
        """For a connection that asks for a server; None where it gets none."""
        same = [each for each in self._sessions if each.agent == line.id]
        if name not in line.conversation.workspace.binding.tools or len(same) >= MOST_SESSIONS:
            return None
        from opagent.daemon.toolsession import Session  # slow to import, and not every binding has servers

        session = Session(line, send, name)
        task = self._sessions[session] = self._shared.spawn(session.run(), f"tool-{line.id}-{name}")
        task.add_done_callback(lambda _: self._sessions.pop(session, None))
        return session

    async def ended(self, agent: ProcessId) -> None:
        """The agent is gone: so are its servers, when this returns."""
        await self._close([each for each in self._sessions if each.agent == agent])

    async def close(self) -> None:
        await self._close(list(self._sessions))

    async def _close(self, sessions: Iterable[Session]) -> None:
        """Whoever is in the middle of something that takes long, such as the start of a server, leaves it."""
        for each in sessions:
            each.end()
        if tasks := [self._sessions[each] for each in sessions if each in self._sessions]:
            _, late = await asyncio.wait(tasks, timeout=_ENDED)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def running(self, workspace: str, name: str) -> list[ProcessId]:
        """The processes of a server of a directory."""
        found = [each.process for each in self._sessions if (each.workspace, each.name) == (workspace, name)]
        return [ident for ident in found if ident is not None]

    def changed(self, workspace: str) -> None:
        """A person said something about the tools of a directory: what its agents see is another list now."""
        for each in self._sessions:
            if each.workspace == workspace:
                each.changed()
