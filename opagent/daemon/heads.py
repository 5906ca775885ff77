"""Takes heads of the journal, sends them out of reach, and compares those that other machines said; judges no row.

Every ROWS rows or SECONDS seconds, while something happens; a burst is up to a second late. (Security.md, "Audit and journal".)
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from opagent import paths
from opagent.daemon import anchors, peer
from opagent.errors import FileRefused, OpAgentError, StoreFailed
from opagent.store import heads as rows
from opagent.store.chain import Head
from opagent.store.events import AuditKind, Draft, timestamp

if TYPE_CHECKING:
    from opagent.daemon.host import Host

log = logging.getLogger(__name__)

ROWS, SECONDS = 1000, 60.0
_LOOK = 1.0  # seconds
_LINKED = 300.0  # seconds until a machine whose link stands is asked again


class Heads:
    """One per host."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._taken = host.database.read(rows.last)
        self._went_back: dict[str, str] = {}  # machine -> what its journal lost
        self._secret: bytes | None = None

    async def keep(self) -> None:
        """For ever."""
        loop = asyncio.get_running_loop()
        since = asked = loop.time()
        while True:
            await asyncio.sleep(_LOOK)
            new, now = self._host.database.chain.head.seq - self._taken.seq, loop.time()
            if new >= ROWS or (new > 1 and now - since >= SECONDS):  # the row of the last head alone is nothing new
                since = now
                await self.take()
            if now - asked >= _LINKED:
                asked = now
                for name in self._host.links.standing():
                    await self.compare(name)

    async def take(self) -> None:
        """A head of what is there now: into the chain, and from there to whoever keeps it. Raises nothing."""
        journal, at = self._host.journal, timestamp()
        secret = await asyncio.to_thread(self._key)

        def change(db: Any) -> Head:
            head = self._host.database.chain.head
            journal.put(db, None, [rows.draft(head, at, secret)])
            return head

        try:
            head = await self._host.database.write(change)
        except StoreFailed as error:
            log.warning("no head of the journal was taken: %s", error)
            return
        self._taken = Head(head.seq + 1, b"")
        took = await anchors.send(anchors.line(self._host.host, head.seq, head.link.hex(), at))
        log.debug("head %d went to %s", head.seq, ", ".join(took) or "nobody")

    def _key(self) -> bytes | None:
        if self._secret is None:
            try:
                self._secret = rows.key(paths.audit_key())
            except (OSError, FileRefused, OpAgentError) as error:
                log.warning("heads of the journal are not sealed: %s", error)
        return self._secret

    # ---- of other machines -----------------------------------------------------------------------------------------------

    def went_back(self, machine: str) -> str | None:
        return self._went_back.get(machine)

    async def compare(self, machine: str) -> None:
        """Ask a machine whose link stands where its journal ends, and whether it still is the one that it was. Raises nothing."""
        kept = self._host.database.read(lambda db: rows.kept(db, machine))
        try:
            there = await peer.connect(paths.machine_socket(machine), "audit")
            try:
                said = await there.request("audit/head", {"seq": kept[1]} if kept else {})
            finally:
                there.close()
            host, head = str(said["host"]), (int(said["seq"]), str(said["link"]))
        except (OpAgentError, OSError, KeyError, TypeError, ValueError) as error:  # an older one does not know the question
            log.debug("%s says nothing of its journal: %s", machine, error)
            return
        if kept is not None and kept[0] == host and (why := _problem(kept, said)):
            await self._tell(machine, kept, why)
            return  # what is kept is the evidence
        self._went_back.pop(machine, None)
        at = timestamp()
        await self._host.database.write(lambda db: rows.keep(db, machine, host, head, at))

    async def _tell(self, machine: str, kept: tuple[str, int, str, str], why: str) -> None:
        if machine in self._went_back:
            return
        self._went_back[machine] = why
        log.warning("the journal of %s: %s", machine, why)
        obj = {"host": machine, "seq": kept[1], "link": kept[2], "at": kept[3]}
        self._host.shared.record(Draft(AuditKind.AUDIT_GAP, facts={"obj": obj, "error": why}))


def _problem(kept: tuple[str, int, str, str], said: dict[str, Any]) -> str | None:
    """What another machine's journal lost since it was asked the last time."""
    if int(said["seq"]) < kept[1]:
        return f"it ends at {int(said['seq'])}, and on {kept[3]} it had reached {kept[1]}"
    if str(said.get("at_seq") or "") != kept[2]:
        return f"row {kept[1]} is not the one that was there on {kept[3]}"
    return None
