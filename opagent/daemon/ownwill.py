"""Files that run by themselves: what a person's next command would execute without asking, if it was made while an agent worked.

`changed` looks at paths that somebody found; the conversation shows it as *runs by itself*. Follows no link. (Design: "Missing
protected names".)
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from opagent import files, paths
from opagent.daemon.census import SKIPPED
from opagent.errors import FileRefused

SLACK = 20_000_000  # nanoseconds that the time of a file may lie behind the clock
_SCRIPTS = "package.json"
_NAMES = frozenset((
    paths.BINDING, "Makefile", "makefile", "GNUmakefile", "justfile", "conftest.py", "sitecustomize.py", "usercustomize.py",
    ".pre-commit-config.yaml", ".gitattributes", ".git",
))  # fmt: skip
_LIMIT = 1 << 20


def changed(workspace: str, found: Iterable[str], names: frozenset[str], since: int) -> list[str]:
    """Those of the paths that changed since a moment (nanoseconds of the wall clock). `names`: more that count."""
    return [name for name in _interesting(found, names | _NAMES) if _since(os.path.join(workspace, name), since)]


def scripts(workspace: str, found: Iterable[str]) -> dict[str, str]:
    """Digests of the scripts of every package.json, for those that have any."""
    digests = {}
    for name in _interesting(found, frozenset((_SCRIPTS,))):
        try:
            said = json.loads(files.read_file(Path(workspace, name), _LIMIT)).get("scripts")
        except (OSError, FileRefused, ValueError, AttributeError, RecursionError):
            continue
        if said:
            digests[name] = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
    return digests


def _interesting(found: Iterable[str], names: frozenset[str]) -> Iterator[str]:
    """By the last name; but below a directory of such a name it counts for all, and no installed package is looked into."""
    for path in found:
        last = path[path.rfind("/") + 1 :]
        if (last in names or last.endswith(".pth")) and path != ".git":
            above = path.split("/")[:-1]
            if names.isdisjoint(above) and SKIPPED.isdisjoint(above):
                yield path


def _since(path: str, since: int) -> bool:
    try:
        return os.lstat(path).st_ctime_ns >= since - SLACK
    except OSError:
        return False
