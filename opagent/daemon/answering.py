"""The methods about questions: what waits, the answer of a person, what was remembered, and why something was done."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from opagent import control
from opagent.daemon import fleet, reports, why, whychange
from opagent.daemon.asking import SCOPES, Said
from opagent.daemon.params import Params, maybe, placed, text
from opagent.daemon.server import Client
from opagent.errors import Usage
from opagent.model import Approval
from opagent.process import proc
from opagent.store import approvals as approval_rows
from opagent.store import conversations as conversation_rows
from opagent.store import remembered as remembered_rows
from opagent.store.remembered import Remembered

if TYPE_CHECKING:
    from opagent.daemon.host import Host

Result = Mapping[str, Any]
_LOGGED = ("same", "wider", "offers", "content", "call")


async def approval_list(host: Host, client: Client, params: Params) -> Result:
    word = maybe(params, "conversation")
    ident = host.database.read(lambda db: conversation_rows.find(db, word)).id if word else None
    found = host.database.read(lambda db: approval_rows.listed(db, ident, decided=bool(params.get("all"))))
    here = [_told(host, approval) | reports.where(host, approval.conversation) for approval in found]
    if not params.get("hosts"):
        return {"approvals": here}
    return {"approvals": [row | {"host": None} for row in here] + await fleet.approvals(host, client, params)}


def _told(host: Host, approval: Approval) -> dict[str, Any]:
    """While it waits, with what is offered, shown and may be remembered, as whoever was asked live knows it."""
    logged = host.shared.approvals.logged(approval.id) or {}
    return control.approval_json(approval) | {key: logged[key] for key in _LOGGED if key in logged}


async def approval_answer(host: Host, client: Client, params: Params) -> Result:
    allow, scope = params.get("allow"), maybe(params, "scope") or "once"
    if not isinstance(allow, bool) or scope not in SCOPES:
        raise Usage(f"allow must be true or false, scope one of {', '.join(SCOPES)}")
    host.refuse_agents(client)
    said = Said(
        allow, f"human:{client.uid}", client.name or "cli", maybe(params, "reason"), scope, params.get("wider") is True,
        maybe(params, "answer") or "", who(client),
    )  # fmt: skip
    approval = await host.shared.approvals.answer(text(params, "approval"), said)
    kept = [each for each in host.database.read(lambda db: remembered_rows.listed(db)) if each.approval == approval.id]
    said_too = {"remembered": [remembered_json(each) for each in kept]} if kept else {}
    return control.approval_json(approval) | reports.where(host, approval.conversation) | said_too


def who(client: Client) -> dict[str, Any]:
    """Who sits at the other end of a connection, as the kernel says; what the program calls itself is its own word."""
    return {"uid": client.uid, "pid": client.pid, "tty": proc.terminal(client.pid), "client": client.name}


async def approval_remembered(host: Host, client: Client, params: Params) -> Result:
    path = maybe(params, "path")
    place = reports.workspace_path(host, placed(path)) if path else None
    found = host.database.read(lambda db: remembered_rows.listed(db, place))
    return {"remembered": [remembered_json(each) for each in found]}


async def approval_forget(host: Host, client: Client, params: Params) -> Result:
    host.refuse_agents(client)
    idents = params.get("remembered")
    if not isinstance(idents, list) or not all(isinstance(each, str) for each in idents):
        raise Usage("remembered must be a list of ids")
    gone = await host.shared.approvals.forget(idents, f"human:{client.uid}")
    return {"forgotten": [remembered_json(each) for each in gone]}


def remembered_json(answer: Remembered) -> dict[str, Any]:
    return {
        "id": answer.id, "effect": answer.effect.word, "kind": answer.kind, "pattern": answer.shown, "agent": answer.agent,
        "scope": "conversation" if answer.conversation else "binding", "conversation": answer.conversation,
        "workspace": answer.workspace, "approval": answer.approval, "at": answer.at, "by": answer.by,
    }  # fmt: skip


async def audit_why(host: Host, client: Client, params: Params) -> Result:
    return why.told(host.shared, text(params, "id"), whychange.change, whychange.call).as_json()


METHODS: dict[str, Callable[[Host, Client, Params], Awaitable[Result]]] = {
    "approval/list": approval_list, "approval/find": fleet.find, "approval/answer": approval_answer,
    "approval/remembered": approval_remembered, "approval/forget": approval_forget, "audit/why": audit_why,
}  # fmt: skip
