"""Two lines in git's own files, so that conversations merge by turns; git is not run and its configuration is not changed.

API: `inside`, `add`, `DRIVER`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

from opagent import files, paths
from opagent.errors import FileRefused

DRIVER = 'git config merge.opagent.driver "opagent conversations merge %O %A %B --path %P"'
_LIMIT = 1 << 20  # bytes of one of git's files


def inside(path: str) -> bool:
    """Whether a directory lies in a git work tree: `.git` stands in it or above, a directory or (in a linked one) a file."""
    folder = Path(os.path.realpath(path))
    return any(os.path.lexists(each / ".git") for each in (folder, *folder.parents))


def add(folder: Path, conversations: str) -> list[str]:
    """Append what is not there yet, without a change of any other line. Returns the files that got one. Raises FileRefused."""
    pattern = _pattern(conversations)
    attributes = f"{pattern} text eol=lf merge=opagent"
    wanted: tuple[tuple[str, str, Callable[[str], bool]], ...] = (
        (".gitattributes", attributes, lambda line: line.startswith(pattern + " ") and "merge=opagent" in line),
        (".gitignore", f"{paths.WORK}/", lambda line: line.strip("/") == paths.WORK),
    )
    return [str(folder / name) for name, line, there in wanted if _append(folder / name, line, there)]


def _pattern(conversations: str) -> str:
    """All Markdown below a directory, in quotes where git would misread the name (gitattributes(5))."""
    name = re.sub(r"([\\*?\[!])", r"\\\1", os.path.normpath(conversations)) + "/**/*.md"
    return json.dumps(name, ensure_ascii=False) if re.search(r'[\s"\\#]', name) else name


def _append(path: Path, line: str, there: Callable[[str], bool]) -> bool:
    try:
        content = files.read_file(path, _LIMIT) if os.path.lexists(path) else b""
        text = content.decode("utf-8", "replace")
        if any(there(each.strip()) for each in text.splitlines()):
            return False
        eol = "\r\n" if "\r\n" in text else "\n"
        added = (eol if text and not text.endswith("\n") else "") + line + eol
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            files.write_all(fd, added.encode())
        finally:
            os.close(fd)
    except OSError as error:
        raise FileRefused(f"{path} cannot be written", error.strerror or str(error), f"ls -l {path}") from error
    return True
