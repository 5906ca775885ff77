"""The methods for editors: an agent ready before the first words, settings of its session, and the name, images and end of a
conversation that was begun in an editor. Nothing that a person typed goes with that end.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opagent import files
from opagent.daemon import inbox, preparing
from opagent.daemon.attachments import IMAGE_LIMIT
from opagent.daemon.params import Params, environment, place, text, wanted
from opagent.document import edit, frontmatter
from opagent.errors import FileRefused, OpAgentError, Usage
from opagent.model import Kind
from opagent.store import conversations as rows
from opagent.store import turns as turn_rows
from opagent.watch import workfiles

if TYPE_CHECKING:
    from opagent.daemon.conversation import Conversation
    from opagent.daemon.host import Host
    from opagent.daemon.server import Client

Result = Mapping[str, Any]
_TYPES = {"image/png": "png", "image/jpeg": "jpg", "image/gif": "gif", "image/webp": "webp"}
_FOLDER = "images"
_TITLE = 200  # characters
_LOOKED_AT = 3  # conversations


async def agent_prepare(host: Host, client: Client, params: Params) -> Result:
    """Its answer does not wait for the agent: an event `agent_state` says how it went."""
    conversation = await host.found(wanted(params))
    host.remember(conversation.record.workspace, environment(params))
    await _do(conversation, preparing.prepare)
    agent = conversation.agent
    session = {"session": preparing.facts(agent)} if agent is not None and agent.ready else {}
    return {"state": conversation.process_state.value, "sentence": conversation.sentence, **session}


async def agent_set(host: Host, client: Client, params: Params) -> Result:
    host.refuse_agents(client)
    method, values = text(params, "method"), params.get("params")
    if method not in preparing.METHODS or not isinstance(values, dict):
        raise Usage(f"method must be one of {', '.join(preparing.METHODS)}, params an object")
    wish = preparing.Wish(text(params, "request"), method, values)
    await _do(await host.found(wanted(params)), lambda c: preparing.put(c, wish))
    return {}


async def agent_facts(host: Host, client: Client, params: Params) -> Result:
    """What the agent of a directory said of itself when it was last started there; nothing where it never was."""
    path = os.path.realpath(place(params, "path"))
    for record in host.database.read(lambda db: rows.listed(db, path, limit=_LOOKED_AT)):
        for event in reversed(host.journal.of_kinds(record.id, [Kind.AGENT_STATE])):
            if "session" in event.body:
                return {"session": event.body["session"]}
    return {}


async def conversation_name(host: Host, client: Client, params: Params) -> Result:
    """A title for a conversation that has none. One that was put away because nothing had been said in it is there again."""
    host.refuse_agents(client)
    conversation, title = await host.found(wanted(params)), host.shared.known.hide(text(params, "title"))[:_TITLE]

    async def name(c: Conversation) -> None:
        if not c.record.title:
            await _enter(c, title=title, state="open")

    await _do(conversation, name)
    return {"title": conversation.record.title}


async def conversation_image(host: Host, client: Client, params: Params) -> Result:
    """An image that belongs to a message, beside the file of its conversation."""
    host.refuse_agents(client)
    conversation = await host.found(wanted(params))
    ending = _TYPES.get(text(params, "type"))
    if ending is None:
        raise Usage(f"an image of the type {params['type']} cannot be sent", f"types: {', '.join(_TYPES)}")
    try:
        data = base64.b64decode(text(params, "data"), validate=True)
    except binascii.Error as error:
        raise Usage("the data of the image is no base64") from error
    if len(data) > IMAGE_LIMIT:
        raise Usage(f"the image is too large: {len(data)} bytes", f"the limit is {IMAGE_LIMIT}")
    name = f"{hashlib.sha256(data).hexdigest()[:16]}.{ending}"
    conversation.workspace.conversations_directory()  # raises when it leads out of the workspace
    await asyncio.to_thread(_keep_image, os.path.dirname(conversation.record.path), name, data)
    return {"path": f"{_FOLDER}/{name}"}


def _keep_image(folder: str, name: str, data: bytes) -> None:
    try:
        os.makedirs(os.path.join(folder, _FOLDER), exist_ok=True)
        with files.directory(folder) as top:
            inner = files.open_beneath(top, _FOLDER, os.O_RDONLY | os.O_DIRECTORY, links=False)
        try:
            files.write_whole_at(inner, name, data, 0o644)
        finally:
            os.close(inner)
    except OSError as error:
        raise FileRefused(f"the image cannot be kept in {folder}/{_FOLDER}", error.strerror or str(error)) from error


async def conversation_archive(host: Host, client: Client, params: Params) -> Result:
    """It is not listed any more. Its file stays; one in which nobody said anything goes."""
    host.refuse_agents(client)
    conversation = await host.found(wanted(params))
    only_empty = params.get("empty") is True
    others = any(one is not client and conversation.record.id in one.subscriptions for one in host.server.clients)
    gone: list[bool] = []

    async def archive(c: Conversation) -> None:
        empty = not c.busy and host.database.read(lambda db: turn_rows.total(db, c.record.id)) == 0
        if empty and not (only_empty and others):
            gone.append(await asyncio.to_thread(_untouched, c))
        if not only_empty and not any(gone):
            memory = await c.versions.ready()
            memory.rewrite(frontmatter.put(memory.content(), "archived", "true"))
            await c.versions.bring(memory, sync=True)
        if not only_empty or any(gone):
            await _enter(c, state="closed")

    await _do(conversation, archive)
    if any(gone):
        conversation.post(inbox.StopAgent(again=False, force=False, idle=True))
    return {"archived": not only_empty or any(gone), "removed": any(gone), "path": conversation.record.path}


def _untouched(c: Conversation) -> bool:
    """Removes the file if it is what it was when it was made. Looked at where no editor reaches it."""
    subject, path = c.file.subject, Path(c.record.path)
    made = edit.new(subject.header(), subject.person, subject.zone).content()
    try:
        if files.read_file(path, 2 * len(made)) != made:
            return False
        workfiles.prepare(subject.directory)
        aside = workfiles.set_aside(subject.directory, path.name, path)
        if files.read_file(aside, 2 * len(made)) == made:
            os.unlink(aside)
            return True
        if not path.exists():
            os.rename(aside, path)
    except (OSError, OpAgentError):
        pass
    return False


async def _enter(c: Conversation, **changed: str) -> None:
    record = replace(c.record, **changed)  # type: ignore[arg-type]  # title and state are text
    await c.shared.database.write(lambda db: rows.update(db, record))
    c.moved(record)


async def _do(conversation: Conversation, work: Callable[[Conversation], Awaitable[None]]) -> None:
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    conversation.post(inbox.Do(work, done))
    await done


METHODS: dict[str, Callable[[Host, Client, Params], Awaitable[Result]]] = {
    "agent/prepare": agent_prepare, "agent/set": agent_set, "agent/facts": agent_facts,
    "conversation/name": conversation_name, "conversation/image": conversation_image,
    "conversation/archive": conversation_archive,
}  # fmt: skip
