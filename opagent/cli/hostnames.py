"""What a word on the command line may mean, for the shell: machines of the ssh configuration, and what daemons know.

Dials none: another machine is asked only over a link that stands.
"""

from __future__ import annotations

import glob
import os
import re
import shlex
from collections.abc import Iterator

from opagent.client import Client
from opagent.elsewhere import Near
from opagent.errors import OpAgentError
from opagent.target import machine, parse

_DEEPEST = 16  # Include in Include, as in OpenSSH
_LIMIT = 1 << 20  # bytes of one file
_WITHIN = 0.5  # seconds for the daemon
_IDS = 50  # that are shown, the newest
# What the shell puts on the line is run with it: nothing else may come from elsewhere.
_ID = re.compile(r"[0-9a-z][0-9a-z-]{0,40}")


def known() -> list[str]:
    """Sorted, each once."""
    return sorted({*configured(os.environ.get("OPAGENT_SSH_CONFIG") or os.path.expanduser("~/.ssh/config")), *_reached()})


def mirrors(typed: str) -> list[str]:
    """Directories here that are mirrors and go on from what was typed, as they are typed: whole, or from where one stands."""
    try:
        with Client("completion", start=False) as client:
            found = [str(mirror["directory"]) for mirror in client.request("mirror/list", {}, _WITHIN)["mirrors"]]
    except (OpAgentError, KeyError, TypeError):
        return []
    near = [os.path.relpath(path) for path in found if path.startswith(os.getcwd() + "/")]
    return [path for path in (*near, *found) if path.startswith(typed) and path.isprintable()]


def known_ids(method: str, host: str, directory: str) -> list[tuple[str, str]]:
    """Ids of conversations (`conversation/list`) or processes (`process/list`) with words on each, the newest first."""
    key = "conversations" if method == "conversation/list" else "processes"
    try:
        with _asked(host, directory) as client:
            found = client.request(method, {"all": True, "limit": _IDS} if key == "conversations" else {}, _WITHIN)[key]
        found.sort(key=lambda one: str(one.get("updated") or one.get("since") or ""), reverse=True)
        named = ((one.get("id"), str(one.get("title") or one.get("agent") or "")) for one in found[:_IDS])
        plain = ((ident, words) for ident, words in named if isinstance(ident, str) and _ID.fullmatch(ident))
        return [(ident, "".join(filter(str.isprintable, words))) for ident, words in plain]
    except (OpAgentError, OSError, LookupError, TypeError, AttributeError):
        return []


def _asked(host: str, directory: str) -> Client:
    """The daemon that runs here, or the one of the machine that was named before. Raises OpAgentError, OSError."""
    there = parse(directory) if directory and not os.path.lexists(directory) else None
    name = machine(host).machine if host else there.machine if there is not None else ""
    return Near(name) if name else Client("completion", start=False)


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
