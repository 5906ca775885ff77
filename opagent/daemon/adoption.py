"""A conversation file that this daemon's log does not know: read, and gone on with. The file is enough."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from opagent import files, paths
from opagent.daemon import forks
from opagent.document import frontmatter, parse
from opagent.errors import ConversationNotFound, FileRefused, NotFound
from opagent.model import Conversation, ConversationId, Kind
from opagent.store import conversations as rows
from opagent.store.events import Draft, timestamp
from opagent.watch.settled import LIMIT, locate

if TYPE_CHECKING:
    from opagent.daemon.host import Host


@dataclass(frozen=True, slots=True)
class Header:
    """What a conversation file says of itself."""

    id: ConversationId
    agent: str
    title: str
    created: str
    turns: int


def read(path: str) -> Header:
    """Raises ConversationNotFound when the file is no conversation, FileRefused when it cannot be read."""
    try:
        content = files.read_file(path, LIMIT)
    except OSError as error:
        raise FileRefused(f"{path} cannot be read", error.strerror or str(error), f"ls -l {path}") from error
    ident = frontmatter.conversation_id(content)
    if not ident or not frontmatter.is_conversation(content):
        raise ConversationNotFound(f"{path} is no conversation", "its front matter names none", "opagent conversations")
    turns = sum(region.part is parse.Part.REPLY for region in parse.scan(content))
    agent, title, created = (frontmatter.get(content, key) for key in ("agent", "title", "created"))
    return Header(ConversationId(ident), agent, title, created or timestamp(), turns)


def workspace_of(path: str) -> str:
    """The directory a conversation file belongs to: where the binding is, else the one above `conversations/`."""
    start = Path(path).parent
    for folder in (start, *start.parents):
        if (folder / paths.BINDING).exists() or (folder / paths.WORK).is_dir():
            return str(folder)
    return str(start.parent if start.name == paths.CONVERSATIONS.rstrip("/") else start)


async def adopt(host: Host, path: str, fork: bool = False, origin: str = "") -> Conversation:
    """Enter the file into the log, its turns as seen; a file with a known id has moved there, or is a copy.

    Raises Conflict for one in a mirror. `fork`: a copy becomes a conversation of its own. Raises FileRefused for one otherwise.
    `origin`: where it came from.
    """
    host.mirrors.refuse(path)
    real = os.path.realpath(path)
    header = read(real)
    try:
        known = host.database.read(lambda db: rows.get(db, header.id))
    except NotFound:
        known = None
    if known is not None and os.path.exists(known.path) and os.path.realpath(known.path) != real:
        if fork:
            return await forks.take_copy(host, locate(Path(workspace_of(real)), Path(real)), known)
        what = f"{path} is a copy of {known.path}"
        raise FileRefused(what, "two files cannot be the same conversation", f"opagent open {shlex.quote(path)}")
    before = host.database.read(lambda db: rows.at_path(db, real))
    if before is not None and before.id != header.id:
        await _step_aside(host, before)
        if known is None and before.id.partition("-")[0] == header.id.partition("-")[0]:
            return await forks.take_renamed(host, real, files.read_file(real, LIMIT), before)
    return await _entered(host, real, header, known, origin)


async def _step_aside(host: Host, record: Conversation) -> None:
    """Another conversation's file stands where this one's was: it has only a name for a file, until it is written again."""
    moved = replace(record, path=forks.free_path(record.path, ""))
    body = {"what": "path", "path": moved.path}
    await host.journal.append(record.id, [Draft(Kind.DOCUMENT, None, body)], barrier=True, also=lambda db: rows.update(db, moved))
    if known := host.conversations.get(record.id):
        known.moved(moved)


async def _entered(host: Host, path: str, header: Header, known: Conversation | None, origin: str) -> Conversation:
    agent = header.agent or (known.agent if known else "")
    if not agent:
        raise ConversationNotFound(f"{path} names no agent", "", f"opagent open {shlex.quote(path)} --agent NAME")
    record = Conversation(
        header.id, known.workspace if known else workspace_of(path), path, agent, header.title, header.created,
        acp_session=known.acp_session if known else None,
    )  # fmt: skip
    body = {"what": "path" if known else "imported", "path": path, "turns": header.turns, **({"from": origin} if origin else {})}
    change = rows.update if known else rows.insert
    await host.journal.append(record.id, [Draft(Kind.DOCUMENT, None, body)], barrier=True, also=lambda db: change(db, record))
    return record
