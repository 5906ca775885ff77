"""A conversation file from elsewhere taken into a workspace: copied, or merged into the one that has its id. No other form."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from opagent import files
from opagent.daemon import forks
from opagent.document import frontmatter
from opagent.document.branches import merge3
from opagent.document.parse import scan
from opagent.document.parts import part_of
from opagent.errors import Conflict, ConversationNotFound, FileRefused, NotFound
from opagent.model import Conversation, ConversationId
from opagent.store import conversations as rows
from opagent.watch import exchange
from opagent.watch.settled import LIMIT, locate, settled_read

if TYPE_CHECKING:
    from opagent.daemon.host import Host
    from opagent.daemon.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Taken:
    """`merged`: it was known and got turns; `clashes`: where a person must look at it."""

    record: Conversation
    merged: bool = False
    clashes: tuple[str, ...] = ()


async def take(host: Host, workspace: Workspace, source: str, agent: str | None, name: str, origin: str) -> Taken:
    """Raises ConversationNotFound for what is no conversation, FileRefused, NotFound (no such agent), Conflict.

    `name`: what the new file is called, `origin`: where it came from, for the log.
    """
    content = await asyncio.to_thread(_read, source)
    ident = ConversationId(frontmatter.conversation_id(content))
    try:
        known = host.database.read(lambda db: rows.get(db, ident))
    except NotFound:
        known = None
    real, folder = os.path.realpath(source), workspace.conversations_directory()
    if known is not None and os.path.realpath(known.path) == real:
        return Taken(known)
    if known is not None and os.path.exists(known.path):
        return await _merged(host, known, content)
    host.shared.ownership.take(workspace.path)
    if not real.startswith(folder + "/"):
        role = workspace.role_name(agent or frontmatter.get(content, "agent") or None)
        content = frontmatter.put(content, "agent", role)
        real = forks.free_path(os.path.join(folder, name), "")
        await exchange.create(locate(Path(workspace.path), Path(real)), content, sync=True)
        await asyncio.to_thread(_copy_parts, Path(source).parent, Path(folder), content)
    return Taken((await host.found(real, origin=origin)).record)


def _read(source: str) -> bytes:
    try:
        content = files.read_file(source, LIMIT)
    except OSError as error:
        raise FileRefused(f"{source} cannot be read", error.strerror or str(error), f"ls -l {source}") from error
    if not frontmatter.conversation_id(content) or not frontmatter.is_conversation(content) or b"\0" in content:
        raise ConversationNotFound(f"{source} is no conversation", "its front matter names none", "opagent conversations")
    return content


async def _merged(host: Host, known: Conversation, content: bytes) -> Taken:
    """Two files of one conversation, as a synchronising program leaves them: the turns of both."""
    place = locate(Path(known.workspace), Path(known.path))
    ours = (await settled_read(place)).content
    result = merge3(b"", ours, content)
    if result.content == ours:
        return Taken(known)
    host.shared.ownership.take(known.workspace)
    outcome = await exchange.write_version(place, result.content, ours, sync=True)
    if not outcome.written:
        raise Conflict(f"{known.path} was not written", outcome.why, f"ls -l {known.path}")
    host.conversation(known.id).changed()
    return Taken(known, merged=True, clashes=result.clashes)


def _copy_parts(source: Path, folder: Path, content: bytes) -> None:
    """Older turns that a summary of the file stands for; one that is there already stays. For a thread."""
    for region in scan(content):
        part = part_of(region)
        if not part or (folder / part).exists() or not (source / part).is_file():
            continue
        older = files.read_file(source / part, LIMIT)
        (folder / part).parent.mkdir(mode=0o700, exist_ok=True)
        files.write_whole(folder / part, older)
