"""The kill matrix of security.md as a table: 17 steps of a turn, 7 victims, and why a cell cannot be run. It runs nothing."""

from __future__ import annotations

from typing import Any

import pytest

STEPS = {
    "K0": "before spawn",
    "K1": "spawned",
    "K2": "initialize sent",
    "K3": "initialize answered",
    "K4": "session/new sent",
    "K5": "session id known",
    "K6": "prompt queued and acknowledged",
    "K7": "prompt sent",
    "K8": "mid stream",
    "K9": "tool call pending",
    "K10": "approval shown",
    "K11": "answer committed, not sent",
    "K12a": "effect pending, not done",
    "K12b": "effect done, not recorded",
    "K13": "stop reason read, not journaled",
    "K14": "conversation file half written",
    "K15": "shutting down",
}
VICTIMS = ("agent", "daemon", "remote daemon", "SSH link", "client", "MCP server", "proxy")
EXPECTED = {
    "agent": "before the prompt was sent the turn runs, once; after that it is `interrupted`, its questions are void",
    "daemon": "nothing acknowledged is lost, nothing runs twice, agents are gone, the next command starts another",
    "remote daemon": "as the daemon, there; the client here gets every event once",
    "SSH link": "the agent works on; the client gets every event once",
    "client": "nothing changes; another one gets every event from its cursor on",
    "MCP server": "a call that had begun fails clearly and is not made again; the next one starts the same program, its tools are compared",
    "proxy": "requests fail closed; it is there again; nothing gets past it; the turn goes on",
}
UNDISTURBED = ("client", "SSH link", "MCP server", "proxy")  # a turn goes on without them


def not_run(step: str, victim: str) -> str:
    """Why a cell cannot be run; empty when it can."""
    if victim == "MCP server" and list(STEPS).index(step) < list(STEPS).index("K6"):
        return "an agent starts a server of tools when it has a session"
    if step in ("K12a", "K12b") and victim in ("remote daemon", "SSH link"):
        return "the agent there, echo, asks for no effects"
    if step == "K0" and victim in ("agent", "proxy"):
        return f"before the spawn there is no {victim} to kill"
    return ""


def cells(*victims: str) -> list[Any]:
    """The cells of these victims as parameters of a test; what cannot be run is skipped with its reason."""
    found = []
    for victim in victims:
        for step in STEPS:
            why = not_run(step, victim)
            marks = [pytest.mark.skip(reason=why)] if why else []
            found.append(pytest.param(step, victim, id=f"{step}-{victim}", marks=marks))
    return found


def state(step: str, victim: str) -> tuple[str, ...]:
    """How the turn may end (security.md): from the moment its prompt was sent it is never sent again by itself."""
    place = list(STEPS).index(step)
    if step == "K15":
        return ("cancelled", "interrupted")
    if victim in UNDISTURBED or place <= list(STEPS).index("K6") or step == "K14":
        return ("done",)
    if step == "K13":
        return ("done",) if victim == "agent" else ("interrupted",)
    return ("interrupted",)
