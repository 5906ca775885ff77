"""What people agreed to of the tools of MCP servers: the first look, each later one, a person's word; starts no server.

At the first start of a server in a directory its tools count as they are: the person who trusted the binding trusted its command.
From then on a tool that is new, or not as it was, stays hidden until a person says `opagent tools allow SERVER/TOOL`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from opagent.errors import Conflict, NotFound
from opagent.mcp import inventory
from opagent.mcp.inventory import Standing, State, Tool
from opagent.store import tools as rows
from opagent.store.events import AuditKind, Draft, timestamp
from opagent.store.tools import Row

if TYPE_CHECKING:
    from opagent.daemon.shared import Shared

GONE = "gone"  # the state of a tool that its server does not have any more


@dataclass(frozen=True, slots=True)
class Look:
    """`fresh`: what is hidden and was not so, or was otherwise, at the last look."""

    standing: tuple[Standing, ...]
    fresh: tuple[Standing, ...] = ()


async def look(shared: Shared, workspace: str, server: str, tools: Sequence[Tool]) -> Look:
    """How the tools stand that a server has now; kept, so that a person can see them. Raises StoreFailed."""
    known, first = shared.database.read(lambda db: (rows.listed(db, workspace, server), not rows.started(db, workspace, server)))
    found, changed = _compare(workspace, server, tools, known, first)
    if not first and not changed:
        return found

    def change(db: Any) -> Look:
        known, first = rows.listed(db, workspace, server), not rows.started(db, workspace, server)
        found, changed = _compare(workspace, server, tools, known, first)
        for row in changed:
            rows.put(db, row)
        rows.start(db, workspace, server, timestamp())
        obj = {"path": workspace, "name": server, "after": inventory.digest_of(tools)}
        body = {"tools": {row.name: row.state for row in changed}, "first": first}
        shared.journal.put(db, None, [Draft(AuditKind.MCP_TOOLS_CHANGED, body=body, facts={"obj": obj})])
        return found

    return await shared.database.write(change, barrier=True)


def _compare(workspace: str, server: str, tools: Sequence[Tool], known: Sequence[Row], first: bool) -> tuple[Look, list[Row]]:
    """And the rows that are others now."""
    before = {row.name: row for row in known}
    agreed = None if first else {row.name: row.agreed for row in known if row.agreed}
    standing = inventory.standing(tools, agreed)
    changed = []
    for each in standing:
        tool, row = each.tool, before.get(each.tool.name)
        now = row or Row(workspace, server, tool.name, "", "", "", "", "", timestamp())
        now = replace(now, seen=tool.digest, now=tool.content, state=each.state.value)
        if first and each.state is State.ALLOWED:
            now = replace(now, agreed=tool.digest, content=tool.content)
        if now != row:
            changed.append(now)
    names = {tool.name for tool in tools}
    gone = [replace(row, seen="", now="", state=GONE) for row in known if row.name not in names and row.seen]
    other = {row.name for row in changed}
    fresh = tuple(each for each in standing if each.state is not State.ALLOWED and each.tool.name in other)
    return Look(standing, fresh), [*changed, *gone]


async def allow(shared: Shared, workspace: str, server: str, wanted: dict[str, str], by: str) -> list[Row]:
    """A person agrees to tools as they saw them: `wanted` is name -> digest. Raises NotFound, Conflict, StoreFailed."""

    def change(db: Any) -> list[Row]:
        known = {row.name: row for row in rows.listed(db, workspace, server)}
        agreed = [_agreed(known.get(name), f"{server}/{name}", digest, by) for name, digest in wanted.items()]
        for row in agreed:
            rows.put(db, row)
        obj = {"path": workspace, "name": server}
        body = {"tools": {row.name: row.seen for row in agreed}, "allowed": True}
        shared.journal.put(db, None, [Draft(AuditKind.MCP_TOOLS_CHANGED, body=body, who={"human": by}, facts={"obj": obj})])
        return agreed

    return await shared.database.write(change, barrier=True)


def _agreed(row: Row | None, what: str, digest: str, by: str) -> Row:
    if row is None or not row.seen:
        raise NotFound(f"there is no tool {what} here", "its server was not started yet, or does not have it", "opagent tools")
    if row.seen != digest:
        raise Conflict(f"{what} changed while you looked", "", "opagent tools")
    return replace(row, agreed=row.seen, content=row.now, state=State.ALLOWED.value, at=timestamp(), by=by)


async def forget(shared: Shared, workspace: str, server: str | None, by: str) -> int:
    """The next start of the server counts as its first. The number of servers."""

    def change(db: Any) -> int:
        obj = {"path": workspace, **({"name": server} if server else {})}
        shared.journal.put(
            db, None, [Draft(AuditKind.MCP_TOOLS_CHANGED, body={"forgotten": True}, who={"human": by}, facts={"obj": obj})]
        )
        return rows.forget(db, workspace, server)

    return await shared.database.write(change, barrier=True)
