"""The machines that a word on the command line may mean: of the ssh configuration, and what the daemon knows. Dials none."""

from __future__ import annotations

import glob
import os
import shlex
from collections.abc import Iterator

from opagent.client import Client
from opagent.errors import OpAgentError

_DEEPEST = 16  # Include in Include, as in OpenSSH
_LIMIT = 1 << 20  # bytes of one file
_WITHIN = 0.5  # seconds for the daemon


def known() -> list[str]:
    """Sorted, each once."""
    return sorted({*configured(os.environ.get("OPAGENT_SSH_CONFIG") or os.path.expanduser("~/.ssh/config")), *_reached()})


def configured(path: str, depth: int = 0) -> Iterator[str]:
    """The names after `Host` that are no patterns, also of files that are included (ssh_config(5))."""
    for keyword, words in _lines(path):
        if keyword == "host":
            yield from (word for word in words if not set(word) & set("*?!"))
        elif keyword == "include" and depth < _DEEPEST:
            for word in words:
                pattern = os.path.join(os.path.expanduser("~/.ssh"), os.path.expanduser(word))
                for name in sorted(glob.glob(pattern)):
                    yield from configured(name, depth + 1)


def _lines(path: str) -> Iterator[tuple[str, list[str]]]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            text = file.read(_LIMIT)
    except OSError:
        return
    for line in text.splitlines():
        try:
            words = shlex.split(line.replace("=", " ", 1), comments=True)
        except ValueError:
            continue
        if words:
            yield words[0].lower(), words[1:]


def _reached() -> Iterator[str]:
    """What a daemon that runs knows; none is started for it."""
    try:
        with Client("completion", start=False) as client:
            yield from (str(host["name"]) for host in client.request("host/list", {}, _WITHIN)["hosts"])
    except (OpAgentError, KeyError, TypeError):
        return
