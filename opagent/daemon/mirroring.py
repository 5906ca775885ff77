"""The methods that a mirror on another machine asks: which conversation files there are, what they hold, and its saves of them.

The other side is `daemon/mirror.py`. (Design: "The mirror".)
"""

from __future__ import annotations

import asyncio
import getpass
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opagent import files, paths
from opagent.binding.find import never_a_workspace
from opagent.daemon import forks, inbox, leading
from opagent.daemon.params import Params, environment, maybe, place, text
from opagent.daemon.server import Client
from opagent.document import draft, edit, frontmatter
from opagent.document.delta import pack, unpack
from opagent.document.parse import scan
from opagent.document.parts import part_of
from opagent.document.records import file_digest
from opagent.errors import Conflict, FileRefused, NoBinding, NotFound, OpAgentError, Usage, WorkspaceRefused
from opagent.model import Conversation as Record
from opagent.model import ConversationId
from opagent.store import conversations as rows
from opagent.store.events import timestamp
from opagent.target import machine
from opagent.watch import exchange
from opagent.watch.settled import locate, settled_read

if TYPE_CHECKING:
    from opagent.daemon.host import Host
    from opagent.daemon.workspace import Workspace

Result = Mapping[str, Any]
LIMIT = 8 << 20  # bytes of a file that is mirrored
LISTED = 1000  # conversations of a directory, the newest
SETTLES_WITHIN = 10.0  # seconds for a save to arrive on the other machine
_PATIENCE = 1.0  # seconds to wait for who writes a file


async def document_list(host: Host, client: Client, params: Params) -> Result:
    workspace = await _workspace(host, text(params, "path"))
    folder = workspace.conversations_directory()
    records = host.database.read(lambda db: rows.listed(db, workspace.path, limit=LISTED))
    shown = [record for record in records if record.path.startswith(folder + "/")]
    found = await asyncio.to_thread(lambda: [_listed(record, folder) for record in shown])
    return {"workspace": workspace.path, "documents": found}


def _listed(record: Record, folder: str) -> dict[str, Any]:
    content = _content(record)
    said = {"conversation": record.id, "path": os.path.relpath(record.path, folder)}
    return said | {"digest": None if content is None else file_digest(content), "size": len(content or b"")}


def _content(record: Record) -> bytes | None:
    try:
        return files.read_file(record.path, LIMIT)
    except (OSError, OpAgentError):
        return None


async def _workspace(host: Host, path: str) -> Workspace:
    """Also of a directory without a binding, where an agent was named when it was opened."""
    path = os.path.join(os.path.expanduser("~"), path)
    try:
        return await host.workspace(path, None, None)
    except NoBinding:
        real = os.path.realpath(path)
        records = host.database.read(lambda db: rows.listed(db, real, limit=1))
        if not records:
            raise
        return host.look_again(records[0])


async def document_read(host: Host, client: Client, params: Params) -> Result:
    record = _record(host, params)
    known = host.conversations.get(record.id)
    if known is not None and known.versions.stopped:  # it will be mended here; in a mirror nobody could send around it
        raise Conflict(f"{record.path} is not given to a mirror", known.versions.problem, f"ls -l {record.path}")
    content = known.versions.standing_content if known is not None else None
    if content is None:
        try:
            content = (await settled_read(locate(Path(record.workspace), Path(record.path)), _PATIENCE)).content
        except FileNotFoundError as error:
            raise FileRefused(f"{record.path} is gone", "", f"opagent conversations rebuild {record.id}") from error
    if len(content) > LIMIT:
        raise FileRefused(f"{record.path} is too large for a mirror", f"{len(content)} bytes, the limit is {LIMIT}")
    documents = host.shared.documents
    documents.keep(content)
    return {"conversation": record.id, "document": pack(content, documents.version(maybe(params, "base") or ""))}


async def document_save(host: Host, client: Client, params: Params) -> Result:
    host.refuse_agents(client)
    record, documents = _record(host, params), host.shared.documents
    base = _base(host, record, params)
    if base is None:
        return {"known": False}
    content = unpack(params.get("document"), base, LIMIT)
    documents.keep(content)
    done: asyncio.Future[tuple[bytes, str]] = asyncio.get_running_loop().create_future()
    host.conversation(record.id).post(inbox.Foreign(content, base, bool(params.get("brought")), done))
    stands, problem = await done
    documents.keep(stands)
    return {"known": True, "document": pack(stands, content), **({"problem": problem} if problem else {})}


def _base(host: Host, record: Record, params: Params) -> bytes | None:
    """The version that a save was made of; empty where the mirror knows none, None where it has to send it."""
    digest = maybe(params, "base") or ""
    if not digest:
        return b""
    if "based" in params:
        return unpack(params["based"], None, LIMIT)
    known = host.conversations.get(record.id)
    present = known.versions.standing_content if known is not None else None
    if present is not None and file_digest(present) == digest:
        return present
    return host.shared.documents.version(digest)


async def document_create(host: Host, client: Client, params: Params) -> Result:
    """A text that was saved in a mirror and is to be sent becomes a conversation.

    The same id again is the same one, and `made` is false: it holds what it was made of.
    """
    host.refuse_agents(client)
    ident, name = ConversationId(text(params, "conversation")), text(params, "name")
    content = unpack(params.get("document"), None, LIMIT)
    if not frontmatter.is_id(ident) or os.path.basename(name) != name or name.startswith(".") or not name.endswith(".md"):
        raise Usage(f"{name} is no name of a new conversation")
    workspace = await _workspace(host, text(params, "path"))
    record = await _entered(host, workspace, ident, name, content)
    content = edit.load(content).adopt({"opagent": str(frontmatter.FORMAT), "conversation": ident}).content()
    host.shared.ownership.take(workspace.path)
    try:
        await exchange.create(locate(Path(workspace.path), Path(record.path)), content, sync=True)
        made = True
    except Conflict:
        made = False  # it was asked before
    host.conversation(record.id).changed(watched=not params.get("brought"))
    return {"conversation": record.id, "path": os.path.basename(record.path), "made": made}


async def _entered(host: Host, workspace: Workspace, ident: ConversationId, name: str, content: bytes) -> Record:
    """The row first: a file without one would be taken for a second new conversation."""
    try:
        known = host.database.read(lambda db: rows.get(db, ident))
    except NotFound:
        pass
    else:
        if known.workspace != workspace.path:
            raise Conflict(f"a conversation {ident} exists already", known.workspace)
        return known
    wanted = frontmatter.get(content, "agent")
    agent = wanted if wanted in workspace.binding.roles else workspace.role_name(None)
    said = draft.read(edit.load(content).draft(getpass.getuser())).text.decode("utf-8", "replace")
    first = next((line.strip("# \t") for line in said.splitlines() if line.strip()), "")
    title = host.shared.known.hide(frontmatter.get(content, "title") or first)[:80]
    path = forks.free_path(os.path.join(workspace.conversations_directory(), name), "")
    return (await host.begun(Record(ident, workspace.path, path, agent, title, timestamp()))).record


async def document_part(host: Host, client: Client, params: Params) -> Result:
    """Older turns that a summary in the file stands for. Raises NotFound for what no summary names."""
    record, name = _record(host, params), text(params, "part")
    present = await asyncio.to_thread(_content, record)
    if not any(part_of(region) == name for region in scan(present or b"")):
        raise NotFound(f"{record.path} has no part {name}")
    where = locate(Path(record.workspace), Path(record.path).parent / name)
    return {"conversation": record.id, "document": pack((await settled_read(where, _PATIENCE)).content)}


async def document_watch(host: Host, client: Client, params: Params) -> Result:
    workspace = await _workspace(host, text(params, "path"))
    host.shared.documents.watch(client, workspace.path, workspace.conversations_directory())
    return {"workspace": workspace.path}


# ---- on this side ----------------------------------------------------------------------------------------------------------


async def mirror_open(host: Host, client: Client, params: Params) -> Result:
    """Nothing is dialed: files come when there is a link."""
    host.refuse_agents(client)
    directory, name = os.path.realpath(text(params, "directory")), machine(text(params, "machine")).machine
    if never_a_workspace(directory, os.path.expanduser("~")):
        raise WorkspaceRefused(f"{directory} is never a mirror", "it holds more than one workspace", "opagent open --mirror DIR")
    conversations = maybe(params, "conversations") or paths.CONVERSATIONS
    mirror = await host.mirrors.begin(directory, text(params, "path"), None, name, conversations)
    return {"directory": str(mirror.directory), "folder": str(mirror.folder)}


async def mirror_close(host: Host, client: Client, params: Params) -> Result:
    host.refuse_agents(client)
    directory = os.path.realpath(text(params, "directory"))
    waiting = [path for one in host.mirrors.listed() if one["directory"] == directory for path in one["waiting"]]
    return {"closed": await host.mirrors.end(directory), "waiting": waiting}


async def conversation_where(host: Host, client: Client, params: Params) -> Result:
    """Which machine a directory or a conversation's file is about."""
    path = place(params, "path")
    there = leading.led(host, path, environment(params))
    if there is None:
        return {}
    if os.path.isdir(path):
        return {"elsewhere": str(there.there)}
    return {"elsewhere": str(there.whole), "conversation": leading.conversation(there, path)}


async def mirror_settle(host: Host, client: Client, params: Params) -> Result:
    await host.mirrors.settle(text(params, "path"), SETTLES_WITHIN)
    return {}


async def mirror_list(host: Host, client: Client, params: Params) -> Result:
    return {"mirrors": host.mirrors.listed()}


def _record(host: Host, params: Params) -> Record:
    """Raises ConversationNotFound."""
    ident = ConversationId(text(params, "conversation"))
    return host.database.read(lambda db: rows.get(db, ident))


METHODS: dict[str, Callable[[Host, Client, Params], Awaitable[Result]]] = {
    "document/list": document_list, "document/read": document_read, "document/save": document_save,
    "document/create": document_create, "document/part": document_part, "document/watch": document_watch,
    "mirror/open": mirror_open, "mirror/close": mirror_close, "mirror/list": mirror_list,
    "mirror/settle": mirror_settle, "conversation/where": conversation_where,
}  # fmt: skip
