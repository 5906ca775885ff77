"""Whose file it is, where it lies and how it is to look: what all who deal with one conversation's file need; writes none.

API: `Subject`. The actor puts another record or workspace into it when they change.
"""

from __future__ import annotations

import asyncio
import getpass
import logging
import shlex
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opagent.daemon import whereabouts
from opagent.document import settings
from opagent.document.notices import second
from opagent.document.render import Look
from opagent.document.settings import Settings
from opagent.model import Conversation, Event, Kind
from opagent.store import conversations as rows
from opagent.store.events import Draft
from opagent.watch import gitstate, settled, workfiles
from opagent.watch.settled import Stamp

if TYPE_CHECKING:
    from opagent.daemon.shared import Shared
    from opagent.daemon.workspace import Workspace


log = logging.getLogger(__name__)


class Subject:
    """`entered` is told of a record that changed and is stored already."""

    def __init__(
        self, record: Conversation, workspace: Workspace, shared: Shared, entered: Callable[[Conversation], None]
    ) -> None:
        self.record, self.workspace, self.shared, self._entered = record, workspace, shared, entered
        self.settings = Settings()
        self._linked = False
        self.parent = ""  # of a new one that a call makes: the caller's file, from its own
        self.zone = datetime.now().astimezone().tzinfo or UTC

    @property
    def tag(self) -> str:
        return self.record.id.split("-")[0]

    @property
    def person(self) -> str:
        return getpass.getuser()

    @property
    def directory(self) -> Path:
        return Path(self.workspace.path)

    @property
    def path(self) -> Path:
        return Path(self.record.path)

    def place(self) -> settled.Place:
        """Raises FileRefused where the file leads out of the workspace."""
        return settled.locate(self.directory, self.path)

    def header(self) -> dict[str, str]:
        """What the front matter says at least."""
        record = self.record
        said = {
            "conversation": record.id,
            "agent": record.agent,
            "title": record.title,
            "created": second(record.created),
            "parent": self.parent,
        }
        return {key: value for key, value in said.items() if value}

    def look(self) -> Look:
        """How a reply is shown: as the front matter says, else as fits the directory."""
        settings = self.settings
        fold = settings.fold or ("callout" if self.workspace.is_vault else "details")
        look = Look(fold=fold, zone=self.zone, blobs=self.workspace.blobs_from(self.record.path))
        return look if settings.show is None else replace(look, show=settings.show)

    def log(self, *bodies: dict[str, Any]) -> asyncio.Future[list[Event]]:
        """Events `document`; who waits knows that they are committed."""
        return self.shared.journal.append(self.record.id, [Draft(Kind.DOCUMENT, None, body) for body in bodies])

    def tell(self, what: str, text: str) -> None:
        """Something about the file that a person may have to deal with."""
        log.warning("%s: %s", self.record.path, text)
        self.log({"what": what, "text": text, "hint": f"opagent conversations rebuild {shlex.quote(self.record.path)}"})

    def linked(self, names: int) -> None:
        """How many names the file has: that it is split from the others by a write is said once."""
        if names > 1 and not self._linked:
            self._linked = True
            self.tell("linked", "the file has another name (a hard link), which keeps the bytes that it has now")

    def learn(self, head: bytes) -> None:
        """What the front matter says now."""
        found = settings.read(head)
        if found.problem and found.problem != self.settings.problem:
            self.tell("front matter", f"the front matter cannot be read: {found.problem}")
        self.settings = found

    def brought(self, stamp: Stamp | None) -> bool:
        """Whether git did so to the file that the stamp was taken of."""
        return stamp is not None and gitstate.brought(self.record.path, stamp.mtime_ns)

    def switched(self, stamp: Stamp | None) -> int:
        """When git put another version of the tree there, shortly before or after the file was saved; 0: it did not."""
        return gitstate.switched(self.record.path, stamp.mtime_ns) if stamp is not None else 0

    async def keep(self, content: bytes) -> str:
        """Bytes that the file does not hold any more, into saves/; their path."""
        return await asyncio.to_thread(workfiles.keep, self.directory, self.path.name, content)

    async def follow(self) -> None:
        """A file that was renamed or moved within the directory of conversations is found again by its id."""
        if self.path.is_symlink() or self.path.exists():
            return
        if found := whereabouts.moved_to(str(self.directory / self.workspace.binding.conversations), self.record.id):
            await self.enter(replace(self.record, path=found), {"what": "path", "path": found})

    async def enter(self, record: Conversation, *bodies: dict[str, Any]) -> None:
        """Another record of the conversation, stored with the events that say why."""
        drafts = [Draft(Kind.DOCUMENT, None, body) for body in bodies]
        await self.shared.journal.append(record.id, drafts, barrier=True, also=lambda db: rows.update(db, record))
        self._entered(record)
