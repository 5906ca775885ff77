"""A copy of the database once a day, of its own accord: for the day on which a disk spoils the one in use. Reads none back.

API: `keep_copy`, `copied`, `forget`.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from pathlib import Path

from opagent import files, paths
from opagent.errors import OpAgentError
from opagent.store import audit, copying
from opagent.store.database import Database

log = logging.getLogger(__name__)

EVERY = 24 * 3600.0  # seconds
LOOK = 3600.0
ROOM = 3  # as often as the database must fit into what is free, or no copy is made


async def keep_copy(database: Database) -> None:
    """Once a day, not in the first hour of a daemon."""
    while True:
        await asyncio.sleep(LOOK)
        try:
            if await asyncio.to_thread(copied, database, time.time()):
                log.info("the database was copied to %s", paths.database_copy(database.path))
        except (OpAgentError, OSError) as error:  # a full disk: in an hour it may not be
            log.warning("the database is not copied: %s", error)


def copied(database: Database, now: float) -> bool:
    """Whether it was time for a copy and there is one now. For a thread. Raises OSError, StoreFailed, NotPrivate."""
    path = paths.database_copy(database.path)
    files.private_directory(path.parent)
    if path.exists() and 0 <= now - path.stat().st_mtime < EVERY:
        return False
    if shutil.disk_usage(path.parent).free < ROOM * database.path.stat().st_size:
        log.warning("the database is not copied: there is not enough room below %s", path.parent)
        return False
    holds = database.apart(lambda db: copying.renew(db, path))
    if database.apart(lambda db: audit.purged_since(db, holds)):
        forget(database.path)
        return False
    return True


def forget(database: Path) -> None:
    """No copy holds what a person had purged: the next one is made in an hour."""
    for left in paths.database_copy(database).parent.glob("*"):
        left.unlink(missing_ok=True)
