"""Who can write a conversation file, and so for whom its ticks and gestures speak; reads owners, modes and the user's
configuration, never the file's own words.

API: `rights(workspace, path) -> Rights`, `now(conversation) -> Rights`, `strangers(directory, path)`, `Rights`, `Writer`.

(Design: "Approvals and questions in the file" (e), "When a gesture counts" 2.)
"""

from __future__ import annotations

import enum
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from opagent import files
from opagent.daemon import confinement
from opagent.errors import OpAgentError
from opagent.process.pins import beneath
from opagent.process.profile import Level

if TYPE_CHECKING:
    from opagent.daemon.conversation import Conversation
    from opagent.daemon.workspace import Workspace

_ACCESS_LIST = "system.posix_acl_access"


class Writer(enum.Enum):
    """Who may have written what stands in the file."""

    PERSON = "person"  # nobody but the user: a tick is an answer
    AGENTS = "agents"  # an agent that runs too: a message is sent, as from `file`; a tick does not count
    OTHERS = "others"  # somebody else too: nothing in it counts


@dataclass(frozen=True, slots=True)
class Rights:
    writer: Writer
    reason: str = ""  # a sentence, where it is not the person alone

    @property
    def ticks(self) -> bool:
        return self.writer is Writer.PERSON

    @property
    def sends(self) -> bool:
        return self.writer is not Writer.OTHERS

    @property
    def author(self) -> str:
        """Of a message that was found in the file."""
        return f"human:{os.getuid()}" if self.ticks else "file"


def rights(workspace: Workspace, path: str, confined: bool) -> Rights:
    """For the file of a conversation, and all directories from the workspace down to it. `confined`: no agent can write it."""
    if problem := strangers(workspace.path, path):
        return Rights(Writer.OTHERS, problem)
    if not confined and not _accepted_unsandboxed(workspace):
        return Rights(Writer.AGENTS, "no sandbox keeps agents from writing this file")
    return Rights(Writer.PERSON)


def strangers(directory: str, path: str) -> str:
    """Why somebody else may have written a file, or empty; judged with all directories from `directory` down to it."""
    for place in _places(os.path.realpath(directory), os.path.realpath(path)):
        try:
            problem = files.owner_problem(place, os.stat(place)) or _listed(place)
        except OSError as error:
            problem = f"{place}: {error.strerror}"
        if problem:
            return problem
    return ""


def now(conversation: Conversation) -> Rights:
    """With the user's configuration as it is at this moment."""
    try:
        workspace = conversation.shared.look_again(conversation.record)
    except OpAgentError as error:
        return Rights(Writer.OTHERS, str(error))
    return rights(workspace, conversation.record.path, not agents_write(conversation, workspace))


def agents_write(conversation: Conversation, workspace: Workspace) -> bool:
    """Whether an agent that runs anywhere can write the file, or the one that would be started for it could."""
    path, running = os.path.realpath(conversation.record.path), conversation.shared.running
    if confinement.writes(((agent.plan, agent.box) for agent in running), path):
        return True
    try:
        strict = confinement.plan(workspace, conversation.role).level is Level.STRICT
    except OpAgentError:
        return False  # none can be started
    folder = os.path.realpath(os.path.join(workspace.path, workspace.binding.conversations))
    return not (strict and beneath(os.path.dirname(path), folder))


def _accepted_unsandboxed(workspace: Workspace) -> bool:
    """A binding cannot say so: there the key is a load error."""
    return workspace.binding.approvals.get("in_file") == "unsandboxed"


def _places(workspace: str, path: str) -> Iterator[str]:
    yield path
    while path != workspace and path != os.path.dirname(path):
        path = os.path.dirname(path)
        yield path


def _listed(place: str) -> str | None:
    """An access list may let anybody write; what the mode says of the group is its mask then."""
    try:
        found = os.listxattr(place)
    except OSError:  # a file system without attributes has no such lists
        return None
    return f"{place} has an access list" if _ACCESS_LIST in found else None
