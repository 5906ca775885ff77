"""Where a conversation file went that is no longer at its path, and what is left of it: identity is the id, not the name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from opagent.document import frontmatter
from opagent.model import Conversation
from opagent.watch import workfiles

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


def left(workspace: str | Path, path: str | Path, ident: str) -> list[Path]:
    """What an earlier daemon left of a conversation's file; files of other directories may have the same name."""
    return [each for each in workfiles.leftovers(Path(workspace), Path(path)) if ident_of(str(each)) in ("", ident)]


def nameless(directory: str) -> list[str]:
    """The files below `directory` that name no conversation. Opens each file, so it is for a thread."""
    return [path for path in _candidates(directory) if not ident_of(path)]


def bytes_in(directory: str) -> int:
    """Of the Markdown files below `directory`. For a thread."""
    found = 0
    for path in _candidates(directory):
        with suppress(OSError):
            found += os.lstat(path).st_size
    return found


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
