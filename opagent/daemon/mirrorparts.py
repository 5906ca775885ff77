"""The older turns of a mirrored conversation, which its file links to: they come along, once; writes over nothing.

API: `fetch`. (Design: "The mirror".)
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from opagent.document import frontmatter
from opagent.document.delta import unpack
from opagent.document.parse import scan
from opagent.document.parts import part_of
from opagent.errors import FileRefused
from opagent.watch import exchange
from opagent.watch.changes import relevant
from opagent.watch.settled import locate

if TYPE_CHECKING:
    from opagent.daemon.mirrorfile import MirroredFile

LIMIT = 8 << 20  # bytes of one


async def fetch(file: MirroredFile, content: bytes) -> None:
    """The parts that the file, which holds `content`, links to. One that is here already stays as it is."""
    mirror = file.mirror
    for region in scan(content):
        name = part_of(region)
        path = Path(file.path).parent / name
        if not name or not relevant(name) or os.path.lexists(path):
            continue
        place = locate(mirror.directory, path)
        if not place.path.is_relative_to(mirror.folder):
            raise FileRefused(f"{path} leads out of {mirror.folder}")
        answer = await file.ask("document/part", {"part": name})
        part = unpack(answer.get("document"), None, LIMIT)
        if not frontmatter.get(part, "part") or frontmatter.is_conversation(part):
            raise FileRefused(f"{mirror.name} gives something else for {path}", "it is no part of a conversation")
        with mirror.room(len(part)):
            await exchange.create(place, part)
