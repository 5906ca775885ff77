"""A workspace, a conversation in it and its first words in one request: to a daemon far away each request is a journey."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from opagent import control
from opagent.daemon import leading, reflecting, reports
from opagent.daemon.params import Params, environment, maybe, place, text, wanted
from opagent.daemon.turns import Prompt, by_request
from opagent.errors import ConversationNotFound, Usage
from opagent.model import Conversation as Record
from opagent.model import Kind
from opagent.store import conversations as rows
from opagent.store import turns as turn_rows

if TYPE_CHECKING:
    from opagent.daemon.conversation import Conversation
    from opagent.daemon.host import Host
    from opagent.daemon.server import Client
    from opagent.daemon.workspace import Workspace

PROMPT_LIMIT = 8 * 2**20  # characters
_LAST = ("last", "last_or_new")


async def join(host: Host, client: Client, params: Params) -> dict[str, Any]:
    """`{workspace, conversation, after?, turn?, place?}`; `{elsewhere}` for a directory that stands for one on another machine.

    Raises NoBinding, BindingInvalid, NotTrusted, ConversationNotFound, Usage, and what starting a turn raises.
    """
    path, agent = place(params, "path"), maybe(params, "agent")
    there = leading.led(host, path, environment(params))
    if there is not None:
        return await _elsewhere(host, there, path, params)
    named = await _named(host, wanted(params) if params.get("conversation") else None, maybe(params, "request"))
    if named is not None:  # its own directory and agent, also where no binding names one
        path = named.record.path if os.path.isfile(named.record.path) else named.record.workspace
    given = await host.environment(environment(params), path)
    last = _last(host, os.path.realpath(path)) if params.get("which") in _LAST else None  # it ran without a binding, maybe
    workspace = await host.workspace(
        path, agent or (named.record.agent if named is not None else None), given, last.agent if last is not None else None
    )
    if named is None and os.path.isfile(path):
        named = await host.found(path)
    role = agent or (named.record.agent if named is not None else None)
    workspace.require_trust(role)
    conversation = named or await _chosen(host, workspace, params)
    answer: dict[str, Any] = {
        "workspace": host.opened(workspace, role),
        "conversation": reports.conversation(host, conversation.record),
    }
    after = host.journal.last_seq(conversation.record.id)
    if params.get("text") is not None:
        words = prompt(conversation, client, {**params, "agent": params.get("guest")}, said(params))
        after = _before(host, conversation, words.request, after)
        turn, waits = await conversation.enqueue(words)
        answer |= {"turn": control.turn_json(turn), "place": waits}
    if params.get("follow"):  # last, and nothing may be waited for behind it: the events come behind this answer
        await host.server.subscribe(client, conversation.record.id, after)
        answer["after"] = after
    return answer


async def _elsewhere(host: Host, there: leading.Led, path: str, params: Params) -> dict[str, Any]:
    """A file here stands for a conversation there, whatever it is called on either side."""
    await reflecting.begin(host, there.directory, there.whole)
    word = wanted(params) if params.get("conversation") else path
    if os.path.isfile(word):
        return {"elsewhere": str(there.whole), "conversation": leading.conversation(there, word)}
    return {"elsewhere": str(there.there), **({"conversation": word} if word != path else {})}


async def _named(host: Host, word: str | None, request: str | None) -> Conversation | None:
    """Which one the client means; a request that is made again after a lost connection means the one it made."""
    if word:
        return await host.found(word, fork=os.path.isfile(word))  # a copy that is named becomes one of its own
    made = host.database.read(lambda db: turn_rows.conversation_of(db, request)) if request else None
    return host.conversation(made) if made else None


def _before(host: Host, conversation: Conversation, request: str | None, last: int) -> int:
    """The seq before the turn's first event: a request that is made again has missed what its turn said meanwhile."""
    made = by_request(conversation, request) if request else None
    if made is None:
        return last
    moves = host.journal.of_kinds(conversation.record.id, [Kind.TURN_STATE])
    return next((event.seq - 1 for event in moves if event.turn == made.id), last)


async def _chosen(host: Host, workspace: Workspace, params: Params) -> Conversation:
    """The conversation of the workspace that something happened in last, or a new one."""
    which = params.get("which")
    if which in _LAST:
        if last := _last(host, workspace.path):
            return host.conversation(last.id)
        if which == "last":
            raise ConversationNotFound(f"no conversation in {workspace.path} yet", hint="opagent open --new")
    return await host.create(workspace, maybe(params, "agent"), maybe(params, "title") or "")


def _last(host: Host, workspace: str) -> Record | None:
    records = host.database.read(lambda db: rows.listed(db, workspace, "open"))
    return max(records, key=lambda each: str(reports.conversation(host, each)["updated"]), default=None)


def said(params: Params) -> str:
    """The words of a turn. Raises Usage."""
    words = text(params, "text")
    if not words.strip():
        raise Usage("the prompt is empty")
    if len(words) > PROMPT_LIMIT:
        raise Usage("the prompt is larger than 8 MiB")
    return words


def prompt(conversation: Conversation, client: Client, params: Params, words: str) -> Prompt:
    """Raises NotFound where another agent is to take the turn and the directory has none of that name."""
    role = maybe(params, "agent")
    agent = conversation.workspace.role_name(role) if role else None
    return Prompt(words, f"human:{client.uid}", client.name or "cli", maybe(params, "request"), agent)
