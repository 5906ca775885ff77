"""A person's word on a binding: what they are asked, and their answer in the table of trust and in the journal."""

from __future__ import annotations

import re
import shlex
from typing import Any

from opagent import paths
from opagent.binding import question, trust
from opagent.daemon.workspace import Workspace
from opagent.errors import NotTrusted
from opagent.model import Trust, TrustRecord
from opagent.store import trust as rows
from opagent.store.events import AuditKind, Draft, Journal, timestamp


def asked(workspace: Workspace) -> dict[str, Any]:
    """The question, and how it differs from what was trusted before."""
    shown = _exact(workspace, question.shown(workspace.loaded))
    said = {
        "path": workspace.path,
        "state": workspace.trust.value,
        "digest": workspace.loaded.digest,
        "question": [_exact(workspace, line) for line in question.lines(workspace.loaded)],
    }
    record = workspace.record
    if record is not None and record.shown and record.shown != shown:
        said["difference"] = "\n".join(trust.difference(record.shown, shown))
    return said


def _exact(workspace: Workspace, text: str) -> str:
    """With the state directory put in; the digest does without, or a directory could not share its parent's trust."""
    agent = workspace.loaded.binding.agent
    state = str(paths.agent_state(workspace.path, workspace.runtime_name(agent))) if agent else "{state}"
    return re.sub(r"'([^'\n]*)\{state\}([^'\n]*)'", lambda found: shlex.quote(found[1] + state + found[2]), text)


async def answer(workspace: Workspace, state: Trust, digest: str | None, uid: int, journal: Journal) -> dict[str, Any]:
    """Commit a yes or a no; for a yes the digest must be of what the person was shown. Raises NotTrusted."""
    path, present = workspace.path, workspace.loaded.digest
    if state is Trust.ALLOWED and workspace.loaded.facts.obstacle:
        raise NotTrusted(f"{path} cannot be trusted", workspace.loaded.facts.obstacle, f"opagent explain {shlex.quote(path)}")
    if state is Trust.ALLOWED and digest != present:
        raise NotTrusted(f"{path} changed while you looked", "", f"opagent trust {shlex.quote(path)}")
    shown = _exact(workspace, question.shown(workspace.loaded))
    record = TrustRecord(path, present, state, timestamp(), f"human:{uid}", shown)
    effect = "allow" if state is Trust.ALLOWED else "deny"
    facts = {"obj": {"path": path, "after": present}, "decision": {"effect": effect}, "state": "done"}
    audit = Draft(AuditKind.TRUST_GRANT, who={"human": uid}, facts=facts)
    await journal.append(None, [audit], barrier=True, also=lambda db: rows.put(db, record))
    return {"path": path, "state": state.value, "digest": present}


async def forget(path: str, uid: int, journal: Journal) -> None:
    """Take an answer back."""

    def change(db: Any) -> None:
        rows.remove(db, path)

    audit = Draft(AuditKind.TRUST_REVOKE, who={"human": uid}, facts={"obj": {"path": path}, "state": "done"})
    await journal.append(None, [audit], barrier=True, also=change)
