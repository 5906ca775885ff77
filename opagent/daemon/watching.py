"""Which directories of conversations are watched, and who is told of a change in them; reads no file.

API: `Watching`, one per host.
"""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from opagent.daemon import newcomers, whereabouts
from opagent.daemon.workspace import Workspace
from opagent.document.parts import whole_of
from opagent.store import turns as turn_rows
from opagent.watch.observer import Observer

if TYPE_CHECKING:
    from opagent.daemon.host import Host

STAYS = 12  # hours after the last turn in which a daemon goes on watching, though nothing runs


class Watching:
    def __init__(self, host: Host) -> None:
        self._host = host
        self.observer = Observer(host.shared.spawn, self._noticed)
        self.arrivals = asyncio.Lock()  # held while a file that nobody knows is looked at
        self._workspaces: dict[str, str] = {}  # directory of conversations -> its workspace

    def add(self, workspace: Workspace) -> None:
        """From now on saves in its directory of conversations are noticed."""
        folder = os.path.realpath(Path(workspace.path) / workspace.binding.conversations)
        if self._host.mirrors.of(folder) is not None:
            return
        if folder not in self._workspaces and folder.startswith(workspace.path.rstrip("/") + "/"):
            self._workspaces[folder] = workspace.path
            before = newcomers.unwatched(self._host, workspace.path, self.observer.watch(folder))
            self._host.shared.spawn(before, f"saves before the watch of {folder}")

    def leave(self, folder: str) -> None:
        """Somebody else sees to this directory of conversations."""
        if self._workspaces.pop(folder, None) is not None:
            self.observer.unwatch(folder)

    def wanted(self) -> bool:
        """Whether somebody talked in the last hours, and may go on by a save."""
        last = self._host.database.read(lambda db: turn_rows.last_moment(db))
        since = datetime.now(UTC) - timedelta(hours=STAYS)
        return bool(self._workspaces) and last > since.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    async def close(self) -> None:
        await self.observer.close()

    def _noticed(self, path: str) -> None:
        """Something happened to a file. Called on the loop."""
        whole = whole_of(path)
        for conversation in self._host.conversations.values():
            if conversation.record.path == path and whereabouts.holds(path, conversation.record):
                conversation.changed(watched=True)
                return
        if any(conversation.record.path == whole for conversation in self._host.conversations.values()):
            return  # a part, which we have just written ourselves, or one that a person mends: it asks for nothing
        workspace = next((found for folder, found in self._workspaces.items() if path.startswith(folder + "/")), None)
        if workspace is not None and not self._host.shared.closing:
            self._host.shared.spawn(newcomers.arrived(self._host, workspace, path), f"look at {os.path.basename(path)}")
