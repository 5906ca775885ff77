"""A conversation that goes on twice: up to a turn in a new file, or in a copy of its file that somebody made.

The turns of a fork are in the log of the conversation it was forked from. The event `forked` says whether that is here.
"""

from __future__ import annotations

import getpass
import os
import secrets
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from opagent.daemon.recollection import happened_here
from opagent.document import fork as forking
from opagent.document import frontmatter
from opagent.document.names import free_name, new_rest
from opagent.errors import Conflict, FileRefused
from opagent.model import Conversation, ConversationId, Kind
from opagent.store import conversations as rows
from opagent.store.events import Draft, timestamp
from opagent.watch import exchange
from opagent.watch.settled import Place, locate, settled_read

if TYPE_CHECKING:
    from opagent.daemon.host import Host

_TRIES = 20  # names and ids that somebody else may take meanwhile


async def fork(host: Host, record: Conversation, turn: str | None) -> Conversation:
    """The conversation up to a turn (None: the last that has ended) as a new one, in a file beside it.

    Raises NotFound, Conflict, FileRefused, NotPrivate.
    """
    try:
        content = (await settled_read(locate(Path(record.workspace), Path(record.path)))).content
    except FileNotFoundError as error:
        raise FileRefused(f"{record.path} is gone", "", f"opagent conversations rebuild {record.id}") from error
    host.shared.ownership.take(record.workspace)
    for _ in range(_TRIES):
        path = free_path(record.path, "-fork")
        new = replace(record, id=_new(record.id), path=path, created=timestamp(), acp_session=None)
        forked = forking.fork(content, new.id, getpass.getuser(), turn or "")
        try:
            await exchange.create(locate(Path(new.workspace), Path(path)), forked, sync=True)
            await _enter(host, new, forked, record.id)
        except Conflict:
            continue
        return new
    raise Conflict(f"no free name beside {record.path}", "", f"ls {os.path.dirname(record.path)}")


async def take_copy(host: Host, place: Place, origin: Conversation) -> Conversation:
    """A file that holds the id of a conversation whose file is another one: its front matter gets an id of its own.

    Raises Conflict where somebody saves it at this moment, FileRefused.
    """
    path = str(place.path)
    host.shared.ownership.take(str(place.workspace))
    content = (await settled_read(place)).content
    new = _described(replace(origin, id=_new(origin.id), workspace=str(place.workspace), path=path), content)
    forked = forking.renamed(content, new.id, forking.last_turn(content))
    outcome = await exchange.write_version(place, forked, content, sync=True)
    if not outcome.written:
        raise Conflict(f"{path} could not be made a conversation of its own", outcome.why, f"ls -l {path}")
    await _enter(host, new, forked, origin.id)
    return new


async def take_renamed(host: Host, path: str, content: bytes, origin: Conversation) -> Conversation:
    """A person wrote another id into the file of a conversation: it is a fork."""
    new = _described(replace(origin, id=ConversationId(frontmatter.conversation_id(content)), path=path), content)
    await _enter(host, new, content, origin.id)
    return new


def free_path(path: str, word: str) -> str:
    """A name beside a file that nothing has, case ignored."""
    folder, name = os.path.split(path)
    taken = {each.lower() for each in os.listdir(folder)}
    return os.path.join(folder, free_name(name.removesuffix(".md") + word, lambda other: other.lower() in taken))


def _described(record: Conversation, content: bytes) -> Conversation:
    agent, title = frontmatter.get(content, "agent") or record.agent, frontmatter.get(content, "title") or record.title
    return replace(record, agent=agent, title=title, created=timestamp(), acp_session=None)


def _new(origin: ConversationId) -> ConversationId:
    return new_rest(origin, secrets.token_bytes(16))


async def _enter(host: Host, new: Conversation, content: bytes, origin: ConversationId) -> None:
    """Raises Conflict when the id is taken."""
    turn = forking.last_turn(content)
    here = bool(turn) and happened_here(host.shared, origin, turn)
    body = {"what": "forked", "from": f"{origin}#{turn}" if turn else origin, "here": here, "path": new.path}
    await host.journal.append(new.id, [Draft(Kind.DOCUMENT, None, body)], barrier=True, also=lambda db: rows.insert(db, new))
