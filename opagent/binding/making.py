"""Makes the binding of a directory: a commented file, or a copy of a shipped workspace; all of it or nothing.

What stands there already is never touched.
"""

from __future__ import annotations

import os
import shlex
import shutil
from pathlib import Path

from opagent import paths
from opagent.binding import template
from opagent.errors import Conflict, FileRefused, NotFound

DEFAULT_AGENT = "librarian"
_NOT_COPIED = ("conversations", ".opagent", ".git")


def create(path: str, agent: str | None) -> str:
    """Write the binding of a directory (made if it is missing) and return its path. Raises Conflict, NotFound, FileRefused."""
    _refuse_existing(path)
    folder = Path(path)
    text = template.text(agent or DEFAULT_AGENT)
    made = not folder.exists()
    try:
        folder.mkdir(exist_ok=True)
        return _write(folder, text)
    except OSError as error:
        if made and folder.is_dir():
            folder.rmdir()
        raise FileRefused(f"{error.filename} cannot be written", error.strerror or "", "opagent init DIR") from error


def copy(path: str, name: str) -> str:
    """Copy a shipped workspace; the binding comes last, so that a half copy binds nothing. Raises Conflict, NotFound."""
    shipped = paths.bundled_workspaces()
    known = sorted(entry.name for entry in shipped.iterdir() if (entry / paths.BINDING).is_file()) if shipped.is_dir() else []
    if name not in known:
        raise NotFound(f"no template '{name}'", "there are " + ", ".join(known), "opagent init --template NAME")
    _refuse_existing(path)
    source, folder = shipped / name, Path(path)
    files = [
        file for file in sorted(source.rglob("*")) if file.is_file() and not set(file.relative_to(source).parts) & {*_NOT_COPIED}
    ]
    there = [str(folder / file.relative_to(source)) for file in files if (folder / file.relative_to(source)).exists()]
    if there:
        raise Conflict("the template would replace files", "\n".join(there[:5]), "opagent init NEW_DIRECTORY --template NAME")
    made: list[Path] = []
    try:
        folder.mkdir(exist_ok=True)
        for file in (file for file in files if file != source / paths.BINDING):
            goal = folder / file.relative_to(source)
            goal.parent.mkdir(parents=True, exist_ok=True)
            made.append(goal)
            shutil.copyfile(file, goal)
        return _write(folder, (source / paths.BINDING).read_text())
    except OSError as error:
        for goal in made:
            goal.unlink(missing_ok=True)
        raise FileRefused(f"{error.filename} cannot be written", error.strerror or "", "opagent init DIR") from error


def _refuse_existing(path: str) -> None:
    binding = os.path.join(path, paths.BINDING)
    if os.path.lexists(binding):
        raise Conflict(f"{binding} is there already", "it is not changed", f"opagent explain {shlex.quote(path)}")
    if not os.path.isdir(os.path.dirname(path)):
        raise NotFound(f"{os.path.dirname(path)} does not exist", hint=f"mkdir -p {shlex.quote(os.path.dirname(path))}")


def _write(folder: Path, text: str) -> str:
    """The whole file or none, and never over another one: it is linked into place, which fails where a name exists."""
    binding, temporary = folder / paths.BINDING, folder / f"{paths.BINDING}.{os.getpid()}.tmp"
    try:
        temporary.write_text(text)
        os.link(temporary, binding)
    except FileExistsError as error:
        hint = f"opagent explain {shlex.quote(str(folder))}"
        raise Conflict(f"{binding} is there already", "it is not changed", hint) from error
    finally:
        temporary.unlink(missing_ok=True)
    return str(binding)
