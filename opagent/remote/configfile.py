"""The user's ssh_config as asyncssh reads it: for machines without an `ssh` binary. Importing it imports asyncssh."""

from __future__ import annotations

import os

from asyncssh.config import ConfigParseError, SSHClientConfig

from opagent.remote import refusals
from opagent.remote.sshconfig import HostConfig, home, me, named

_KEYS = ("id_ed25519", "id_ecdsa", "id_rsa")
_SYSTEM = "/etc/ssh/ssh_known_hosts"


def read(host: str, user: str, port: int, config: str | None = None) -> HostConfig:
    """Raises HostRefused with the line when asyncssh does not understand the file."""
    path = config or os.path.join(home(), ".ssh/config")
    try:
        files = [path] if os.access(path, os.R_OK) else []
        found = SSHClientConfig.load(None, files, False, False, False, me(), user or (), host, port or ())
    except (ConfigParseError, OSError, ValueError) as error:
        raise refusals.bad_configuration(host, str(error)) from error
    values = {name.lower(): _words(value) for name, value in found.get_options(False).items()}
    name = values.get("hostname", [host])[0]
    number = port or int(values.get("port", ["22"])[0])
    values.setdefault("identityfile", [f"~/.ssh/{key}" for key in _KEYS])
    values.setdefault("userknownhostsfile", ["~/.ssh/known_hosts"])
    values.setdefault("globalknownhostsfile", [_SYSTEM])
    return HostConfig(named(host, user, port), host, name, number, user or values.get("user", [me()])[0], values)


def _words(value: object) -> list[str]:
    if isinstance(value, bool):
        return ["yes" if value else "no"]
    return [str(part) for part in value] if isinstance(value, list | tuple) else [str(value)]
