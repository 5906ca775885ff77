"""Rows of the record about an agent's life: the binding and rules it starts under, its session, its end. Writes none."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from opagent.daemon.effects import Act
from opagent.model import Approval, ApprovalState, Decision, Effect, ExitReport
from opagent.store.events import AuditKind, Draft

if TYPE_CHECKING:
    from opagent.daemon.agent import Agent
    from opagent.daemon.conversation import Conversation
    from opagent.daemon.workspace import Workspace
    from opagent.process.supervisor import Launch
    from opagent.store.processes import ProcessRecord

_ENDS = {ApprovalState.EXPIRED: AuditKind.APPROVAL_EXPIRE, ApprovalState.VOID: AuditKind.APPROVAL_VOID}
_SESSIONS = {True: AuditKind.SESSION_NEW, False: AuditKind.SESSION_LOAD}


def digest(value: Sequence[str]) -> str:
    """Of the words of a command."""
    return hashlib.sha256(json.dumps(list(value)).encode()).hexdigest()


def spawn(c: Conversation, agent: Agent, launch: Launch, role: str) -> Act:
    """The start of an agent. Its words are content; the head keeps their digest."""
    trust = f"trust: {c.workspace.trust.value}"
    decision = Decision(Effect.ALLOW, trust, c.workspace.path, agent.plan.enforcement)
    return Act(
        AuditKind.AGENT_SPAWN,
        obj={
            "path": os.path.realpath(launch.argv[0]),
            "argv": digest(launch.argv),
            "runtime": agent.role.runtime,
            "sandbox": agent.plan.level.value,
        },
        body={"command": list(launch.argv), "cwd": launch.cwd},
        decision=decision,
        conversation=c.record.id,
        agent=role,
        process=agent.id,
    )


def under(c: Conversation, workspace: Workspace) -> list[Draft]:
    """The binding and the rules that are in force when an agent starts."""
    chain = {file.path: hashlib.sha256(file.content).hexdigest() for file in workspace.loaded.chain}
    obj = {"path": workspace.path, "after": workspace.loaded.digest}
    body = {"files": chain, "trust": workspace.trust.value}
    who = {"agent": c.role}
    layers = [
        layer for layer in (*workspace.binding.capabilities.ceilings, *workspace.binding.capabilities.defaults) if layer.file
    ]
    policies = [Draft(AuditKind.POLICY_LOAD, who=who, facts={"obj": _file(layer.file, layer.name)}) for layer in layers]
    return [Draft(AuditKind.BINDING_RESOLVE, body=body, who=who, facts={"obj": obj}), *policies]


def _file(path: str, name: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            return {"path": path, "name": name, "after": hashlib.sha256(file.read(2**20)).hexdigest()}
    except OSError as error:
        return {"path": path, "name": name, "after": error.strerror}


def ready(c: Conversation, agent: Agent) -> list[Draft]:
    """The agent can be used, with which session."""
    who = {"agent": c.role, "process": agent.id}
    obj = {"session": agent.session, "runtime": agent.role.runtime}
    return [Draft(_SESSIONS[agent.fresh], who=who, facts={"obj": obj}), Draft(AuditKind.AGENT_READY, who=who)]


def exited(agent: Agent, role: str, report: ExitReport | None) -> list[Draft]:
    """The agent is gone, and its session is closed."""
    who = {"agent": role, "process": agent.id}
    closed = [Draft(AuditKind.SESSION_CLOSE, who=who, facts={"obj": {"session": agent.session}})] if agent.session else []
    obj = {"code": report.code, "signal": report.signal, "reason": report.reason} if report else {"reason": "never started"}
    return [*closed, Draft(AuditKind.AGENT_EXIT, who=who, facts={"obj": obj})]


def left(process: ProcessRecord) -> Draft:
    """One that ran when the last daemon ended; it was ended since."""
    who = {"agent": process.agent, "process": process.id}
    return Draft(AuditKind.AGENT_EXIT, who=who, facts={"obj": {"reason": "the daemon ended"}})


def approval_ended(approval: Approval) -> list[Draft]:
    """An end that no person chose."""
    kind = _ENDS.get(approval.state)
    if kind is None:
        return []
    facts = {
        "decision": {"approval": approval.id, "rule": approval.rule},
        **({"error": approval.reason} if approval.reason else {}),
    }
    return [Draft(kind, approval.turn, who={"process": approval.process}, facts=facts)]
