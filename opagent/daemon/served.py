"""What a client service is asked for, as a question and as a record: commands, digests of files; does nothing of it."""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from opagent.acp.messages import as_dict, as_list, as_text
from opagent.acp.permission import Permission, read_permission
from opagent.daemon import recording
from opagent.daemon.effects import Act
from opagent.store.events import AuditKind
from opagent.watch import inventory

if TYPE_CHECKING:
    from opagent.daemon.agent import Agent
    from opagent.daemon.conversation import Conversation
    from opagent.daemon.services import Wanted

SHELL = ("/bin/sh", "-c")
_KINDS = {
    "fs/read_text_file": AuditKind.FS_READ, "fs/write_text_file": AuditKind.FS_WRITE, "terminal/create": AuditKind.EXEC_START,
}  # fmt: skip


def act(c: Conversation, agent: Agent, wanted: Wanted) -> Act:
    """For a thread: of what is to be written over it reads what stands there."""
    kind, params = _KINDS[wanted.request.method], wanted.request.params
    body: dict[str, Any] = {}
    if kind is AuditKind.EXEC_START:
        words = argv(params)
        obj: dict[str, Any] = {"argv": recording.digest(words), "words": len(words)}
        body = {"command": list(words), "cwd": as_text(params.get("cwd")) or c.workspace.path, "env": sorted(variables(params))}
    else:
        obj = {"path": os.path.join(c.workspace.path, wanted.place)}
        if kind is AuditKind.FS_WRITE:
            before, new = inventory.digest(c.workspace.path, wanted.place), content(params)
            obj |= {"before": before, "after": hashlib.sha256(new).hexdigest(), "size": len(new)}
    running = c.current
    return Act(
        kind, obj, body, wanted.decision, wanted.approval, c.record.id, running.turn.id if running else None, c.role, agent.id
    )


def content(params: dict[str, Any]) -> bytes:
    """Of a file that is to be written."""
    return as_text(params.get("content")).encode("utf-8", "replace")


def signal_name(number: int) -> str:
    """Its name; a real-time signal has none."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIG{number}"


def argv(params: dict[str, Any]) -> tuple[str, ...]:
    """The command and its arguments; a command line without arguments goes to the shell, as agents expect."""
    command, words = as_text(params.get("command")), [as_text(word) for word in as_list(params.get("args"))]
    if not command:
        raise ValueError("no command")
    return (command, *words) if words or not any(c.isspace() for c in command) else (*SHELL, command)


def variables(params: dict[str, Any]) -> dict[str, str]:
    """What the agent sets for a command; a person has seen it. Ours stay ours: by them the command ends with its agent."""
    pairs = [(as_text(as_dict(one).get("name")), as_text(as_dict(one).get("value"))) for one in as_list(params.get("env"))]
    return {name: value for name, value in pairs if name and not name.startswith("OPAGENT_") and "=" not in name}


def command(params: dict[str, Any]) -> Permission:
    """What a person is asked: the command with its arguments, and its directory and variables where the agent names them."""
    line, words = as_text(params.get("command")), [as_text(word) for word in as_list(params.get("args"))]
    more = {key: value for key, value in {"cwd": as_text(params.get("cwd")), "env": variables(params)}.items() if value}
    return permission("execute", {"command": [line, *words] if words else line, **more})


def permission(kind: str, raw: dict[str, Any], changes: Sequence[dict[str, str]] = ()) -> Permission:
    options = [
        {"optionId": "allow", "name": "Allow once", "kind": "allow_once"},
        {"optionId": "deny", "name": "Deny", "kind": "reject_once"},
    ]
    call = {"kind": kind, "rawInput": raw, "content": list(changes)}
    found = read_permission({"toolCall": call, "options": options}, {})
    assert found is not None
    return found
