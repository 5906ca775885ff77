"""Where a directory leads whose binding says `host:`: the same place of the directory on the other machine. Dials nothing."""

from __future__ import annotations

import os
import posixpath
import shlex
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from opagent.binding import find
from opagent.daemon.workspace import Workspace
from opagent.errors import NotTrusted, OpAgentError
from opagent.model import Trust
from opagent.store.database import Database
from opagent.target import Target, parse


class Led(NamedTuple):
    """`there`: the same place on the other machine; `directory` here stands for `whole`."""

    there: Target
    directory: str
    whole: Target


def led(path: str, environment: Mapping[str, str] | None, database: Database) -> Led | None:
    """For a directory or file that stands for one on another machine, None for what is only here.

    Without the agent that a client asked for: it is one of there. Raises NotTrusted. What is wrong with a binding is said by
    whoever opens it here.
    """
    try:
        if not any(b"host" in file.content for file in find.chain(path, os.path.expanduser("~")).files):
            return None  # nearly always, and cheap
        workspace = Workspace.resolve(path, None, environment, database)
    except OpAgentError:
        return None
    return elsewhere(workspace)


def elsewhere(workspace: Workspace) -> Led | None:
    """Below the file that says `host:` both sides have the same directories. Raises NotTrusted."""
    binding = workspace.loaded.binding
    target = parse(binding.host) if binding.host else None
    if target is None:
        return None
    if not workspace.verdict.acts or not workspace.binding.host:
        state = "has changed since it was trusted" if workspace.trust is Trust.CHANGED else "is not trusted"
        why = f"it leads to {binding.host}, says {binding.origins['host']}"
        raise NotTrusted(f"{workspace.path} {state}", why, f"opagent trust {shlex.quote(workspace.path)}")
    base = os.path.dirname(binding.origins["host"].file)
    below = os.path.relpath(workspace.loaded.target, base)
    there = target if below == "." else replace(target, path=posixpath.join(target.path or "~", below))
    return Led(there, base, target)
