"""Files that run by themselves: what a person's next command would execute without asking, if it was made while an agent worked.

`changed(workspace, since, before)` looks; the conversation shows it as *runs by itself*. Follows no link. (Design: "Missing
protected names".)
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from opagent import files, paths
from opagent.errors import FileRefused

SLACK = 20_000_000  # nanoseconds that the time of a file may lie behind the clock
_SCRIPTS = "package.json"
_NAMES = frozenset((
    paths.BINDING, "Makefile", "makefile", "GNUmakefile", "justfile", "conftest.py", "sitecustomize.py", "usercustomize.py",
    ".pre-commit-config.yaml", ".gitattributes", ".git",
))  # fmt: skip
_LIMIT = 1 << 20


def changed(workspace: str, tree: Mapping[str, Any], names: frozenset[str], since: int) -> list[str]:
    """Names below the workspace that changed since a moment (nanoseconds of the wall clock). `names`: more that count."""
    return [name for name in _interesting(tree, names | _NAMES, "") if _since(os.path.join(workspace, name), since)]


def scripts(workspace: str, tree: Mapping[str, Any]) -> dict[str, str]:
    """Digests of the scripts of every package.json, for those that have any."""
    found = {}
    for name in _interesting(tree, frozenset((_SCRIPTS,)), ""):
        try:
            said = json.loads(files.read_file(Path(workspace, name), _LIMIT)).get("scripts")
        except (OSError, FileRefused, ValueError, AttributeError, RecursionError):
            continue
        if said:
            found[name] = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
    return found


def _interesting(tree: Mapping[str, Any], names: frozenset[str], path: str) -> Iterator[str]:
    for name, below in tree.items():
        here = f"{path}/{name}" if path else name
        if (name in names and here != ".git") or name.endswith(".pth"):
            yield here
        elif below:
            yield from _interesting(below, names, here)


def _since(path: str, since: int) -> bool:
    try:
        return os.lstat(path).st_ctime_ns >= since - SLACK
    except OSError:
        return False
