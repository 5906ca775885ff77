"""What an agent may ask of us, each as one function: by a tool of MCP or by a command, the arguments and results are the same.

    result = await verbs.perform(Asker(host, conversation, process), "agent_call", {"to": "writer", "prompt": "..."})

Names and schemas are those of `mcp/tools.py`. Nothing else can be asked for on an agent's own connection.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opagent import paths
from opagent.acp import elicitation
from opagent.daemon import admitting, calling, notes, wanting
from opagent.daemon.admitting import KIND
from opagent.daemon.asking import Question
from opagent.daemon.calling import Wanted
from opagent.daemon.calltree import Call, End
from opagent.daemon.effects import Act
from opagent.daemon.inbox import Tells
from opagent.errors import Denied, OpAgentError, Usage
from opagent.model import QUESTION, ApprovalState, Decision, Effect, Kind, ProcessId
from opagent.policy import rules
from opagent.policy.decide import FLOOR, decide
from opagent.store.events import AuditKind, Draft

if TYPE_CHECKING:
    from opagent.daemon.conversation import Conversation
    from opagent.daemon.host import Host

_STATUS = 200  # characters
_LISTED = 50  # directories that one rule may name
Result = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Asker:
    """An agent that asks."""

    host: Host
    conversation: Conversation
    process: ProcessId


async def perform(asker: Asker, name: str, arguments: Mapping[str, Any]) -> Result:
    """Raises OpAgentError; KeyError for a name that is none."""
    return await _VERBS[name](asker, arguments)


# ---- agents --------------------------------------------------------------------------------------------------------------


async def _list(asker: Asker, arguments: Mapping[str, Any]) -> Result:
    c = asker.conversation
    found = [_shown(c, role, _about(c, role)) for role in sorted(c.workspace.binding.roles) if role != c.role]
    return {"agents": [*found, *await asyncio.to_thread(_directories, c)]}


def _shown(c: Conversation, to: str, about: str, request: str | tuple[str, ...] = "") -> dict[str, str]:
    decision = c.workspace.decide(KIND, request or to)
    return {"to": to, "about": about, "effect": decision.effect.word}


def _about(c: Conversation, role: str) -> str:
    try:
        spec = c.workspace.runtime(role)
    except OpAgentError as error:
        return str(error)
    return f"{spec.about} ({spec.name})" if spec.name != role else spec.about


def _directories(c: Conversation) -> list[dict[str, str]]:
    """Those that the rules speak of and that have a binding. For a thread."""
    capabilities = c.workspace.binding.capabilities
    found: dict[str, dict[str, str]] = {}
    for layer in (*capabilities.defaults, *capabilities.chain):
        said = layer.kinds.get(KIND)
        for pattern in (*said.allow, *said.ask) if said is not None else ():
            if rules.is_elsewhere(pattern) and not set(pattern) & set("*?{"):
                names = admitting.spelled(c.shared.database, pattern)
                found[names[0]] = _shown(c, names[0], "the agent of a directory on another machine", names)
            if not rules.is_directory(pattern) or pattern.startswith(("!", "/", "~")) or rules.is_elsewhere(pattern):
                continue
            for place in sorted(Path(layer.base).glob(pattern.rstrip("/")))[:_LISTED]:
                path = os.path.realpath(place)
                if path != c.workspace.path and os.path.isfile(os.path.join(path, paths.BINDING)):
                    to = os.path.relpath(path, c.workspace.path)
                    to = to if to.startswith(".") else f"./{to}"
                    found[path] = _shown(c, to, f"the agent of the directory {os.path.basename(path)}", path)
    return list(found.values())


async def _call(asker: Asker, arguments: Mapping[str, Any]) -> Result:
    call = _begin(asker, arguments)
    if arguments.get("wait") is False:
        return call.as_json()
    try:
        await asyncio.shield(call.over)
    except asyncio.CancelledError:
        asker.host.calls.stop(call, End.CANCELLED, "the caller does not want the answer any more")
        raise
    return call.as_json()


async def _send(asker: Asker, arguments: Mapping[str, Any]) -> Result:
    return _begin(asker, arguments).as_json()


def _begin(asker: Asker, arguments: Mapping[str, Any]) -> Call:
    prompt = str(arguments["prompt"])
    if not prompt.strip():
        raise Usage("the prompt is empty", "", "opagent call TO PROMPT")
    within = float(arguments.get("timeout") or calling.LONGEST)
    if within <= 0:
        raise Usage("timeout must be more than 0 seconds", "", "opagent call --timeout 60s TO PROMPT")
    wanted = Wanted(str(arguments["to"]).strip(), prompt, within, str(arguments.get("conversation") or ""))
    return asker.host.calls.begin(asker.conversation, wanted)


async def _result(asker: Asker, arguments: Mapping[str, Any]) -> Result:
    call = asker.host.calls.find(str(arguments["call"]), asker.conversation.record.id)
    return await outcome(call, arguments.get("timeout"))


async def outcome(call: Call, within: Any) -> Result:
    """How a call stands once it is over, or after so many seconds."""
    seconds = float(within) if within is not None else calling.LONGEST
    if not call.over.done():
        await asyncio.wait([call.over], timeout=max(0.0, min(seconds, calling.LONGEST)))
    return call.as_json()


# ---- the person ------------------------------------------------------------------------------------------------------------


async def _ask(asker: Asker, arguments: Mapping[str, Any]) -> Result:
    question, offered = str(arguments["question"]).strip(), list(dict.fromkeys(map(str, arguments.get("options") or ())))
    if not question or len(offered) > elicitation.MOST_OPTIONS:
        raise Usage("that is no question", f"a text, and at most {elicitation.MOST_OPTIONS} options")
    options = tuple({"id": str(number), "name": name[:200], "kind": "answer"} for number, name in enumerate(offered, 1))
    digest = hashlib.sha256(json.dumps([question, offered]).encode()).hexdigest()
    decision = Decision(Effect.ASK, "a question of the agent", "agent", "proxy")
    asked = Question(QUESTION, question[: elicitation.MESSAGE_LIMIT], digest, options, decision)
    answer = await wanting.person(asker.conversation, asked)
    if isinstance(answer, str):
        return {"answered": False, "why": answer}
    if answer.state is not ApprovalState.ALLOWED:
        return {"answered": False, "why": f"{answer.state.value} by {answer.answered_by}: {answer.reason or 'no reason given'}"}
    chosen = next((each["name"] for each in options if each["id"] == answer.answer), answer.answer or "")
    return {"answered": True, "answer": chosen}


async def _status(asker: Asker, arguments: Mapping[str, Any]) -> Result:
    c = asker.conversation
    line = c.redaction.hide(" ".join(str(arguments["text"]).split()))[:_STATUS]
    if c.current is None or not line:
        raise Usage("there is nothing to show", "a line, while a turn runs")
    c.sentence = line
    body = {"state": c.process_state.value, "sentence": line, "process": asker.process}
    c.post(Tells(c.current.turn.id, (Draft(Kind.AGENT_STATE, c.current.turn.id, body),)))
    return {"shown": line}


# ---- notes -----------------------------------------------------------------------------------------------------------------


async def _read(asker: Asker, arguments: Mapping[str, Any]) -> Result:
    workspace = asker.conversation.workspace
    if not arguments.get("path"):
        return {"notes": await asyncio.to_thread(notes.listed, workspace)}
    return await asyncio.to_thread(notes.read, workspace, str(arguments["path"]))


async def _write(asker: Asker, arguments: Mapping[str, Any]) -> Result:
    c, text = asker.conversation, asker.conversation.redaction.hide(str(arguments["text"]))
    name = notes.named(str(arguments["path"]))
    decision = _may_write(c, name)
    content = text.encode("utf-8", "replace")
    path = f"{c.workspace.path}/{notes.FOLDER}/{name}"
    obj = {"path": path, "after": hashlib.sha256(content).hexdigest(), "size": len(content)}
    turn = c.current.turn.id if c.current is not None else None
    act = Act(AuditKind.FS_WRITE, obj, {}, decision, None, c.record.id, turn, c.role, asker.process)
    if decision.effect is not Effect.ALLOW:
        await c.shared.effects.denied(act, f"denied by {decision.rule}")
        raise Denied(f"the note {name} may not be written", f"denied by {decision.rule}", "opagent explain")
    async with c.shared.effects.of(act):
        return await asyncio.to_thread(notes.write, c.workspace, name, text)


def _may_write(c: Conversation, name: str) -> Decision:
    """By the rules for writing but the floor's: what it keeps agents from is writing there without us."""
    capabilities = c.workspace.binding.capabilities
    without = tuple(replace(each, ceilings=_unfloored(each.ceilings), within=()) for each in (capabilities, *capabilities.within))
    found = decide(replace(without[0], within=without[1:]), "write", f"{notes.FOLDER}/{name}")
    return replace(found, enforcement="proxy")


def _unfloored(layers: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(each for each in layers if each.name != FLOOR)


_VERBS: Mapping[str, Callable[[Asker, Mapping[str, Any]], Awaitable[Result]]] = {
    "agent_list": _list, "agent_call": _call, "agent_send": _send, "agent_result": _result, "ask_person": _ask,
    "notes_read": _read, "notes_write": _write, "turn_status": _status,
}  # fmt: skip
