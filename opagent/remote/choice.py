"""Which of a user's hosts only the system's `ssh` can reach, told by the configuration alone. Dials nothing."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from opagent.remote import hostkeys
from opagent.remote.sshconfig import HostConfig


class OnlyOpenSsh(Exception):
    """asyncssh cannot do what this host needs, and OpenSSH may. The text says why. Never leaves `dial`."""


def only_openssh(config: HostConfig, agent: str) -> str:
    """The reason, as words for a log; empty when asyncssh will do. `agent`: the socket of the ssh-agent, or empty."""
    reasons = {
        "PKCS11Provider": bool(config.one("pkcs11provider")),
        "GSSAPIAuthentication": config.yes("gssapiauthentication") and _ticket(),
        "HostbasedAuthentication": config.yes("hostbasedauthentication"),
        "KnownHostsCommand": bool(config.one("knownhostscommand")),
        "ProxyUseFdpass": config.yes("proxyusefdpass") and bool(config.one("proxycommand")),
        "a security key without an agent": not agent and _security_key(config),
        "a binary list of revoked keys": any(_binary(path) for path in config.paths("revokedhostkeys")),
        "a live ControlMaster": bool(live_master(config)),
    }
    return ", ".join(reason for reason, holds in reasons.items() if holds)


def live_master(config: HostConfig) -> str:
    """The control socket, when somebody listens on it."""
    path = config.one("controlpath")
    if not path:
        return ""
    path = config.path(path)
    try:
        with socket.socket(socket.AF_UNIX) as stream:
            stream.settimeout(1)
            stream.connect(path)
    except OSError:
        return ""
    return path


def _ticket() -> bool:
    """Debian asks for GSSAPI everywhere; without a Kerberos ticket it comes to nothing."""
    cache = os.environ.get("KRB5CCNAME", f"/tmp/krb5cc_{os.getuid()}")
    kind, _, path = cache.rpartition(":")
    if kind not in ("", "FILE", "DIR"):
        return True  # KEYRING, KCM: only the library can tell
    return os.path.exists(path)


def _security_key(config: HostConfig) -> bool:
    for path in config.paths("identityfile"):
        try:
            if Path(path + ".pub").read_text().startswith("sk-") and os.path.exists(path):
                return True
        except (OSError, ValueError):
            continue
    return False


def _binary(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(len(hostkeys.KRL)) == hostkeys.KRL
    except OSError:
        return False
