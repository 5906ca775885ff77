"""Files of a watched directory that no conversation is known by: moved ones, copies, new ones, and saves made without a daemon.

API: `arrived`, `since_last_time`. A file is looked at, never written; what it asks for, its conversation decides.
"""

from __future__ import annotations

import asyncio
import getpass
import logging
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from opagent import files
from opagent.daemon import whereabouts
from opagent.document import draft, edit, frontmatter, parse
from opagent.document.draft import Gesture
from opagent.document.names import new_conversation
from opagent.document.records import file_digest
from opagent.errors import ConversationNotFound, OpAgentError
from opagent.model import Conversation as Record
from opagent.model import Event, Kind
from opagent.store import conversations as rows
from opagent.store.events import timestamp
from opagent.watch.observer import Watch
from opagent.watch.settled import LIMIT, locate, settled_read

if TYPE_CHECKING:
    from opagent.daemon.host import Host

log = logging.getLogger(__name__)

_RECENT = 200  # conversations whose files a new daemon looks at
_TAIL = 64  # events of a conversation among which its last version usually is
_PATIENCE = 1.0  # seconds to wait for who writes such a file


async def arrived(host: Host, workspace: str, path: str) -> None:
    """A Markdown file appeared or changed: a conversation that moved here, or a text that is to be sent.

    One after the other: two looks at one new file would make two conversations.
    """
    async with host.watching.arrivals:
        try:
            content = (await settled_read(locate(Path(workspace), Path(path)), _PATIENCE)).content
            known = next((each for each in host.conversations.values() if each.record.path == path), None)
            ident = frontmatter.conversation_id(content) if frontmatter.is_conversation(content) else ""
            if known is not None and ident in ("", known.record.id):
                known.changed(watched=True)
            elif ident:
                await _known(host, path, content, named=known is not None)
            elif _said(content).gesture is Gesture.SEND:
                await _new(host, workspace, path, content)
        except (OSError, OpAgentError) as error:
            log.info("%s: %s", path, error)


async def _known(host: Host, path: str, content: bytes, named: bool) -> None:
    """Its front matter names a conversation: one of ours that moved here, or one from elsewhere, or a copy, that wants something.

    `named`: the file is where another conversation's was, so a person wrote another id into it.
    """
    try:
        record = host.database.read(lambda db: rows.find(db, frontmatter.conversation_id(content)))
    except ConversationNotFound:
        record = None
    moved = record is not None and (whereabouts.holds(path, record) or not os.path.exists(record.path))
    if record is not None and moved:
        host.conversation(record.id).changed(watched=True)
    elif named or _said(content).gesture is not Gesture.NONE:
        turns = any(region.part.turn for region in parse.scan(content))
        (await host.found(path, fork=True)).changed(watched=not turns)


async def _new(host: Host, workspace: str, path: str, content: bytes) -> None:
    """A file without front matter whose last line says that it is to be sent."""
    bound = host.workspaces.get(workspace)
    wanted = frontmatter.get(content, "agent")
    agent = wanted if bound is not None and wanted in bound.binding.roles else bound.binding.agent if bound is not None else None
    if agent is None:
        log.info("%s is not sent: no agent is bound to %s", path, workspace)
        return
    lines = _said(content).text.decode("utf-8", "replace").splitlines()
    first = next((line.strip("# \t") for line in lines if line.strip()), "")
    title = host.shared.known.hide(frontmatter.get(content, "title") or first)[:80]
    record = Record(new_conversation(secrets.token_bytes(16)), workspace, os.path.realpath(path), agent, title, timestamp())
    (await host.begun(record)).changed(watched=True)


def _said(content: bytes) -> draft.Said:
    return draft.read(edit.load(content).draft(getpass.getuser()))


async def since_last_time(host: Host) -> None:
    """Watch where the conversations are that were used last: with that, what was saved while no daemon ran is found."""
    records = host.database.read(lambda db: rows.listed(db, None, limit=_RECENT))
    for record in {record.workspace: record for record in reversed(records)}.values():
        try:
            host.watching.add(host.look_again(record))
        except (OSError, OpAgentError) as error:
            log.info("%s: %s", record.workspace, error)


async def unwatched(host: Host, workspace: str, watch: Watch) -> None:
    """What was saved before the watch of a directory began, which nobody tells: while no daemon ran, or a moment ago."""
    await watch.ready.wait()
    for record in host.database.read(lambda db: rows.listed(db, workspace, limit=_RECENT)):
        if host.shared.closing or not os.path.isfile(record.path):
            continue
        try:
            if await asyncio.to_thread(_asks, host, record):
                host.conversation(record.id).changed()
        except (OSError, OpAgentError) as error:
            log.info("%s: %s", record.path, error)


def _asks(host: Host, record: Record) -> bool:
    """Whether the file is not the last version that the log knows, or its draft has a note: it may wait. For a thread."""
    content = files.read_file(record.path, LIMIT)
    last = _version(host.journal.last(record.id, _TAIL)) or _version(host.journal.of_kinds(record.id, (Kind.DOCUMENT,)))
    return last != file_digest(content) or bool(draft.notes(content))


def _version(events: list[Event]) -> str:
    """The digest of the last version among events, or empty."""
    found = (str(event.body.get("digest")) for event in reversed(events) if event.body.get("what") == "version")
    return next(found, "")
