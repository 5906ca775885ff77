"""Reads what a trusted binding would execute inside the workspace, so that its digest covers it; executes nothing."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Sequence

from opagent import files
from opagent.errors import FileRefused, NotTrusted
from opagent.model import Binding

MAX_FILES, MAX_BYTES = 2_000, 64 << 20


def closure(workspace: str, binding: Binding, runs: Iterable[str]) -> dict[str, str]:
    """path -> sha256 of each file that the tools or the runtime would execute; a link is noted with its target.

    Raises NotTrusted when there are too many or they cannot be read: what cannot be hashed cannot be trusted.
    """
    found: dict[str, str] = {}
    left = MAX_BYTES
    for path in _candidates(workspace, binding, runs):
        if path in found:
            continue
        content = _content(path, left)
        left -= len(content)
        found[path] = hashlib.sha256(content).hexdigest()
        if len(found) > MAX_FILES or left < 0:
            raise _too_much(workspace)
    return found


def present(workspace: str, runs: Iterable[str]) -> str | None:
    """The first file of the workspace that a runtime executes by itself, if there is one."""
    return next((name for name in runs if os.path.lexists(os.path.join(workspace, name))), None)


def _candidates(workspace: str, binding: Binding, runs: Iterable[str]) -> Iterator[str]:
    for name in runs:
        yield from _files(os.path.join(workspace, name))
    for tool in binding.tools.values():
        command: Sequence[str] = tool.get("command", ())
        for base in dict.fromkeys((tool["base"], workspace)):
            for word in command:
                path = os.path.normpath(os.path.join(base, word))
                if path.startswith((f"{tool['base']}/", f"{workspace}/")) and os.path.isfile(path):
                    yield path


def _files(path: str) -> Iterator[str]:
    """A file, or all files below a directory, with the links to directories; these are not entered."""
    if not os.path.isdir(path):
        if os.path.lexists(path):
            yield path
        return
    for folder, below, names in os.walk(path, onerror=_unreadable):
        below.sort()
        links = [name for name in below if os.path.islink(os.path.join(folder, name))]
        for name in sorted(links + names):
            if name in links:
                _inside(os.path.join(folder, name), path)
            yield os.path.join(folder, name)


def _inside(link: str, place: str) -> None:
    """What a linked directory holds is hashed only where it lies in the same place, under its own name."""
    target, real = os.path.realpath(link), os.path.realpath(place)
    if target != real and not target.startswith(f"{real}/"):
        why = f"a link to the directory {target}, which is not looked into"
        raise NotTrusted(f"{link} cannot be part of what is trusted", why, f"ls -l {link}")


def _unreadable(error: OSError) -> None:
    path = error.filename
    raise NotTrusted(f"{path} cannot be read", error.strerror or str(error), f"ls -ld {path}") from error


def _content(path: str, left: int) -> bytes:
    try:
        if stat.S_ISLNK(os.lstat(path).st_mode):
            note = b"link to " + os.fsencode(os.readlink(path)) + b"\n"
            return note if os.path.isdir(path) else note + files.read_file(path, max(left, 0))
        return files.read_file(path, max(left, 0))
    except FileRefused as error:
        raise NotTrusted(f"{path} cannot be part of what is trusted", str(error), f"ls -l {path}") from error
    except OSError as error:
        raise NotTrusted(f"{path} cannot be read", error.strerror or str(error), f"ls -l {path}") from error


def _too_much(workspace: str) -> NotTrusted:
    why = f"more than {MAX_FILES} files or {MAX_BYTES >> 20} MB that it would execute"
    return NotTrusted(f"{workspace} cannot be trusted as a whole", why, "opagent explain")
