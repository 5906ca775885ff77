"""The files that a message names, as blocks of the prompt: links, and images where the agent takes them.

API: `attached(workspace, conversation_path, text, facts)`. Only what lies beneath the workspace, whatever links say; a rule
that denies reading counts. (Design: "Mentions".)
"""

from __future__ import annotations

import asyncio
import base64
import mimetypes
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from opagent import files
from opagent.acp.messages import AgentFacts, Body
from opagent.daemon import beneath
from opagent.document.mentions import Mention, mentions
from opagent.errors import FileRefused
from opagent.model import Effect

if TYPE_CHECKING:
    from opagent.daemon.workspace import Workspace

IMAGE_LIMIT = 5 * 2**20  # bytes
ALL_IMAGES = 20 * 2**20
_IMAGES = ("image/png", "image/jpeg", "image/gif", "image/webp")


@dataclass(slots=True)
class Attached:
    """Blocks for the prompt, and sentences about what was named and not attached."""

    blocks: list[Body] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


async def attached(workspace: Workspace, conversation_path: str, text: str, facts: AgentFacts) -> Attached:
    """What a message names. A path that does not exist is a part of the text and nothing else."""
    named = mentions(text)
    if not named:
        return Attached()
    return await asyncio.to_thread(_attach, workspace, os.path.dirname(conversation_path), named, facts)


def _attach(workspace: Workspace, folder: str, named: tuple[Mention, ...], facts: AgentFacts) -> Attached:
    found = Attached()
    room = ALL_IMAGES if facts.image else 0
    seen: set[str] = set()
    for mention in named:
        base = folder if mention.image else workspace.path
        path = next((path for path in mention.paths if _exists(os.path.join(base, path))), None)
        if path is None:
            continue
        try:
            relative = beneath.real_path(workspace.path, os.path.join(base, path), last=True)
        except ValueError:
            found.notes.append(f"{path} was not attached: it lies outside the directory")
            continue
        if relative in seen:
            continue
        seen.add(relative)
        decision = workspace.decide("read", relative)
        if decision.effect is Effect.DENY:
            found.notes.append(f"{relative} was not attached: reading it is denied by {decision.rule}")
            continue
        try:
            block = _block(workspace.path, relative, min(room, IMAGE_LIMIT))
        except (OSError, FileRefused) as error:
            found.notes.append(f"{relative} was not attached: {getattr(error, 'strerror', None) or error}")
            continue
        room -= len(block.get("data", "")) * 3 // 4
        found.blocks.append(block)
    return found


def _exists(path: str) -> bool:
    try:
        return os.path.lexists(path)
    except ValueError:  # a NUL
        return False


def _block(workspace: str, relative: str, room: int) -> Body:
    """A link, or the image itself where there is room for it. Raises OSError, FileRefused."""
    kind, _ = mimetypes.guess_type(relative)
    uri = Path(workspace, relative).as_uri()
    with files.directory(workspace) as top:
        fd = files.open_beneath(top, relative, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY, links=False)
        try:
            status = os.fstat(fd)
            regular = stat.S_ISREG(status.st_mode)
            if not regular and not stat.S_ISDIR(status.st_mode):
                raise FileRefused(f"{relative} is neither a file nor a directory")
            if regular and kind in _IMAGES and status.st_size <= room:
                data = base64.b64encode(files.read_regular(fd, room, relative)).decode()
                return {"type": "image", "data": data, "mimeType": kind, "uri": uri}
        finally:
            os.close(fd)
    link: Body = {"type": "resource_link", "name": relative, "uri": uri}
    return link | {key: value for key, value in (("mimeType", kind), ("size", status.st_size)) if regular and value is not None}
