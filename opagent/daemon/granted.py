"""A yes to an agent's own tool call: recorded before the agent hears it, and ended by what the agent reports of that call.

The effect happens in the agent's process: `done` and `failed` are its words, and what it says nothing more of is `unknown`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from opagent.acp.messages import as_text
from opagent.daemon.effects import Act
from opagent.store.effects import State
from opagent.store.events import AuditKind

if TYPE_CHECKING:
    from opagent.acp.permission import Permission
    from opagent.daemon.conversation import Conversation
    from opagent.daemon.turns import Running
    from opagent.model import Decision

_KINDS = {
    "read": AuditKind.FS_READ, "search": AuditKind.FS_READ, "edit": AuditKind.FS_WRITE, "delete": AuditKind.FS_WRITE,
    "move": AuditKind.FS_WRITE, "execute": AuditKind.EXEC_START, "fetch": AuditKind.NET_CONNECT,
}  # fmt: skip
_REPORTED = {"completed": State.DONE, "failed": State.FAILED}


async def grant(
    c: Conversation, running: Running, permission: Permission, decision: Decision, approval: str | None = None
) -> None:
    """Raises StoreFailed: then the agent must not hear it."""
    ident = as_text(permission.tool_call.get("toolCallId"))
    paths = [c.workspace.absolute(path) for path in permission.paths]
    act = Act(
        _KINDS.get(permission.kind, AuditKind.MCP_CALL),
        obj={**({"path": paths[0]} if paths else {}), "tool": permission.kind, "arguments": permission.digest},
        body={"command": permission.subject, **({"paths": paths} if len(paths) > 1 else {})},
        decision=decision,
        approval=approval,
        conversation=c.record.id,
        turn=running.turn.id,
        agent=c.role,
        process=c.agent.id if c.agent else None,
        call=ident,
    )
    running.granted.setdefault(ident, []).append((await c.shared.effects.begin(act), act))


async def reported(c: Conversation, running: Running) -> None:
    """The agent said how calls ended that it had a yes for."""
    for ident, status in running.reported:
        for seq, act in running.granted.pop(ident, ()):
            await c.shared.effects.end(seq, act, _REPORTED[status], {"reported": status})
    running.reported.clear()


async def unheard(c: Conversation, running: Running) -> None:
    """The turn ends, and nobody said how these calls did."""
    left = [each for granted in running.granted.values() for each in granted]
    running.granted.clear()
    for seq, act in left:
        await c.shared.effects.end(seq, act, State.UNKNOWN, error="the agent did not report how it ended")
    if left:
        named = "; ".join(act.sentence for _, act in left[:5])
        await c.note(f"The agent did not say how this ended: {named}", {"effects": [seq for seq, _ in left]})
