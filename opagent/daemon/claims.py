"""What an agent says that it is going to do, in the words of the policy. A claim, never a fact; decides nothing."""

from __future__ import annotations

import os
import urllib.parse
from collections.abc import Iterator

from opagent.acp.messages import as_dict, as_text
from opagent.acp.permission import Permission
from opagent.policy import remembering

_WRITES = ("edit", "delete", "move")
Claim = tuple[str, str | tuple[str, ...]]  # kind and request, as `policy/decide.py` takes them


def of(permission: Permission, workspace: str) -> tuple[Claim, ...]:
    """All that it names; () where the policy has no word for it."""
    raw = as_dict(permission.tool_call.get("rawInput"))
    if permission.kind in _WRITES or permission.kind == "read":
        kind = "read" if permission.kind == "read" else "write"
        return tuple((kind, os.path.join(workspace, path)) for path in permission.paths)
    if permission.kind == "execute" and (command := raw.get("command")):
        return (("exec", remembering.words_of(command) or ("sh", "-c", str(command))),)
    return tuple(_hosts(as_text(raw.get("url")))) if permission.kind == "fetch" else ()


def _hosts(url: str) -> Iterator[Claim]:
    try:
        parts = urllib.parse.urlsplit(url)
        port = parts.port or (80 if parts.scheme == "http" else 443)
    except ValueError:
        return
    if parts.hostname:
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        yield "network", f"{host}:{port}"
