"""What a daemon clears away beside its work: rows and logs of processes that ended long ago. Ends nothing, removes nothing else.

API: `keep_clear`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from opagent import paths
from opagent.errors import OpAgentError
from opagent.model import ProcessId
from opagent.store import processes

if TYPE_CHECKING:
    from opagent.daemon.shared import Shared

log = logging.getLogger(__name__)

KEPT_DAYS, KEPT = 7, 20  # a process that ended is kept so long, and the newest of each conversation for ever
_EVERY = 24 * 3600.0  # seconds


async def keep_clear(shared: Shared) -> None:
    """Now, and once a day."""
    while True:
        try:
            await _clear(shared)
        except (OpAgentError, OSError) as error:  # a full disk, a directory that cannot be read: the next day is early enough
            log.warning("old processes are not cleared away: %s", error)
        await asyncio.sleep(_EVERY)


async def _clear(shared: Shared) -> None:
    before = (datetime.now(UTC) - timedelta(days=KEPT_DAYS)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    gone = await shared.database.write(lambda db: processes.forget_ended(db, before, KEPT))
    known = shared.database.read(lambda db: processes.ids(db))
    files = await asyncio.to_thread(_remove_logs, known)
    if gone or files:
        log.info("cleared away: %d processes that ended before %s, %d logs", gone, before, files)


def _remove_logs(known: frozenset[ProcessId]) -> int:
    """Old logs without a row, also those that an earlier daemon did not come to; how many."""
    oldest, removed = time.time() - KEPT_DAYS * 24 * 3600, 0
    for path in paths.agent_log("").parent.glob("*.log*"):
        if path.name.partition(".")[0] not in known and path.stat().st_mtime < oldest:
            path.unlink(missing_ok=True)
            removed += 1
    return removed
