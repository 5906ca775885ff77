"""What the daemon says about its workspaces, conversations and processes, as JSON; changes nothing."""

from __future__ import annotations

import asyncio
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from opagent import control, files, paths
from opagent.daemon import callers, confinement
from opagent.document import draft
from opagent.errors import FileRefused, ProcessNotFound
from opagent.model import Conversation as Record
from opagent.model import ConversationId, ProcessState
from opagent.process import table
from opagent.store import conversations as conversation_rows
from opagent.store import effects
from opagent.store import turns as turn_rows

if TYPE_CHECKING:
    from opagent.daemon.conversation import Conversation
    from opagent.daemon.host import Host
    from opagent.daemon.workspace import Workspace

_LOG_BYTES = 256 * 1024
_TEXT_BYTES = 4 * 2**20  # of a conversation's file: JSON can make it three times as long
_PAGE_BYTES = 4 * 2**20  # a frame holds 16 MiB


def opened(workspace: Workspace, agent: str | None) -> dict[str, Any]:
    """The answer of `workspace/open`: what would be started here."""
    role = workspace.role_name(agent)
    plan = confinement.plan(workspace, role)
    return {
        "workspace": workspace.path,
        "focus": workspace.focus,
        "agent": role,
        "runtime": workspace.runtime_name(role),
        "argv": list(workspace.argv(role)),
        "conversations": workspace.binding.conversations,
        "trust": workspace.trust.value,
        "level": plan.level.value,
        "enforcement": plan.enforcement,
        "notices": [*workspace.notices, *([plan.notice] if plan.notice else [])],
    }


def workspace(host: Host, found: Workspace) -> dict[str, Any]:
    inside = [c for c in host.conversations.values() if c.record.workspace == found.path]
    return {
        "workspace": found.path,
        "agent": found.binding.agent,
        "conversations": len(inside),
        "processes": sum(c.agent is not None for c in inside),
    }


def workspace_path(host: Host, path: str) -> str:
    """The workspace a path belongs to: a known one at or above it, else the path itself."""
    real = os.path.realpath(path)
    known = set(host.workspaces) | {
        record.workspace for record in host.database.read(lambda db: conversation_rows.listed(db, limit=5000))
    }
    parent = real
    while True:
        if parent in known:
            return parent
        if parent == os.path.dirname(parent):
            return real
        parent = os.path.dirname(parent)


def conversation(host: Host, record: Record) -> dict[str, Any]:
    """A conversation with its number of turns and what goes on in it."""
    turns = host.database.read(lambda db: turn_rows.newest(db, record.id, 1))
    known = host.conversations.get(record.id)
    state = known.process_state.value if known is not None else "stopped"
    last = turns[-1] if turns else None
    facts = {
        "turns": host.database.read(lambda db: turn_rows.total(db, record.id)),
        "state": last.state.value if last is not None and not last.state.final else state,
        "updated": (last.ended_at or last.queued_at) if last is not None else record.created,
        "exists": os.path.exists(record.path),
    }
    if known is not None and known.versions.problem:
        facts["problem"] = known.versions.problem
    if known is not None and known.standing.refused:
        facts["not_sent"] = known.standing.refused
    return control.conversation_json(record) | facts


def beside(host: Host, one: Conversation) -> list[str]:
    """The other conversations that have a turn in the workspace of one."""
    others = (c for c in host.conversations.values() if c is not one and c.record.workspace == one.record.workspace)
    return [c.record.id for c in others if c.current is not None]


def page(host: Host, ident: ConversationId, after: int, limit: int) -> tuple[list[dict[str, Any]], bool]:
    """Events after a number, at most `limit` and about 4 MiB of them, and whether there are more."""
    found: list[dict[str, Any]] = []
    size = 0
    while len(found) < limit and size < _PAGE_BYTES:
        events = host.journal.after(ident, after, min(50, limit - len(found)))
        for event in events:
            found.append(control.event_json(event))
            size += len(repr(event.body)) + 200
        if len(events) < 50:
            break
        after = events[-1].seq
    last = found[-1]["seq"] if found else after
    return found, host.journal.last_seq(ident) > last


def queue(found: Conversation) -> dict[str, Any]:
    """The turns that run and wait, and the place among them of a draft that waits; or why a draft is not sent."""
    turns, stand = found.ahead(), found.standing
    shown: dict[str, Any] = {"turns": [control.turn_json(turn) for turn in turns]}
    if stand.waits:
        behind = [place for place, turn in enumerate(turns) if turn.id in stand.behind]
        memory = found.versions.memory
        said = draft.read(memory.draft()).text.decode("utf-8", "replace") if memory is not None else ""
        shown["draft"] = {"since": stand.since, "place": max(behind, default=-1) + 1, "text": said}
    elif stand.refused:
        shown["draft"] = {"refused": stand.refused}
    return shown


def where(host: Host, ident: ConversationId) -> dict[str, Any]:
    """File and workspace of an approval's conversation."""
    record = host.database.read(lambda db: conversation_rows.get(db, ident))
    return {"workspace": record.workspace, "path": record.path, "agent": record.agent}


def process(host: Host, found: Conversation) -> dict[str, Any]:
    """One conversation's agent as `ps` shows it."""
    agent, running = found.agent, found.current
    waiting = host.shared.approvals.waiting_for(found.record.id)
    body: dict[str, Any] = {
        "id": agent.id if agent else None,
        "pid": agent.process.program if agent and agent.process else None,
        "level": agent.plan.level.value if agent else None,
        "conversation": found.record.id,
        "path": found.record.path,
        "workspace": found.record.workspace,
        "agent": found.role,
        "runtime": found.workspace.runtime_name(found.role),
        "state": "waiting" if waiting else found.process_state.value,
        "since": found.since,
        "turn": running.turn.id if running else None,
        "queued": len(found.queue),
        "restarts": found.restarts,
        "sentence": found.sentence,
        **callers.told(host, found.record.id),
    }
    if found.standing.waits:
        body["draft"] = "waiting"
    elif found.standing.refused:
        body |= {"draft": "not sent", "not_sent": found.standing.refused}
    if lost := host.database.read(lambda db: effects.left_unknown(db, found.record.id)):
        body["unknown"] = lost
    if found.stuck:
        body["stuck"] = found.stuck
    if waiting:
        body["waiting_for"] = list(waiting)
    elif running and running.stalled:
        body["state"] = "stalled"
    elif running and found.process_state is ProcessState.READY:
        body["state"] = "working"
    return body


async def processes(host: Host, everything: bool) -> list[dict[str, Any]]:
    """The agents that live or should (with `everything` also the stopped ones that this daemon had), with their memory."""
    rows = [process(host, c) for c in host.conversations.values() if everything or _shown(c)]
    pids = [row["pid"] for row in rows if row["pid"]]
    usage = await asyncio.to_thread(table.usage, pids) if pids else {}
    for row in rows:
        if row["pid"] in usage:
            row |= usage[row["pid"]].as_json()
    return rows


async def look_below(rows: Sequence[dict[str, Any]], *, ports: bool, tree: bool) -> None:
    """Add what the trees of these processes listen on, and what they consist of, where somebody wants to see it."""
    pids = [row["pid"] for row in rows if row["pid"]]
    listening = await asyncio.to_thread(table.ports, pids) if ports and pids else {}
    below = await asyncio.to_thread(table.children, pids) if tree and pids else {}
    for row in rows:
        if ports:
            row["ports"] = list(listening.get(row["pid"], ()))
        if tree:
            row["children"] = [child.as_json() for child in below.get(row["pid"], ())]


def _shown(found: Conversation) -> bool:
    return found.agent is not None or found.busy or found.process_state in (ProcessState.FAILED, ProcessState.BACKOFF)


def log_text(ident: str, lines: int) -> Mapping[str, Any]:
    """The last lines that a process wrote to stderr. For a thread: reads the file only. Raises ProcessNotFound."""
    data, size = _log(ident, lambda size: max(0, size - _LOG_BYTES))
    text = "".join(data.decode("utf-8", "replace").splitlines(keepends=True)[-lines:])
    return {"process": ident, "path": str(paths.agent_log(ident)), "text": text, "size": size}


def log_after(ident: str, after: int) -> Mapping[str, Any]:
    """What stands behind a position; from the beginning of a file that was begun anew since. For a thread."""
    data, size = _log(ident, lambda size: after if after <= size else 0)
    return {"process": ident, "path": str(paths.agent_log(ident)), "text": data.decode("utf-8", "replace"), "size": size}


def _log(ident: str, begin: Callable[[int], int]) -> tuple[bytes, int]:
    """At most `_LOG_BYTES` from where `begin` says for the present size, and the position behind them."""
    try:
        with paths.agent_log(ident).open("rb") as file:
            at = begin(os.fstat(file.fileno()).st_size)
            file.seek(at)
            data = file.read(_LOG_BYTES)
            return data, at + len(data)
    except FileNotFoundError:
        return b"", 0
    except OSError as error:
        raise ProcessNotFound(f"the log of {ident} cannot be read", str(error), "opagent ps -a") from error


def file_text(path: str, part: str | None) -> Mapping[str, Any]:
    """A conversation's file as it stands, or a part beside it. For a thread. Raises FileRefused."""
    if part is not None and not (path := older(path, part)):
        return {"path": part, "text": None}
    try:
        return {"path": path, "text": files.read_file(path, _TEXT_BYTES).decode("utf-8", "replace")}
    except FileNotFoundError as error:
        raise FileRefused(f"{path} is gone", "", f"opagent conversations rebuild {shlex.quote(path)}") from error
    except OSError as error:
        raise FileRefused(f"{path} cannot be read", error.strerror or str(error), f"ls -l {shlex.quote(path)}") from error


def older(path: str, part: str) -> str:
    """The file of a part, in the directory of the conversation's own; empty for what is none."""
    found = os.path.join(os.path.dirname(path), part)
    return found if os.path.basename(part) == part and part.endswith(".md") and os.path.isfile(found) else ""
