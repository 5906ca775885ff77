"""Every way in which a machine can be out of reach, as an error with its reason and the next command.

One table for all transports. What the other side said is data of a stranger: `clean` before it is shown. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

from opagent.errors import HostKeyRefused, HostRefused, HostUnreachable
from opagent.remote.seam import Ended

SHOWN = 1000  # characters of what a stranger said


def clean(text: str, limit: int = SHOWN) -> str:
    """Without control characters and with its beginning only: a terminal must not obey a server. Lines stay lines."""
    kept = "".join(char if char.isprintable() or char == "\n" else " " for char in text.replace("\r\n", "\n"))
    return kept if len(kept) <= limit else kept[:limit] + " ..."


def sentence(text: str, limit: int = 400) -> str:
    """On one line."""
    return clean(" ".join(text.split()), limit)


def _try(host: str) -> str:
    return f"ssh {host} true"


# no connection


def no_address(host: str, name: str, why: str) -> HostUnreachable:
    return HostUnreachable(f"{host} is unknown", f"the name {name} has no address ({sentence(why)})", f"getent hosts {name}")


def unreachable(host: str, why: str) -> HostUnreachable:
    return HostUnreachable(f"{host} cannot be reached", sentence(why), _try(host))


def silent(host: str, why: str) -> HostUnreachable:
    return HostUnreachable(f"{host} does not answer", why, _try(host))


def hung_up(host: str, when: str, said: str = "") -> HostUnreachable:
    """The server closed the connection before anybody was let in."""
    why = f"it closed the connection {when}"
    if said:
        return HostUnreachable(f"{host} hangs up", f"{why}: {sentence(said)}", _try(host))
    more = "; it may have too many connections (MaxStartups), or block this address" if "before it said" in when else ""
    return HostUnreachable(f"{host} hangs up", why + more, _try(host))


def lost(host: str, why: str) -> HostUnreachable:
    return HostUnreachable(f"the connection to {host} is lost", why, _try(host))


# configuration


def bad_configuration(host: str, why: str) -> HostRefused:
    return HostRefused(f"the ssh configuration of {host} cannot be used", sentence(why), f"ssh -G {host}")


def no_common_algorithm(host: str, why: str) -> HostRefused:
    hint = f"ssh -v {host} true, then allow it in ~/.ssh/config if you trust it (KexAlgorithms, Ciphers, HostKeyAlgorithms)"
    return HostRefused(f"{host} speaks no method that we accept", sentence(why), hint)


def no_program(host: str, program: str) -> HostUnreachable:
    return HostUnreachable(f"{host} cannot be dialled", f"there is no program {program} on this machine", f"command -v {program}")


def no_room() -> HostUnreachable:
    why = "there is no private directory with a short path in which programs may run"
    return HostUnreachable("ssh cannot be started", why, "opagent doctor")


# the host's key


def unknown_key(host: str, kind: str, fingerprint: str, reason: str) -> HostKeyRefused:
    why = f"its {kind} key {fingerprint} is not in known_hosts, {reason}"
    return HostKeyRefused(f"the key of {host} is not known", why, f"{_try(host)} on a terminal, after comparing the fingerprint")


def changed_key(host: str, name: str, new: str, old: Sequence[tuple[str, str, str]]) -> HostKeyRefused:
    """`new`: type and fingerprint; `old`: type, fingerprint and place of each known key."""
    known = ", ".join(f"{kind} {fingerprint} ({place})" for kind, fingerprint, place in old)
    why = f"it shows {new}, known is {known}: somebody may be in between, or the machine was installed anew"
    file = old[0][2].rpartition(":")[0] if old else "known_hosts"
    hint = f"ask its administrator; if the new key is right: ssh-keygen -f {file} -R '{name}'"
    return HostKeyRefused(f"{host} has another key than before", why, hint)


def revoked_key(host: str, fingerprint: str, place: str) -> HostKeyRefused:
    why = f"{fingerprint} is marked as revoked in {place}"
    return HostKeyRefused(f"the key of {host} is revoked", why, "ask the administrator of that machine")


def bad_certificate(host: str, why: str) -> HostKeyRefused:
    return HostKeyRefused(f"the host certificate of {host} is not valid", sentence(why), f"ssh -v {host} true")


# letting in


def not_let_in(host: str, user: str, why: str, hint: str = "") -> HostRefused:
    return HostRefused(f"{host} does not let {user} in", why, hint or _try(host))


def too_many_keys(host: str, user: str, offered: int) -> HostRefused:
    """`offered`: how many we know of; the agent of OpenSSH does not say."""
    why = f"it gave up after {f'{offered} keys' if offered else 'several keys'} (MaxAuthTries)"
    return not_let_in(host, user, why, f"IdentitiesOnly yes and one IdentityFile under `Host {host}` in ~/.ssh/config")


def jump_forwards_nothing(jump: str, host: str, said: str) -> HostRefused:
    why = f"it forwards no connections ({sentence(said)}; AllowTcpForwarding)"
    return HostRefused(f"{jump} does not lead to {host}", why, f"ssh -W {host}:22 {jump}")


# no shell

_NO_ACCOUNT = ("account is currently not available", "account is not available", "no login", "nologin")
_SFTP = ("sftp connections only", "sftp only", "only sftp")


def no_session(host: str, why: str) -> HostRefused:
    more = "; it may allow fewer sessions on one connection (MaxSessions)"
    return HostRefused(f"{host} starts no program", sentence(why) + more, _try(host))


def no_shell(host: str, ended: Ended, said: bytes) -> HostRefused:
    """For a command that ended before anything of ours was heard. `said`: what it printed."""
    text = sentence((said + b"\n" + ended.stderr).decode(errors="replace"))
    low, status = text.lower(), "by a signal" if ended.status is None else f"with status {ended.status}"
    if "open refused by peer" in low:  # the system's ssh, of a connection that runs another program already
        return no_session(host, text)
    if any(words in low for words in _SFTP):
        why = f"this account may only transfer files: {text}"
    elif any(words in low for words in _NO_ACCOUNT):
        why = f"the login shell of this account is none: {text}"
    elif text:
        why = f"the command ended {status} before it began; it printed: {text}"
    else:
        why = f"the command ended {status} before it began, without a word; the login shell may be none, or a command forced"
    return HostRefused(f"{host} gives no shell access", why, f"opagent host check {host}")
