"""Where a conversation file went that is no longer at its path: identity is the id in the file, not the name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from opagent.document import frontmatter
from opagent.model import Conversation

LOOKED_AT = 5000  # files
_HEAD = 4096  # bytes: the front matter of a file that we wrote


def moved_to(directory: str, ident: str) -> str | None:
    """The file below `directory` that holds the conversation `ident`, None when there is none or more than one."""
    found = [path for path in _candidates(directory) if ident_of(path) == ident]
    return found[0] if len(found) == 1 else None


def holds(path: str, record: Conversation) -> bool:
    """Whether a file is the one of a conversation: it stands there, and nobody wrote another id into it."""
    return os.path.realpath(path) == os.path.realpath(record.path) and ident_of(path) in ("", record.id)


def known(directory: str) -> dict[str, str]:
    """Every conversation below `directory`, and its file; not those that have several. Opens each file, so it is for a thread."""
    found: dict[str, str] = {}
    twice: set[str] = set()
    for path in _candidates(directory):
        if ident := ident_of(path):
            twice |= {ident} & found.keys()
            found[ident] = path
    return {ident: path for ident, path in found.items() if ident not in twice}


def _candidates(directory: str) -> Iterator[str]:
    count = 0
    for folder, folders, names in os.walk(directory):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if name.endswith(".md") and (count := count + 1) <= LOOKED_AT:
                yield str(Path(folder) / name)


def ident_of(path: str) -> str:
    """The id that a file names; empty where there is none, or no file."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        head = os.read(fd, _HEAD)
    except OSError:
        return ""
    finally:
        os.close(fd)
    return frontmatter.conversation_id(head) if frontmatter.is_conversation(head) else ""
