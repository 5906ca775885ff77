"""The notes that the agents of a directory share: Markdown files in `.opagent/notes/`, those of directories above may be read.

API: `listed`, `read`, `write`. Written here only: in its box an agent has the directory read-only. For a thread; asks nobody.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opagent import paths
from opagent.daemon import beneath
from opagent.errors import Denied, FileRefused, NotFound, Usage
from opagent.watch import workfiles

if TYPE_CHECKING:
    from opagent.daemon.workspace import Workspace

LIMIT = 256 * 1024  # bytes of one note
MOST, DEEPEST = 500, 4  # notes of a directory, and names in the path of one
FOLDER = f"{paths.WORK}/notes"
_NAME = re.compile(r"[^\W_][\w .+@-]{0,99}")


def named(word: str) -> str:
    """The path of a note below its directory: `plan.md`, `decisions/api.md`. Raises Usage."""
    parts = word.strip().removesuffix(".md").split("/")
    if not 1 <= len(parts) <= DEEPEST or not all(_NAME.fullmatch(part) and part == part.strip() for part in parts):
        why = f"letters, digits, blanks and . + @ _ -, at most {DEEPEST} names with / between"
        raise Usage(f"{word[:100]!r} is no name of a note", why, "opagent notes read")
    return f"{'/'.join(parts)}.md"


def directories(workspace: Workspace) -> list[str]:
    """Whose notes count: the directory's own first, then those above it that its binding comes from."""
    above = [os.path.dirname(each.path) for each in workspace.loaded.chain]
    return list(dict.fromkeys([workspace.path, *(each for each in above if os.path.basename(each))]))


def listed(workspace: Workspace) -> list[dict[str, Any]]:
    """Name, directory and size of each; one that a nearer directory has, too, is left out."""
    found: dict[str, dict[str, Any]] = {}
    for directory in directories(workspace):
        for name, size in _notes(directory):
            found.setdefault(name, {"path": name, "directory": directory, "size": size})
    return sorted(found.values(), key=lambda each: str(each["path"]))


def read(workspace: Workspace, word: str) -> dict[str, Any]:
    """`{path, directory, text}` of the nearest note of that name. Raises NotFound, Usage, FileRefused."""
    name = named(word)
    for directory in directories(workspace):
        try:
            content = beneath.read(directory, f"{FOLDER}/{name}", LIMIT)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise FileRefused(f"the note {name} cannot be read", error.strerror or "", "opagent notes read") from error
        return {"path": name, "directory": directory, "text": content.decode("utf-8", "replace")}
    raise NotFound(f"there is no note {name}", "", "opagent notes read")


def write(workspace: Workspace, word: str, text: str) -> dict[str, Any]:
    """The whole note, under its name at once. Raises Usage, Denied, FileRefused, NotPrivate."""
    name, content = named(word), text.encode("utf-8", "replace")
    if len(content) > LIMIT:
        raise Usage(f"the note {name} is too long", f"{len(content)} bytes; {LIMIT} are the most", "make several of it")
    known = [note for note, _ in _notes(workspace.path)]
    if name not in known and len(known) >= MOST:
        raise Denied(f"there are {MOST} notes already", "no more are kept", f"ls {workspace.path}/{FOLDER}")
    workfiles.prepare(Path(workspace.path))
    try:
        beneath.write(workspace.path, f"{FOLDER}/{name}", content)
    except OSError as error:
        where = f"ls -l {workspace.path}/{FOLDER}"
        raise FileRefused(f"the note {name} cannot be written", error.strerror or "", where) from error
    return {"path": name, "directory": workspace.path, "size": len(content)}


def _notes(directory: str) -> Iterator[tuple[str, int]]:
    top, count = os.path.join(directory, FOLDER), 0
    for folder, folders, names in os.walk(top):
        folders[:] = sorted(each for each in folders if _NAME.fullmatch(each))
        if os.path.relpath(folder, top).count("/") >= DEEPEST - 1:
            folders.clear()
        for name in sorted(names):
            path = os.path.join(folder, name)
            with contextlib.suppress(OSError, Usage):
                if name.endswith(".md") and not os.path.islink(path) and (count := count + 1) <= MOST:
                    yield named(os.path.relpath(path, top)), os.lstat(path).st_size
