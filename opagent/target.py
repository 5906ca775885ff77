"""What a command is about: a directory or file here, or one on another machine. Reads words, looks at nothing. Pure.

::

    docs  ./a:b  /srv/x            here
    gpu1:/srv/docs  ana@gpu1:docs  there; without a slash from the home directory there
    ssh://ana@gpu1:2222/srv/docs   there, with a port; ssh://gpu1/~/docs from the home directory
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, replace

from opagent.errors import Usage

_SCP = re.compile(r"(?P<host>[^/:\[\]]+|(?:[^/:\[\]@]+@)?\[[^\]/]*\]):(?P<path>.*)", re.DOTALL)
_URL = re.compile(r"ssh://(?P<host>[^/]*)(?P<path>/.*)?", re.DOTALL)
_HOST = re.compile(
    r"(?:(?P<user>[^@\s]+)@)?(?:\[(?P<six>[0-9a-fA-F:.%\w]+)\]|(?P<name>[A-Za-z0-9_][\w.%-]*))(?::(?P<port>\d{1,5}))?"
)


@dataclass(frozen=True, slots=True)
class Target:
    """`host`: an ssh alias, name or address, as the user wrote it; `path`: absolute, or from the home directory there."""

    host: str
    path: str
    user: str = ""
    port: int = 0  # 0: as configured

    @property
    def machine(self) -> str:
        """The machine alone, as a person writes it: `[user@]host[:port]`; the name it is known by."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.user}@" * bool(self.user) + name + f":{self.port}" * bool(self.port)

    def __str__(self) -> str:
        """As a person would write it, and as `parse` reads it."""
        if not self.port:
            return f"{self.machine}:{self.path}"
        return f"ssh://{self.machine}{self.path if self.path.startswith('/') else '/~/' + self.path}"


def parse(word: str) -> Target | None:
    """None for what is here. Raises Usage for what looks like a machine and is none."""
    url, scp = _URL.fullmatch(word), _SCP.fullmatch(word)
    found = url or scp
    if found is None or (scp is not None and url is None and word.startswith((".", "~"))):
        return None
    path = found["path"] or ""
    if url is not None:
        path = path.removeprefix("/~/") if path.startswith("/~/") else path
    return _made(found["host"], path, word, port=url is not None)


def machine(word: str) -> Target:
    """`[user@]host[:port]` or `ssh://...` without a directory. Raises Usage."""
    return _made(word.removeprefix("ssh://").rstrip("/"), "", word, port=True)


def typed_here(hint: str, name: str) -> str:
    """A command that somebody at the machine `name` would type, as one types it here; what is no command of ours says where.

    The hint may come from that machine: what is made of it is one command about that machine, whatever it holds.
    """
    try:
        words = shlex.split(hint)
    except ValueError:
        words = []
    if words[:1] != ["opagent"] or any(word.startswith(("-C", "--host")) or _leads_away(word) for word in words):
        return f"on {name}: {' '.join(hint.split())}" if hint else ""
    there = [str(replace(machine(name), path=word)) if word.startswith(("/", "~/")) else word for word in words[1:]]
    option = ["--host", name] if there == words[1:] else []
    return shlex.join(["opagent", *option, *there])


def _leads_away(word: str) -> bool:
    try:
        return parse(word) is not None
    except Usage:
        return True


def _made(host: str, path: str, word: str, port: bool) -> Target:
    parts = _HOST.fullmatch(host)
    number = int(parts["port"] or 0) if parts else 0
    bad = (
        parts is None
        or (parts["port"] and not (port and 0 < number < 65536))
        or "\0" in path
        or (parts["user"] or "").startswith("-")
    )
    if bad or parts is None:
        raise Usage(
            f"'{word[:200]}' names no machine",
            "HOST:DIR or ssh://[user@]host[:port]/dir",
            "opagent open ./DIR for a directory here",
        )
    return Target(parts["six"] or parts["name"], path, parts["user"] or "", number)
