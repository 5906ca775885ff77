"""Where a directory leads whose binding says `host:`, or that is a mirror: the same place on the other machine. Dials nothing."""

from __future__ import annotations

import os
import posixpath
import shlex
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from opagent.binding import find
from opagent.daemon import whereabouts
from opagent.daemon.workspace import Workspace
from opagent.errors import ConversationNotFound, NotTrusted, OpAgentError
from opagent.model import Trust
from opagent.store.database import Database
from opagent.target import Target, machine, parse

if TYPE_CHECKING:
    from opagent.daemon.host import Host


class Led(NamedTuple):
    """`there`: the same place on the other machine; `directory` here stands for `whole`."""

    there: Target
    directory: str
    whole: Target


def led(host: Host, path: str, environment: Mapping[str, str] | None) -> Led | None:
    """For a directory or file that stands for one on another machine, None for what is only here. Raises NotTrusted.

    A mirror was made by a person who named both of its sides: it needs no trust.
    """
    found = _by_binding(path, environment, host.database)
    if found is None and (mirror := host.mirrors.of(path)) is not None:
        whole = replace(machine(mirror.machine), path=mirror.path)
        found = Led(_below(whole, mirror.directory, os.path.realpath(path)), mirror.directory, whole)
    return found


def conversation(there: Led, path: str) -> str:
    """The id of the conversation whose file here is `path`: names may differ, ids do not. Raises ConversationNotFound."""
    ident = whereabouts.ident_of(path)
    if not ident:
        why = f"its front matter names none; in {there.directory} it becomes one of {there.whole} when it ends with /send"
        raise ConversationNotFound(f"{path} is no conversation yet", why, f"opagent open {there.whole}")
    return ident


def _by_binding(path: str, environment: Mapping[str, str] | None, database: Database) -> Led | None:
    """Without the agent that a client asked for: it is one of there. What is wrong with it is said by who opens it here."""
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
    return Led(_below(target, base, workspace.loaded.target), base, target)


def _below(target: Target, base: str, path: str) -> Target:
    below = os.path.relpath(path, base)
    return target if below == "." else replace(target, path=posixpath.join(target.path or "~", below))
