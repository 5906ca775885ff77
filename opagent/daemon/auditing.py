"""The methods `audit/*`: asking the record, verifying it, copying it, purging contents. Long reads have a reader and a thread."""

from __future__ import annotations

import asyncio
import os
import shlex
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from opagent import paths
from opagent.daemon import dailycopy
from opagent.daemon.params import Params, maybe, number, placed, text, wanted
from opagent.daemon.server import Client
from opagent.errors import Conflict, FileRefused, Usage
from opagent.store import audit, chain, copying, heads, records
from opagent.store import conversations as conversation_rows
from opagent.store.events import AuditKind, Draft
from opagent.store.records import Query

if TYPE_CHECKING:
    from opagent.daemon.host import Host

T = TypeVar("T")
Result = dict[str, Any]
_PAGE = 1000  # rows of one answer
_EVER = "9999"


async def apart(host: Host, read: Callable[[Any], T]) -> T:
    """`read` in a thread. Raises StoreFailed, and what it raises."""
    return await asyncio.to_thread(host.database.apart, read)


async def query(host: Host, client: Client, params: Params) -> Result:
    if params.get("exact"):
        rows, more = await apart(host, lambda db: records.exact(db, number(params, "after", 0), _PAGE))
        return {"records": rows, "more": more, "host": host.host}
    asked = _query(host, params)
    rows, more = await apart(host, lambda db: records.found(db, host.database.blobs, asked))
    return {"records": rows, "more": more, "last": host.journal.last_journal(), "host": host.host}


def _query(host: Host, params: Params) -> Query:
    """Raises Usage, ConversationNotFound."""
    said = params.get("kinds")
    try:
        kinds = records.kinds([str(each) for each in said] if isinstance(said, list) else [])
    except ValueError as error:
        raise Usage(f"no kind of record is called {error}", "", "opagent audit --help") from error
    word = maybe(params, "conversation")
    path = maybe(params, "path")
    return Query(
        kinds=kinds,
        conversation=host.database.read(lambda db: conversation_rows.find(db, word)).id if word else None,
        agent=maybe(params, "agent"),
        path=os.path.normpath(path) if path else None,
        state=maybe(params, "state"),
        since=maybe(params, "since"),
        until=maybe(params, "until"),
        after=number(params, "after", 0) if params.get("after") is not None else None,
        limit=min(number(params, "limit", 100), _PAGE),
    )


async def verify(host: Host, client: Client, params: Params) -> Result:
    """`heads`: texts with heads that somebody kept; the chain must hold each."""
    said = params.get("heads")
    kept = [head for text in (said if isinstance(said, list) else []) for head in heads.read(str(text))]
    secret = await asyncio.to_thread(heads.known_key, paths.audit_key())
    found = await apart(host, lambda db: audit.verify(db, host.database.blobs, secret, kept))
    shown = {
        "rows": found.rows,
        "purged": found.purged,
        "head": f"{found.head.seq}:{found.head.link.hex()}",
        "heads": found.heads,
    }
    return {
        **shown,
        "broken": found.broken,
        "row": found.row,
        "compared": len(kept),
        "host": host.host,
        "sealed": secret is not None,
    }


async def head(host: Host, client: Client, params: Params) -> Result:
    """Where the journal ends, and the link of a row that somebody asks about."""
    seq = params.get("seq")
    ends = await apart(host, lambda db: (chain.last(db), heads.link_at(db, seq) if isinstance(seq, int) else None))
    return {"host": host.host, "seq": ends[0].seq, "link": ends[0].link.hex(), "at_seq": ends[1]}


async def purge(host: Host, client: Client, params: Params) -> Result:
    """The contents of a conversation, for good; who, what and when stay, and so does the chain."""
    host.refuse_agents(client)
    word, before = wanted(params), maybe(params, "before") or _EVER
    record = host.database.read(lambda db: conversation_rows.find(db, word))
    known = host.conversations.get(record.id)
    if known is not None and (known.busy or known.agent is not None):
        raise Conflict(f"an agent works on {record.id}", "its contents are still needed", f"opagent stop {record.id}")

    def change(db: Any) -> int:
        upto = audit.number_before(db, record.id, before)
        count = audit.purge(db, host.database.blobs, record.id, upto) + audit.contents_of(db, record.id, before)
        audit.forget_texts(db, record.id, before)
        obj = {"conversation": record.id, "rows": count, **({} if before == _EVER else {"before": before})}
        host.journal.put(db, record.id, [Draft(AuditKind.AUDIT_PURGE, who={"human": client.uid}, facts={"obj": obj})])
        return count

    count = await host.database.write(change, barrier=True)
    await asyncio.to_thread(dailycopy.forget, host.database.path)
    return {"conversation": record.id, "path": record.path, "purged": count}


async def backup(host: Host, client: Client, params: Params) -> Result:
    """A copy of the database of this moment, at a path where nothing is. Raises Usage, FileRefused, StoreFailed."""
    host.refuse_agents(client)
    path = Path(placed(text(params, "path")))
    try:
        size = await apart(host, lambda db: copying.copy(db, path))
    except FileExistsError as error:
        raise Usage(f"{path} is there already", "a copy takes the place of nothing", "opagent audit backup FILE") from error
    except OSError as error:
        raise FileRefused(
            f"{path} cannot be written", error.strerror or str(error), f"ls -ld {shlex.quote(str(path.parent))}"
        ) from error
    return {"path": str(path), "size": size, "host": host.host}


METHODS: dict[str, Callable[[Host, Client, Params], Awaitable[Result]]] = {
    "audit/query": query, "audit/verify": verify, "audit/head": head, "audit/purge": purge,
    "audit/backup": backup,
}  # fmt: skip
