"""The protocol between clients and the daemon: versions, methods, events and errors in their JSON form. Pure.

JSON-RPC 2.0, one message a line, on a Unix socket. The daemon speaks first (`greeting`), the client answers with the
request `hello`; both sides then know the version they share. `METHODS` is the whole list; docs/reference is made from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from opagent.errors import OpAgentError, ProtocolMismatch, from_json

if TYPE_CHECKING:  # importing it takes a sixth of the time of a short command, and only events need it
    from opagent.model import Approval, Conversation, Event, Turn

PROTOCOL = 2  # what this code speaks
OLDEST, NEWEST = PROTOCOL - 1, PROTOCOL + 1  # what it understands of others
FRAME_LIMIT = 16 * 2**20
OPEN_REQUESTS = 64  # per client
UNREAD_LIMIT = 8 * 2**20  # bytes of events a client may leave unread before it is told `lagging`

ERROR = -32000  # JSON-RPC code of every OpAgentError; `data` says the rest
METHOD_NOT_FOUND, INVALID_PARAMS = -32601, -32602

# method -> (params, result). A `?` marks what may be missing. "process" objects: {id, pid, conversation, workspace, agent,
# runtime, state, since, uptime, turn?, memory?, cpu?, waiting_for?, restarts, sentence?, ports?, children?}.
METHODS: dict[str, tuple[str, str]] = {
    "hello": ("client, version, protocol, pid", "protocol, daemon, boot, host"),
    "daemon/status": (
        "",
        "pid, version, protocol, started, code, runs: [{conversation, workspace, agent, state}], leaves, socket, database, "
        "clients, processes, conversations, running",
    ),
    "daemon/stop": ("when?: now|idle", "stopping (the reply comes before the end; idle: nothing runs, waits or is asked)"),
    "daemon/doctor": ("", "checks: [{name, ok: true|false|null, sentence, hint?}]"),
    "runtime/run": ("command: list|info|install|upgrade|rollback|pin|remove|bundle, given (its options)", "result, told: [text]"),
    "workspace/open": (
        "path, agent?, environment?",
        "workspace, focus?, agent, role, runtime, argv, conversations, trust, level, enforcement, notices: [text]",
    ),
    "workspace/join": (
        "path, conversation?, which?: new|last|last_or_new, agent?, title?, text?, guest? (takes this turn), request?, follow?, "
        "environment?",
        "workspace, conversation, turn?, place?, after? (then `event` notifications), or elsewhere (HOST:DIR), conversation?",
    ),
    "workspace/list": ("", "workspaces: [{workspace, agent, conversations, processes}]"),
    "binding/explain": ("path, agent?, environment?", "workspace, agent, values, capabilities, launch, trust, chain, notices"),
    "binding/decide": (
        "path, kind, request, agent?, environment?",
        "workspace, kind, request, effect, by_rule?, rule, enforcement, reason, layers: [{layer, effect|null, rule, counts}]",
    ),
    "runtime/probe": ("name, environment?", "the record of what the runtime was seen to do, can: {need: bool}, lines, seconds"),
    "binding/create": ("path, agent?, template?", "binding (the file that was written)"),
    "trust/show": ("path, agent?, environment?", "path, state, digest, question: [lines], difference?"),
    "trust/grant": ("path, digest, agent?, environment?", "path, state"),
    "trust/deny": ("path", "path, state"),
    "trust/revoke": ("path", "path, state"),
    "trust/list": ("", "records: [{path, digest, state, at}]"),
    "tool/list": (
        "path, environment?",
        "workspace, trust, servers: [{name, bound, started, origin, command?, url?, problem?, running: "
        "[process], tools: [{name, state: "
        "allowed|new|changed|invisible|gone|denied, effect, rule, enforcement, digest, agreed, by, at, description, "
        "difference?}], reads: [{name, effect, rule, enforcement}]}]",
    ),
    "tool/allow": ("path, tools: {server: {tool: digest}}, environment?", "workspace, allowed: [server/tool]"),
    "tool/forget": ("path, server?, environment?", "workspace, forgotten (servers)"),
    "conversation/list": (
        "path?, all?, limit?, environment?",
        "conversations: [conversation + {turns, state, updated, exists, problem?, not_sent?}], or elsewhere (HOST:DIR)",
    ),
    "conversation/create": ("path, agent?, title?, environment?", "conversation, or elsewhere (HOST:DIR)"),
    "conversation/show": ("conversation, path?, after?, limit?, turns?", "conversation, turns (the newest 1000), events, more"),
    "conversation/text": (
        "conversation, part? (the name of a file beside it that holds older turns)",
        "path, text (at most 4 MiB; null: there is no such part)",
    ),
    "conversation/where": (
        "path (a directory or a conversation's file), environment?",
        "nothing; of what stands for something on another machine elsewhere (HOST:DIR), of a file also conversation (its id)",
    ),
    "conversation/name": ("conversation, title (where it has none)", "title"),
    "conversation/image": (
        "conversation, type, data (base64)",
        "path (of the file that keeps it, from that of the conversation)",
    ),
    "conversation/archive": (
        "conversation, empty? (only if nobody said anything in it, and nobody else follows it)",
        "archived, removed (its file, in which nothing stood), path",
    ),
    "agent/prepare": (
        "conversation, environment?",
        "state, sentence, session? (what it says of itself; else it comes as an event `agent_state`)",
    ),
    "agent/set": (
        "conversation, method: session/set_mode|session/set_model|session/set_config_option, params, request",
        "nothing; an event `agent_state` with `set`, the request, says what the agent made of it",
    ),
    "agent/facts": ("path", "session? (what the directory's agent said of itself when it was last started)"),
    "conversation/fork": ("conversation, turn?", "conversation"),
    "conversation/import": (
        "path, source (a conversation's file), name?, origin?, agent?, environment?",
        "conversation, merged, clashes: [id]",
    ),
    "conversation/rebuild": ("conversation, path?", "conversation, saved?"),
    "document/list": (
        "path",
        "workspace, documents: [{conversation, path (below the directory of conversations), digest (null: gone), size}]",
    ),
    "document/read": ("conversation, base? (a digest)", "conversation, document: {digest, size, from?, head?, tail?, data}"),
    "document/save": (
        "conversation, document (of a mirror, from: base), base (its digest), based? (the whole base), brought?",
        "known (false: send it again with the base), document (from: the save), problem? (not taken)",
    ),
    "document/create": (
        "path, conversation (an id, drawn), name, document, brought?",
        "conversation, path, made (by this request)",
    ),
    "document/part": ("conversation, part (as a summary of the file names it)", "conversation, document"),
    "document/watch": ("path", "workspace; then `document` notifications {conversation, path, digest}"),
    "mirror/open": ("directory, machine, path (there), conversations?", "directory, folder"),
    "mirror/close": ("directory", "closed (the files stay), waiting (files whose last save is not there)"),
    "mirror/settle": ("path (a conversation's file in a mirror)", "nothing, once what was saved in it is on the other machine"),
    "mirror/list": (
        "",
        "mirrors: [{directory, machine, path, connected, files, waiting: [path], problems: [{path, problem}]}]",
    ),
    "call/start": (
        "path (a directory), to (a role of it, or a directory seen from it), prompt, timeout? (s), environment?",
        "call, outcome: running, agent, or elsewhere (HOST:DIR)",
    ),
    "call/result": (
        "call, within? (s; then `running` is the answer)",
        "call, outcome: running|answer|refused|failed|cancelled|timed_out|budget, text?, reason?, hint?, usage?, agent?, "
        "conversation?, turn?, file?, machine? (on which those are), waits_for? (an approval)",
    ),
    "call/stop": ("call", "as call/result"),
    "call/across": (
        "path, prompt, by: {key, conversation, turn, trace, machine?}, chain: [{host, workspace, role}], rules: [object], "
        "strict, timeout? (s), grace? (s without the caller), alive? (asked again while it waits), "
        "on? (a conversation of an earlier call), budget?: [{metric, most, origin}], again? (then path, by, chain do)",
        "as call/result, at once, with used {metric: amount} where there is a budget; then `call` notifications with the same",
    ),
    "notes/read": ("path (a directory), note? (a name), environment?", "path, directory, text; without a name notes: [note]"),
    "notes/write": ("path (a directory), note, text, environment?", "path, directory, size"),
    "turn/start": (
        "conversation, text? (without: the draft of its file), request, agent?, steer?, environment?",
        "turn, place (0: starts now)",
    ),
    "turn/cancel": ("conversation, turn?", "turn, state"),
    "turn/steer": ("conversation, text, request, agent?", "turn, how: injected|restarted|started"),
    "queue/list": (
        "conversation",
        "turns, draft? {since, place, text} or {refused} (the file's draft, which waits or does not count)",
    ),
    "queue/remove": ("turn", "turn, state"),
    "events/subscribe": (
        'conversation or "*", after (null: from now on), environment?',
        "after (the last seq); then `event` notifications",
    ),
    "events/unsubscribe": ('conversation or "*"', ""),
    "audit/query": (
        "conversation?, agent?, kinds?: [kind or fs.*], path?, state?, since?, until? (times, UTC), after? (a number: forwards), "
        "limit?, exact? (as stored, all of it)",
        "records: [what the head says + {body (null: purged), link}], more, last (the end of the journal), host",
    ),
    "audit/verify": (
        "heads?: [texts that hold SEQ:LINK]",
        "rows, purged, head (SEQ:LINK), heads (the chain's own), compared, sealed, broken (null: whole), row (the bad one), host",
    ),
    "audit/head": ("seq?", "host, seq, link (of the last row), at_seq (the link of the row asked for; null: there is none)"),
    "audit/backup": ("path (of a file that is not there; on that machine)", "path, size (bytes), host"),
    "audit/purge": ("conversation, before? (a time, UTC)", "conversation, path, purged (rows)"),
    "approval/list": ("all?, conversation?, hosts? (of connected machines too)", "approvals (with hosts: each with host|null)"),
    "approval/find": ("approval (or its beginning)", "hosts: [name] (connected ones where it waits)"),
    "approval/answer": (
        "approval, allow: true|false, reason?, scope?: once|conversation|binding, wider? (one step), answer?",
        "approval, remembered?: [as of approval/remembered]",
    ),
    "approval/remembered": (
        "path? (of one directory)",
        "remembered: [{id, effect, kind, pattern, agent, scope: conversation|binding, conversation, workspace, approval, at, "
        "by}]",
    ),
    "approval/forget": ("remembered: [id]", "forgotten: [remembered]"),
    "person/attend": (
        "lends?: {name: host:port} (secrets that this client's machine gives, for those hosts)",
        "then a `waits` notification for each question, and `secret` {id, name, host, port, agent, workspace}",
    ),
    "person/secret": ("id (of what was asked), value? or why?", ""),
    "audit/why": (
        "id (of an approval, a remembered answer, a call, a record), or a path",
        "id, kind: approval|remembered|effect, state, title, steps: [{at, what, text, there? {host or machine, call}}]",
    ),
    "usage/list": (
        "by?: agent|dir|host|day|model|conversation, since? (a time), hosts?, dial?, within?",
        "usage: [{name, turns, wall (s), tool_calls, tokens, cost, currency, reported_*, metered_*, estimated, doubtful, last}], "
        "hosts?: [{name, answered, seen, why?}]",
    ),
    "budget/show": (
        "path or conversation, agent?, environment?",
        "workspace, per, limits: [{metric, per, scope, window, limit, raised, used, running, reserved, left, unit, enforcement, "
        "origin, reported?, metered?, question?}]",
    ),
    "budget/raise": ("path or conversation, amounts: {metric: text}, agent?, environment?", "as budget/show"),
    "link/open": (
        "machine, again? (it was lost: wait, and start what is missing), asks? (somebody answers questions), "
        "agent? (socket of an ssh-agent), config? (an ssh_config)",
        "machine, socket (of the daemon there), state, since, why?",
    ),
    "question/answer": ("question, answer? (without: nobody answers)", ""),
    "host/list": ("", "hosts: [{name, target, settings, identity, transport, seen, state, since?, why?, facts}]"),
    "host/add": (
        "name, target?, transport?, command? [words], python? (a path there, auto, or the absolute path of an archive here)",
        "host, note?",
    ),
    "host/check": ("machine, asks?, agent?, config?", "steps: [{name, ok: true|false|null, sentence, hint?}]"),
    "host/upgrade": ("machine, now?, asks?, agent?, config?", "report"),
    "host/forget": ("machine, purge?, force?, asks?, agent?, config?", "forgotten, report?"),
    "process/list": (
        "all?, ports?, tree?, hosts? (the known machines are asked too), dial? (false: only connected ones), within? (ms)",
        "processes (with hosts: each with host|null, and stale, a time, where it is of the last answer; of one that was called "
        "called_by {host|null, conversation, turn, call}; of one that calls elsewhere calls), "
        "hosts?: [{name, answered, seen, why?}]",
    ),
    "process/stop": ("process, force?", "process"),
    "process/restart": ("process", "process"),
    "process/logs": ("process, lines? or after? (a position in the file)", "process, path, text, size (where to go on)"),
}

# Notifications while `link/open` is not answered: `link` {machine, phase, text, done, total} and `question`
# {id, kind, text, secret}.
# Notifications of the daemon: `event` {event fields}; `lagging` {conversation, seq}: too much was left unread, subscribe again
# after the last seq that arrived.


@dataclass(frozen=True, slots=True)
class Greeting:
    """The daemon's first line, before it has heard anything."""

    version: str
    protocol: tuple[int, int]
    host: str
    daemon: int  # pid
    boot: str

    def as_json(self) -> dict[str, Any]:
        body = {
            "version": self.version,
            "protocol": list(self.protocol),
            "host": self.host,
            "daemon": self.daemon,
            "boot": self.boot,
        }
        return {"opagent": body}


def greeting(message: Mapping[str, Any]) -> Greeting:
    """Reads the daemon's first line. Raises ProtocolMismatch when it is not one."""
    body = message.get("opagent")
    if not isinstance(body, dict) or not isinstance(body.get("protocol"), list) or len(body["protocol"]) != 2:
        raise ProtocolMismatch("what listens on the socket is no OpAgent daemon", hint="opagent daemon status")
    low, high = (int(number) for number in body["protocol"])
    return Greeting(
        str(body.get("version", "")),
        (low, high),
        str(body.get("host", "")),
        int(body.get("daemon", 0)),
        str(body.get("boot", "")),
    )


def shared_version(low: int, high: int, ours: int = PROTOCOL) -> int:
    """The version to speak with a peer that understands low..high. Raises ProtocolMismatch."""
    if low <= ours <= high:
        return ours
    if high in (ours - 1, ours + 1) or low in (ours - 1, ours + 1):
        return min(high, ours)
    older = high < ours
    who = "the daemon" if older else "this client"
    raise ProtocolMismatch(
        f"{who} is too old for the other side",
        f"protocol {low} to {high} there, {ours} here",
        "opagent daemon stop" if older else "upgrade opagent",
    )


def event_json(event: Event) -> dict[str, Any]:
    """The JSON form of an event, as it is sent, printed by `--json` and kept."""
    return {
        "conversation": event.conversation,
        "seq": event.seq,
        "journal": event.journal,
        "turn": event.turn,
        "kind": str(event.kind),
        "at": event.at,
        "body": dict(event.body),
    }


def event_from_json(data: Mapping[str, Any], encoded: bytes = b"") -> Event:
    """Reads `event_json`; a kind that a newer daemon knows arrives as a note. Raises ProtocolMismatch for what is no event.

    `encoded`: its body as JSON, where that is at hand.
    """
    from opagent.model import ConversationId, Event, Kind, TurnId

    try:
        seq, journal, body = int(data["seq"]), int(data["journal"]), data["body"]
        conversation, at, said = str(data["conversation"]), str(data["at"]), str(data["kind"])
    except (KeyError, TypeError, ValueError) as error:
        raise ProtocolMismatch("the daemon sent an event that is none", str(error)[:200], "opagent daemon status") from error
    if not isinstance(body, dict):
        raise ProtocolMismatch("the daemon sent an event that is none", "it has no body", "opagent daemon status")
    kind = Kind(said) if said in Kind._value2member_map_ else Kind.NOTE
    turn = TurnId(str(data["turn"])) if data.get("turn") else None
    return Event(ConversationId(conversation), seq, journal, turn, kind, at, body, encoded)


def conversation_json(conversation: Conversation) -> dict[str, Any]:
    return {
        "id": conversation.id,
        "workspace": conversation.workspace,
        "path": conversation.path,
        "agent": conversation.agent,
        "title": conversation.title,
        "created": conversation.created,
        "state": conversation.state,
    }


def turn_json(turn: Turn) -> dict[str, Any]:
    return {
        "id": turn.id,
        "message": turn.message,
        "conversation": turn.conversation,
        "author": turn.author,
        "text": turn.text,
        "state": turn.state.value,
        "queued_at": turn.queued_at,
        "ended_at": turn.ended_at,
        "reason": turn.reason,
        "usage": dict(turn.usage),
        **({"agent": turn.agent} if turn.agent else {}),
    }


def approval_json(approval: Approval) -> dict[str, Any]:
    return {
        "id": approval.id,
        "conversation": approval.conversation,
        "turn": approval.turn,
        "process": approval.process,
        "kind": approval.kind,
        "subject": approval.subject,
        "options": [dict(option) for option in approval.options],
        "asked_at": approval.asked_at,
        "expires_at": approval.expires_at,
        "state": approval.state.value,
        "answer": approval.answer,
        "answered_by": approval.answered_by,
        "answered_at": approval.answered_at,
        "reason": approval.reason,
        "rule": approval.rule,
    }


def error_json(error: OpAgentError) -> dict[str, Any]:
    """The JSON-RPC error object of one of our errors."""
    return {"code": ERROR, "message": str(error), "data": error.as_json()}


def error_from_json(data: Mapping[str, Any]) -> OpAgentError:
    """The error behind a JSON-RPC error object, also one of a newer daemon."""
    details = data.get("data")
    if isinstance(details, dict) and "code" in details:
        return from_json(details)
    return OpAgentError(str(data.get("message", "the daemon refused")))
