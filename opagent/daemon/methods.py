"""The methods of the control protocol: each reads its parameters, asks the host, gives JSON; the list is in `control.METHODS`."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from opagent import control, paths
from opagent.binding import making
from opagent.daemon import (
    admitting,
    answering,
    arriving,
    attended,
    auditing,
    callmethods,
    doctor,
    editing,
    explain,
    fleet,
    forks,
    importing,
    inbox,
    joining,
    leading,
    leaving,
    machines,
    mirroring,
    packaging,
    proving,
    reckoning,
    reports,
    toolshown,
    trusting,
)
from opagent.daemon.params import Params, environment, maybe, number, place, placed, text, wanted
from opagent.daemon.server import Client
from opagent.daemon.workspace import Workspace
from opagent.errors import Conflict, ConversationNotFound, NotTrusted, Usage
from opagent.model import Trust, Turn, TurnId
from opagent.store import audit
from opagent.store import conversations as conversation_rows
from opagent.store import trust as trust_rows
from opagent.store import turns as turn_rows
from opagent.store.events import AuditKind, Draft

if TYPE_CHECKING:
    from opagent.daemon.conversation import Conversation
    from opagent.daemon.host import Host

_TURNS, _TEXT = 1000, 4000  # the newest turns, and how much of each prompt, that `conversation/show` gives
Result = Mapping[str, Any]


# ---- daemon ------------------------------------------------------------------------------------------------------------


async def daemon_status(host: Host, client: Client, params: Params) -> Result:
    return {
        "pid": os.getpid(), "version": host.greeting().version, "protocol": control.PROTOCOL, "started": host.started,
        "code": paths.code(), "runs": leaving.doing(host), "leaves": host.leaving.when_idle,
        "socket": str(paths.socket()), "database": str(paths.database()),
        "clients": host.shared.attended.others(host.server.clients), **host.counts(),
    }  # fmt: skip


async def daemon_stop(host: Host, client: Client, params: Params) -> Result:
    when = params.get("when", "now")
    if when == "idle":
        host.leaving.once_idle()
    elif when == "now":
        host.leaving.now()
    else:
        raise Usage("when must be now or idle")
    return {"stopping": True}


async def daemon_doctor(host: Host, client: Client, params: Params) -> Result:
    return {"checks": await doctor.checks(host)}


# ---- workspaces, binding, trust ------------------------------------------------------------------------------------------


async def _resolved(host: Host, params: Params) -> Workspace:
    path = place(params, "path")
    return Workspace.resolve(path, maybe(params, "agent"), await host.environment(environment(params), path), host.database)


async def workspace_open(host: Host, client: Client, params: Params) -> Result:
    path, agent = place(params, "path"), maybe(params, "agent")
    workspace = await host.workspace(path, agent, await host.environment(environment(params), path))
    if agent is None and os.path.isfile(path):
        agent = (await host.found(path)).record.agent
    workspace.require_trust(agent)
    return host.opened(workspace, agent)


async def workspace_join(host: Host, client: Client, params: Params) -> Result:
    return await joining.join(host, client, params)


async def workspace_list(host: Host, client: Client, params: Params) -> Result:
    return {"workspaces": [reports.workspace(host, workspace) for workspace in host.workspaces.values()]}


async def binding_explain(host: Host, client: Client, params: Params) -> Result:
    workspace = await _resolved(host, params)
    return await asyncio.to_thread(
        explain.explained, workspace, maybe(params, "agent")
    )  # it may try the sandbox, and looks around


async def binding_decide(host: Host, client: Client, params: Params) -> Result:
    workspace = await _resolved(host, params)
    asked = text(params, "kind"), text(params, "request")
    spelled = admitting.spelled(host.database, asked[1]) if asked[0] == "agents" else ()
    return await asyncio.to_thread(explain.decided, workspace, maybe(params, "agent"), *asked, spelled)


async def binding_create(host: Host, client: Client, params: Params) -> Result:
    host.refuse_agents(client)
    path, shipped = place(params, "path"), maybe(params, "template")
    if shipped is not None:
        return {"binding": await asyncio.to_thread(making.copy, path, shipped)}
    return {"binding": await asyncio.to_thread(making.create, path, maybe(params, "agent"))}


async def trust_show(host: Host, client: Client, params: Params) -> Result:
    # the person's PATH: which program a runtime means is a part of what they say yes to
    asked = trusting.asked(await _resolved(host, params))
    obj = {"path": asked["path"], "after": asked["digest"]}
    host.shared.record(Draft(AuditKind.TRUST_ASK, who={"human": client.uid}, facts={"obj": obj}))
    return asked


async def trust_grant(host: Host, client: Client, params: Params) -> Result:
    return await _trust(host, client, params, Trust.ALLOWED)


async def trust_deny(host: Host, client: Client, params: Params) -> Result:
    return await _trust(host, client, params, Trust.DENIED)


async def _trust(host: Host, client: Client, params: Params, state: Trust) -> Result:
    host.refuse_agents(client)
    workspace = await _resolved(host, params)
    return await trusting.answer(workspace, state, maybe(params, "digest"), client.uid, host.journal)


async def trust_revoke(host: Host, client: Client, params: Params) -> Result:
    host.refuse_agents(client)
    path = os.path.realpath(place(params, "path"))
    known = host.database.read(lambda db: trust_rows.get(db, path)) is not None
    await trusting.forget(path, client.uid, host.journal)
    return {"path": path, "state": "unknown", "removed": known}


async def trust_list(host: Host, client: Client, params: Params) -> Result:
    records = host.database.read(lambda db: trust_rows.listed(db))
    return {"records": [{"path": r.path, "digest": r.digest, "state": r.state.value, "at": r.at, "by": r.by} for r in records]}


# ---- conversations -------------------------------------------------------------------------------------------------------


async def conversation_list(host: Host, client: Client, params: Params) -> Result:
    path = maybe(params, "path")
    with contextlib.suppress(NotTrusted):  # then it leads nowhere yet, and what is here can be seen
        if path is not None and (there := leading.led(host, placed(path), environment(params))) is not None:
            return {"elsewhere": str(there.there)}
    workspace = None if params.get("all") or path is None else reports.workspace_path(host, placed(path))
    records = host.database.read(lambda db: conversation_rows.listed(db, workspace, limit=number(params, "limit", 200)))
    shown = [record for record in records if workspace is None or record.state == "open"]  # not those that are archived
    return {"conversations": [reports.conversation(host, record) for record in shown]}


async def conversation_create(host: Host, client: Client, params: Params) -> Result:
    there = leading.led(host, place(params, "path"), environment(params))
    if there is not None:
        return {"elsewhere": str(there.there)}
    path = place(params, "path")
    workspace = await host.workspace(path, maybe(params, "agent"), await host.environment(environment(params), path))
    workspace.require_trust(maybe(params, "agent"))
    conversation = await host.create(workspace, maybe(params, "agent"), maybe(params, "title") or "")
    return control.conversation_json(conversation.record)


async def conversation_show(host: Host, client: Client, params: Params) -> Result:
    word = wanted(params)
    if os.path.isfile(word):
        record = (await host.found(word)).record
    else:  # the log can be read whatever became of the directory
        record = host.database.read(lambda db: conversation_rows.find(db, word))
    newest = min(number(params, "turns", _TURNS), _TURNS)
    turns = host.database.read(lambda db: turn_rows.newest(db, record.id, newest))
    after, limit = number(params, "after", 0), min(number(params, "limit", 1000), 5000)
    events, more = reports.page(host, record.id, after, limit)
    return {
        "conversation": reports.conversation(host, record),
        "turns": [control.turn_json(replace(turn, text=turn.text[:_TEXT])) for turn in turns],
        "events": events,
        "more": more,
    }


async def conversation_text(host: Host, client: Client, params: Params) -> Result:
    record = (await host.found(wanted(params))).record
    return await asyncio.to_thread(reports.file_text, record.path, maybe(params, "part"))


async def conversation_rebuild(host: Host, client: Client, params: Params) -> Result:
    conversation = await host.found(wanted(params))
    if host.database.read(lambda db: audit.was_purged(db, conversation.record.id)):
        why = "contents of its log were purged: a file made from it would lack what yours still holds"
        raise Conflict(f"{conversation.record.id} cannot be rebuilt", why, "opagent audit list --kind audit.purge")
    done: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
    conversation.post(inbox.Project(anew=True, done=done))  # the consumer may be writing this very file
    saved = await done
    return {"conversation": control.conversation_json(conversation.record), "saved": saved}


async def conversation_fork(host: Host, client: Client, params: Params) -> Result:
    conversation = await host.found(wanted(params))
    return control.conversation_json(await forks.fork(host, conversation.record, maybe(params, "turn")))


async def conversation_import(host: Host, client: Client, params: Params) -> Result:
    host.refuse_agents(client)
    source, agent, path = place(params, "source"), maybe(params, "agent"), place(params, "path")
    workspace = await host.workspace(path, agent, await host.environment(environment(params), path))
    name, origin = maybe(params, "name") or os.path.basename(source), maybe(params, "origin") or source
    taken = await importing.take(host, workspace, source, agent, os.path.basename(name), origin)
    return {"conversation": control.conversation_json(taken.record), "merged": taken.merged, "clashes": list(taken.clashes)}


# ---- turns ---------------------------------------------------------------------------------------------------------------


async def turn_start(host: Host, client: Client, params: Params) -> Result:
    conversation = await host.found(wanted(params))
    if maybe(params, "text") is None:
        return await _start_draft(host, client, params, conversation)
    words = joining.said(params)
    workspace = conversation.record.workspace
    host.remember(workspace, await host.environment(environment(params), workspace))  # nobody waits longer
    turn, place = await conversation.enqueue(joining.prompt(conversation, client, params, words))
    return {"turn": control.turn_json(turn), "place": place}


async def _start_draft(host: Host, client: Client, params: Params, conversation: Conversation) -> Result:
    """The draft that stands in the file."""
    host.refuse_agents(client)
    workspace = conversation.record.workspace
    host.remember(workspace, await host.environment(environment(params), workspace))
    done: asyncio.Future[Turn] = asyncio.get_running_loop().create_future()
    place = len(conversation.ahead())
    prompt = joining.prompt(conversation, client, params, "")
    conversation.post(inbox.SendDraft(prompt, bool(params.get("steer")), done))
    return {"turn": control.turn_json(await done), "place": place}


async def turn_cancel(host: Host, client: Client, params: Params) -> Result:
    conversation = await host.found(wanted(params))
    done: asyncio.Future[TurnId] = asyncio.get_running_loop().create_future()
    word = maybe(params, "turn")
    conversation.post(inbox.Cancel(TurnId(word) if word else None, "cancelled", done))
    ident = await done
    return {"turn": ident, "state": "cancelling"}


async def turn_steer(host: Host, client: Client, params: Params) -> Result:
    """Cancel what runs and begin with what was said."""
    conversation = await host.found(wanted(params))
    running = conversation.current.turn.id if conversation.current is not None else None
    turn, _ = await conversation.enqueue(joining.prompt(conversation, client, params, text(params, "text")))
    if running is not None and running != turn.id:  # asked again after a lost connection, it must not cancel itself
        conversation.promote(turn.id)
        conversation.post(inbox.Cancel(running, "steered"))
    return {"turn": control.turn_json(turn), "how": "restarted" if running is not None else "started"}


async def queue_list(host: Host, client: Client, params: Params) -> Result:
    return reports.queue(await host.found(wanted(params)))


async def queue_remove(host: Host, client: Client, params: Params) -> Result:
    word = text(params, "turn")
    for conversation in host.conversations.values():
        for turn in conversation.queue:
            if turn.id == word or turn.message == word:
                done: asyncio.Future[TurnId] = asyncio.get_running_loop().create_future()
                conversation.post(inbox.Cancel(turn.id, "removed", done))
                return {"turn": await done, "state": "cancelled"}
    raise ConversationNotFound(f"no queued turn {word!r}", hint="opagent conversations queue")


# ---- events --------------------------------------------------------------------------------------------------------------


async def events_subscribe(host: Host, client: Client, params: Params) -> Result:
    topic = wanted(params)
    if host.database.problem is not None:
        raise host.database.problem
    if topic != "*":
        record = host.database.read(lambda db: conversation_rows.find(db, topic))
        topic = record.id
        host.remember(record.workspace, environment(params))  # a turn that an earlier daemon left may wait for just that
    after = params.get("after", 0)
    return {"conversation": topic, "after": await host.server.subscribe(client, topic, after if isinstance(after, int) else None)}


async def events_unsubscribe(host: Host, client: Client, params: Params) -> Result:
    client.subscriptions.pop(wanted(params), None)
    return {}


# ---- processes -----------------------------------------------------------------------------------------------------------


async def process_list(host: Host, client: Client, params: Params) -> Result:
    rows = await reports.processes(host, bool(params.get("all")))
    await reports.look_below(rows, ports=bool(params.get("ports")), tree=bool(params.get("tree")))
    if not params.get("hosts"):
        return {"processes": rows}
    others = await fleet.processes(host, client, params)
    return {"processes": [row | {"host": None} for row in rows] + others["processes"], "hosts": others["hosts"]}


async def process_stop(host: Host, client: Client, params: Params) -> Result:
    return await _process(host, params, again=False)


async def process_restart(host: Host, client: Client, params: Params) -> Result:
    return await _process(host, params, again=True)


async def _process(host: Host, params: Params, again: bool) -> Result:
    conversation = host.by_process(wanted(params, "process"))
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    conversation.post(inbox.StopAgent(again=again, force=bool(params.get("force")), done=done))
    await done
    return reports.process(host, conversation)


async def process_logs(host: Host, client: Client, params: Params) -> Result:
    ident, after = host.log_of(wanted(params, "process")), params.get("after")
    if after is not None:
        return await asyncio.to_thread(reports.log_after, ident, number(params, "after", 0))
    return await asyncio.to_thread(reports.log_text, ident, number(params, "lines", 200))


# ---- other machines ------------------------------------------------------------------------------------------------------


async def link_open(host: Host, client: Client, params: Params) -> Result:
    host.refuse_agents(client)
    return await host.links.open(client, params)


async def question_answer(host: Host, client: Client, params: Params) -> Result:
    host.refuse_agents(client)
    answer = params.get("answer")
    host.links.answer(text(params, "question"), answer if isinstance(answer, str) else None, client)
    return {}


_MODULES = (answering, arriving, attended, auditing, callmethods, editing, machines, mirroring, packaging, reckoning, toolshown)
_ELSEWHERE = {name: method for module in _MODULES for name, method in module.METHODS.items()}  # what they have
METHODS: dict[str, Callable[[Host, Client, Params], Awaitable[Result]]] = _ELSEWHERE | {
    "daemon/status": daemon_status, "daemon/stop": daemon_stop, "daemon/doctor": daemon_doctor,
    "workspace/open": workspace_open, "workspace/join": workspace_join, "workspace/list": workspace_list,
    "binding/explain": binding_explain, "binding/decide": binding_decide, "binding/create": binding_create,
    "runtime/probe": proving.runtime_probe,
    "trust/show": trust_show, "trust/grant": trust_grant, "trust/deny": trust_deny,
    "trust/revoke": trust_revoke, "trust/list": trust_list,
    "conversation/list": conversation_list, "conversation/create": conversation_create,
    "conversation/show": conversation_show, "conversation/rebuild": conversation_rebuild,
    "conversation/text": conversation_text, "conversation/fork": conversation_fork, "conversation/import": conversation_import,
    "turn/start": turn_start, "turn/cancel": turn_cancel, "turn/steer": turn_steer,
    "queue/list": queue_list, "queue/remove": queue_remove,
    "events/subscribe": events_subscribe, "events/unsubscribe": events_unsubscribe,
    "process/list": process_list, "process/stop": process_stop, "process/restart": process_restart,
    "process/logs": process_logs, "link/open": link_open, "question/answer": question_answer,
}  # fmt: skip
