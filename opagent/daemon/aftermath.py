"""What a turn left changed in its workspace, by whatever means: looked at before and after it, told as rows of the record.

Who made such a change nobody can say: the agent, a program it started, a person, another turn that ran meanwhile. So it
is `seen`, with the other conversations that worked there. What went through us has records of its own and is not told twice.

API: `Aftermath`, one per conversation; `Told` holds the changes for whoever judges them.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from opagent import paths
from opagent.daemon.effects import Act
from opagent.process.pins import beneath
from opagent.store.events import AuditKind
from opagent.watch import inventory
from opagent.watch.inventory import Change, Inventory

if TYPE_CHECKING:
    from opagent.daemon.conversation import Conversation
    from opagent.model import Turn, TurnId

ALONE = 100  # changes of a turn with a row each; more share one, whose content lists them
LISTED = 5000
DIGESTED = 64 * 2**20  # bytes that are read after one turn; of what is over, the size has to do


Acts = Sequence[tuple[Act, Sequence[str]]]  # each with the paths that it is about


@dataclass(frozen=True, slots=True)
class Told:
    """What differs after a turn. `lacks`: why not everything was looked at, or empty."""

    changes: tuple[Change, ...]
    lacks: str = ""


class Aftermath:
    """Used by the consumer of its conversation."""

    def __init__(self, conversation: Conversation) -> None:
        self._c = conversation
        self._before: asyncio.Task[Inventory] | None = None
        self._of: TurnId | None = None  # the turn it was looked at for
        self._after: Inventory | None = None
        self._found: tuple[Told, Acts] = (Told(()), ())  # of the last turn: its end may be written a second time
        self._digests: dict[str, tuple[inventory.Entry, str]] = {}  # what a file that changed before became
        self.written: dict[str, str] = {}  # path -> digest, of what went through us in this turn

    def begin(self, turn: TurnId) -> None:
        """Look at the workspace; in a thread, beside the work that begins the turn, or starts an agent for it."""
        if self._before is not None and self._of == turn:
            return
        self._of, self._after = turn, None
        self.written.clear()
        self._found = (Told(()), ())
        self._before = asyncio.create_task(asyncio.to_thread(self._take), name=f"inventory-{self._c.record.id}")

    async def ready(self) -> None:
        """From here on a change is one of this turn."""
        if self._before is not None:
            await asyncio.wait({self._before})

    async def look(self) -> Inventory:
        """What stands there now that the turn is over, looked at once."""
        if self._after is None:
            self._after = await asyncio.to_thread(self._take)
        return self._after

    async def end(self, turn: Turn) -> tuple[Told, Acts]:
        """What differs, and the acts to record: each with the paths it is about."""
        before, self._before = self._before, None
        if before is not None:
            self._found = await asyncio.to_thread(self._compared, await before, await self.look(), turn)
            self._after = None
        return self._found

    def record(self, db: Any, acts: Acts) -> None:
        """Inside the change that ends the turn."""
        for act, about in acts:
            self._c.shared.effects.seen(db, act, about)

    def _take(self) -> Inventory:
        return inventory.take(self._c.workspace.path)

    def _compared(self, before: Inventory, after: Inventory, turn: Turn) -> tuple[Told, Acts]:
        changes = tuple(change for change in inventory.differences(before, after) if not self._own(change.path))
        told = Told(changes, before.lacks or after.lacks)
        objects = [each for each in self._objects(changes) if self.written.get(str(each["path"]), "") != each.get("after")]
        acts: list[tuple[Act, Sequence[str]]] = [(self._act(turn, each), [str(each["path"])]) for each in objects[:ALONE]]
        if rest := objects[ALONE:]:
            obj = {"path": self._c.workspace.path, "files": len(rest)}
            named = [str(each["path"]) for each in rest[:LISTED]]
            acts.append((self._act(turn, obj, {"changes": rest[:LISTED]}), named))
        if told.lacks:
            acts.append((self._act(turn, {"path": self._c.workspace.path, "lacks": told.lacks}), []))
        return told, acts

    def _own(self, path: str) -> bool:
        """The conversations, which we write all the time, and what we keep there."""
        top = self._c.workspace.path
        ours = os.path.relpath(os.path.dirname(self._c.record.path), top)
        folders = [paths.WORK, *((ours, self._c.workspace.binding.conversations.rstrip("/")) if ours != "." else ())]
        return os.path.join(top, path) == self._c.record.path or any(beneath(path, folder) for folder in folders)

    def _act(self, turn: Turn, obj: Mapping[str, Any], body: Mapping[str, Any] | None = None) -> Act:
        beside = self._c.shared.beside(self._c)
        return Act(
            AuditKind.FS_WRITE, obj=obj, body={**(body or {}), **({"beside": beside} if beside else {})},
            conversation=self._c.record.id, turn=turn.id, agent=self._c.role,
        )  # fmt: skip

    def _objects(self, changes: tuple[Change, ...]) -> list[dict[str, Any]]:
        left, found = DIGESTED, []
        for path, before, after in changes:
            if (before or after).is_directory and (after or before).is_directory:  # type: ignore[union-attr]
                continue  # what is in it says it; nothing is in it: it is no content
            obj: dict[str, Any] = {"path": os.path.join(self._c.workspace.path, path), "how": Change(path, before, after).how}
            known = self._digests.pop(path, None)
            if before is not None and known is not None and known[0] == before:
                obj["before"] = known[1]
            if after is not None and not after.is_directory:
                obj |= {"size": after.size, "mode": f"{after.mode & 0o7777:04o}"}
                digest = inventory.digest(self._c.workspace.path, path) if after.size <= left else None
                if digest is not None:
                    left -= after.size
                    obj["after"], self._digests[path] = digest, (after, digest)
            found.append(obj)
        return found
