"""What an editor asks of `opagent acp`, request by request: sessions made, loaded, listed and ended; turns: `editorturns.py`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from opagent.acp import editor as agent
from opagent.acp import servers
from opagent.acp.connection import Asked
from opagent.acp.editor import ATTACH, INFO, PING
from opagent.acp.messages import Body, as_dict, as_list, as_text
from opagent.acp.shown import History
from opagent.cli.editorserver import Handler, Server
from opagent.cli.editorsession import Opening, Session
from opagent.cli.editorturns import TURNS
from opagent.cli.lines import Line
from opagent.errors import BY_CODE, AgentFailed, ConversationNotFound, NotTrusted, OpAgentError, SignInNeeded, Usage
from opagent.target import parse
from opagent.version import VERSION

if TYPE_CHECKING:
    from opagent.client import Client

_PAGE = 50  # rows of session/list
_RUNS = ("running", "waiting")


# ---- initialize, authenticate ----------------------------------------------------------------------------------------------


def initialize(server: Server, asked: Asked) -> None:
    """Answered whatever the daemon says: what is wrong is told when a session is asked for."""
    server.editor = agent.read_editor(asked.params)
    facts: dict[str, Any] = {}

    def work(client: Client) -> None:
        facts.update(as_dict(client.request("agent/facts", {"path": server.path or _here()}).get("session")))

    if not server.machine:
        server.line("").run(work, lambda error: None)
    server.answer(asked.id, agent.initialized(server.editor, facts))


def authenticate(server: Server, asked: Asked) -> None:
    """For a directory: whether it is trusted by now. Whether a person has signed in to the agent, its next session says."""
    if asked.params.get("methodId") == agent.SIGN_IN:
        server.answer(asked.id, {})
        return
    if asked.params.get("methodId") != agent.TRUST:
        raise Usage(f"no way to sign in is called {as_text(asked.params.get('methodId'))[:80]!r}")
    path = server.refused or server.path or _here()

    def work(client: Client) -> None:
        state = client.request("trust/show", {"path": path, "environment": client.environment()})["state"]
        if state not in ("allowed", "unneeded"):
            raise NotTrusted(f"{path} is not trusted", "", f"opagent trust {path}")
        server.answer(asked.id, {})

    server.line(server.machine).run(work, lambda error: server.fail(asked.id, error, path))


# ---- sessions --------------------------------------------------------------------------------------------------------------


def new(server: Server, asked: Asked) -> None:
    machine, path = server.where(asked.params)
    _join(server, asked, server.line(machine), path)


def _join(server: Server, asked: Asked, line: Line, path: str) -> None:
    def work(client: Client) -> None:
        said = {"path": path, "which": "new", "follow": True, "environment": client.environment()}
        answer = client.join(said | ({"agent": server.agent} if server.agent else {}))
        if "elsewhere" in answer:
            _lead(server, asked, line, str(answer["elsewhere"]))
            return
        session = Session(answer["conversation"], line, server.editor, server)
        session.new, session.cwd = True, as_text(asked.params.get("cwd"))
        server.sessions[session.id] = session
        opening = session.opening = Opening(asked.id, more={"sessionId": session.id, **_own(session, answer, asked)})
        opening.refusal = lambda sentence, body: _refused(server, session, sentence, body)
        opening.notices += [str(notice) for notice in as_list(as_dict(answer.get("workspace")).get("notices"))]
        opening.notices += _not_started(asked.params)
        _prepare(server, session, path)

    line.run(work, lambda error: server.fail(asked.id, error, path))


def _lead(server: Server, asked: Asked, line: Line, elsewhere: str) -> None:
    """The directory stands for one on another machine: one step, from here."""
    target = parse(elsewhere)
    if target is None or line.machine:
        raise Usage(f"the directory leads on to {elsewhere}", "no second step to a machine is taken", "opagent acp HOST:DIR")
    _join(server, asked, server.line(target.machine), target.path or "~")


def _prepare(server: Server, session: Session, path: str) -> None:
    """Start the agent: its session's facts belong into the answer."""
    opening = session.opening
    assert opening is not None

    def work(client: Client) -> None:
        answer = client.request("agent/prepare", {"conversation": session.id, "environment": client.environment()})
        if "session" in answer and opening.facts is None:
            opening.facts = as_dict(answer["session"])
        elif answer.get("state") in ("failed", "backoff"):
            session.down(answer)
        session.look()

    def failed(error: OpAgentError) -> None:
        if session.opening is not opening or opening.facts is not None:
            return
        if opening.refusal is None:
            session.down({"sentence": str(error)})
            session.look()
            return
        server.fail(opening.ident, error, path)
        server.drop(session)

    session.line.run(work, failed)


def _refused(server: Server, session: Session, sentence: str, body: Mapping[str, Any]) -> None:
    """The agent of a new session did not start."""
    assert session.opening is not None
    kind = BY_CODE.get(as_text(body.get("code")), AgentFailed)
    hint = as_text(body.get("hint")) or f"opagent logs {session.id}"
    error = (kind if kind in (SignInNeeded, NotTrusted) else AgentFailed)(sentence, "", hint)
    server.fail(session.opening.ident, error, "" if session.line.machine else session.workspace)
    server.drop(session)


def load(server: Server, asked: Asked) -> None:
    _open(server, asked, "full")


def resume(server: Server, asked: Asked) -> None:
    _open(server, asked, "pending_only")


def attach(server: Server, asked: Asked) -> None:
    history, role = asked.params.get("history", "full"), asked.params.get("role", "participant")
    if history not in ("full", "pending_only", "none") or role not in ("participant", "observer"):
        raise Usage("history is full, pending_only or none; role is participant or observer")
    _open(server, asked, history, {"sessionId": asked.params.get("sessionId"), "role": role})


def _open(server: Server, asked: Asked, history: str, more: Body | None = None) -> None:
    """A conversation that is there, with what was said in it, or from now on."""
    ident = as_text(asked.params.get("sessionId"))
    known = server.sessions.get(ident)
    if known is not None and known.opening is not None:
        raise Usage(f"the session {ident} is being opened")
    machine, path = (known.line.machine, "") if known is not None else server.where(asked.params, needed=False)
    line = server.line(machine)

    def work(client: Client) -> None:
        if not ident:
            raise ConversationNotFound("no session is named")
        found = _found(server, client, line, ident, path)
        if isinstance(found, str):
            target = parse(found)
            assert target is not None
            server.line(target.machine).run(lambda there: show(there, server.line(target.machine)), failed)
        else:
            show(client, line)

    def show(client: Client, of: Line) -> None:
        shown = client.request("conversation/show", {"conversation": ident, "limit": 0})
        if shown["conversation"]["id"] != ident:
            raise ConversationNotFound(f"there is no session {ident}", "", "opagent conversations")
        session = _session(server, shown, of, known)
        wanted = asked.params if asked.method == ATTACH else {}
        session.observes, session.events = wanted.get("role") == "observer", wanted.get("events") is True
        session.cwd = as_text(asked.params.get("cwd")) or session.workspace
        opening = session.opening = Opening(asked.id, more={**(more or {}), **_own(session, shown, asked)})
        opening.notices += _not_started(asked.params)
        if history == "full":
            opening.history = History(session.shown)
        else:
            session.shown.mine |= set(session.prompts)
        client.unsubscribe(ident)  # what is on its way from before would count as seen
        opening.until = client.subscribe(ident, 0 if history == "full" else None)
        if history == "pending_only":
            for approval in client.request("approval/list", {"conversation": ident})["approvals"]:
                session.waits(approval)
        _prepare(server, session, path)

    def failed(error: OpAgentError) -> None:
        server.fail(asked.id, error)

    line.run(work, failed)


def _session(server: Server, shown: Mapping[str, Any], line: Line, known: Session | None) -> Session:
    """With the turns that wait and run in it. Requests of one that was open before still wait for their turns."""
    session = Session(shown["conversation"], line, server.editor, server)
    for turn in shown["turns"]:
        if turn["state"] == "queued":
            session.shown.queued(turn["id"], turn)
        elif turn["state"] in _RUNS:
            session.shown.running = turn["id"]
    if known is not None:
        known.gone()
        session.prompts, session.cancelled, session.new = known.prompts, known.cancelled, known.new
    server.sessions[session.id] = session
    return session


def _found(server: Server, client: Client, line: Line, ident: str, path: str) -> str | None:
    """Where the conversation is, if not there: a directory here may stand for one on another machine."""
    if not path or line.machine or server.path:
        return None
    answer = client.request("conversation/where", {"path": path, "environment": client.environment()})
    return str(answer["elsewhere"]) if "elsewhere" in answer else None


def listing(server: Server, asked: Asked) -> None:
    cwd, cursor = as_text(asked.params.get("cwd")), as_text(asked.params.get("cursor")) or "0"
    if not cursor.isdecimal():
        raise Usage(f"{cursor[:40]!r} is no cursor of ours")
    machine, path = server.where(asked.params, needed=False)
    _list(server, asked, server.line(machine), path, (cwd, int(cursor)))


def _list(server: Server, asked: Asked, line: Line, path: str, said: tuple[str, int]) -> None:
    cwd, start = said

    def work(client: Client) -> None:
        about = {"path": path} if path else {"all": True}
        answer = client.request("conversation/list", {**about, "limit": start + _PAGE + 1, "environment": client.environment()})
        if "elsewhere" in answer:
            target = parse(str(answer["elsewhere"]))
            assert target is not None
            _list(server, asked, server.line(target.machine), target.path or "~", said)
            return
        found = [one for one in answer["conversations"] if one.get("state") != "closed"][start:]
        rows = [agent.listed(one, cwd) for one in found[:_PAGE]]
        server.answer(asked.id, {"sessions": rows} | ({"nextCursor": str(start + _PAGE)} if len(found) > _PAGE else {}))

    line.run(work, lambda error: server.fail(asked.id, error))


def close(server: Server, asked: Asked) -> None:
    """What this editor began in it is cancelled; what others did goes on."""
    session = server.known(asked.params)
    if session.prompts:
        server.cancel(session.id)
    for ident in session.prompts.values():
        server.answer(ident, {"stopReason": "cancelled"})
    session.prompts.clear()
    server.drop(session)
    server.answer(asked.id, {})


def delete(server: Server, asked: Asked) -> None:
    """It is archived: what runs in it is cancelled, it is not listed any more, its file stays."""
    ident = as_text(asked.params.get("sessionId"))
    session = server.sessions.get(ident)
    line = session.line if session is not None else server.line(server.where(asked.params, needed=False)[0])

    def work(client: Client) -> None:
        shown = client.request("conversation/show", {"conversation": ident, "limit": 0})
        if not ident or shown["conversation"]["id"] != ident:
            raise ConversationNotFound(f"there is no session {ident}", "", "opagent conversations")
        for turn in shown["turns"]:
            if turn["state"] in ("queued", *_RUNS):
                client.request("turn/cancel", {"conversation": ident, "turn": turn["id"]})
        client.request("conversation/archive", {"conversation": ident})
        server.answer(asked.id, {})

    line.run(work, lambda error: server.fail(asked.id, error))


# ---- methods of our own ------------------------------------------------------------------------------------------------------


def ping(server: Server, asked: Asked) -> None:
    def work(client: Client) -> None:
        said = client.greeting
        server.answer(asked.id, {"version": VERSION, "daemon": {"version": said.version, "host": said.host}})

    server.line(server.machine).run(work, lambda error: server.fail(asked.id, error))


def info(server: Server, asked: Asked) -> None:
    """What `opagent open` is told of a directory, or of that of a session."""
    session = server.sessions.get(as_text(asked.params.get("sessionId")))
    machine, path = (session.line.machine, session.workspace) if session is not None else server.where(asked.params)

    def work(client: Client) -> None:
        said = {"path": path, "environment": client.environment()}
        server.answer(asked.id, client.request("workspace/open", said) | {"machine": machine})

    server.line(machine).run(work, lambda error: server.fail(asked.id, error, path))


# ---- what they share ---------------------------------------------------------------------------------------------------------


def _here() -> str:
    return os.getcwd()


def _own(session: Session, answer: Mapping[str, Any], asked: Asked) -> Body:
    said: Body = {"path": session.path, "workspace": session.workspace, "agent": answer["conversation"].get("agent")}
    if session.line.machine:
        said["machine"] = session.line.machine
    if names := servers.named(asked.params):
        said["mcpServersNotStarted"] = names
    return {"_meta": {"opagent": said}}


def _not_started(params: Mapping[str, Any]) -> list[str]:
    """An editor's MCP servers run what an editor says, with an editor's rights: only the binding names tools."""
    if not (names := ", ".join(servers.named(params))):
        return []
    told, entries = "`tools:` in .agent.yaml names those of a directory", servers.tools(params)
    return [f"MCP servers of the editor are not started ({names})\n{told}" + (f"; as there:\n\n{entries}" if entries else "")]


HANDLERS: dict[str, Handler] = TURNS | {
    "initialize": initialize, "authenticate": authenticate, "session/new": new, "session/load": load, "session/resume": resume,
    "session/list": listing, "session/close": close, "session/delete": delete,
    PING: ping, INFO: info, ATTACH: attach,
}  # fmt: skip
