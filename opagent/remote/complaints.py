"""What the system's `ssh` says on stderr when it fails, as our errors. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from opagent.errors import HostUnreachable
from opagent.remote import refusals

_DENIED = re.compile(r"(?:(\S+)@\S+: )?Permission denied \(([^)]*)\)")
_FORM = re.compile(r"Could not resolve hostname (\S+?): (.*)")


@dataclass(frozen=True, slots=True)
class Complaint:
    """`shown`: type and fingerprint of the key that the host has now; `known`: those and the place of each it may have."""

    host: str
    user: str
    text: str
    shown: tuple[str, str] = ("", "")
    known: tuple[tuple[str, str, str], ...] = ()

    def line(self, words: str) -> str:
        """The line that has the words."""
        return next((line.strip() for line in self.text.splitlines() if words in line.lower()), words)


def explained(said: Complaint) -> HostUnreachable:
    """The error behind the last words of `ssh`."""
    low = said.text.lower()
    for words, make in _TABLE:
        if words in low:
            return make(said)
    lines = [line.strip() for line in said.text.splitlines() if line.strip()]
    return refusals.unreachable(said.host, " / ".join(lines[-3:]) or "ssh ended without a word")


def _changed(said: Complaint) -> HostUnreachable:
    return refusals.changed_key(said.host, said.host, " ".join(said.shown).strip() or "another key", said.known)


def _unknown(said: Complaint) -> HostUnreachable:
    strict = "requested strict checking" in said.text
    reason = "and StrictHostKeyChecking is yes" if strict else "and it was not accepted"
    return refusals.unknown_key(said.host, said.shown[0] or "host", said.shown[1], reason)


def _revoked(said: Complaint) -> HostUnreachable:
    return refusals.revoked_key(said.host, said.shown[1] or "its key", "the lists of revoked keys")


def _denied(said: Complaint) -> HostUnreachable:
    found = _DENIED.search(said.text)
    methods = ", ".join(found[2].split(",")) if found else "another method"
    user = (found[1] if found else None) or said.user
    return refusals.not_let_in(said.host, user, f"it takes {methods}, and nothing we had was enough", f"ssh {said.host} true")


def _unknown_name(said: Complaint) -> HostUnreachable:
    found = _FORM.search(said.text)
    return refusals.no_address(said.host, found[1] if found else said.host, found[2] if found else "")


def _unreachable(words: str) -> Callable[[Complaint], HostUnreachable]:
    return lambda said: refusals.unreachable(said.host, said.line(words))


def _silent(words: str) -> Callable[[Complaint], HostUnreachable]:
    return lambda said: refusals.silent(said.host, refusals.sentence(said.line(words)))


def _hung_up(when: str) -> Callable[[Complaint], HostUnreachable]:
    return lambda said: refusals.hung_up(said.host, when)


_TABLE: tuple[tuple[str, Callable[[Complaint], HostUnreachable]], ...] = (
    ("remote host identification has changed", _changed),
    ("revoked", _revoked),
    ("no matching", lambda said: refusals.no_common_algorithm(said.host, said.line("no matching"))),
    ("too many authentication failures", lambda said: refusals.too_many_keys(said.host, said.user, 0)),
    ("permission denied (", _denied),
    ("host key is known for", _unknown),
    ("host key verification failed", _unknown),
    ("could not resolve hostname", _unknown_name),
    ("bad configuration option", lambda said: refusals.bad_configuration(said.host, said.line("bad configuration"))),
    ("terminating, ", lambda said: refusals.bad_configuration(said.host, said.text)),
    ("administratively prohibited", lambda said: refusals.jump_forwards_nothing("its jump host", said.host, said.text)),
    ("timed out", _silent("timed out")),
    ("not responding", _silent("not responding")),
    ("connection refused", _unreachable("connection refused")),
    ("no route to host", _unreachable("no route to host")),
    ("network is unreachable", _unreachable("network is unreachable")),
    ("kex_exchange_identification", _hung_up("before it said who it is")),
    ("connection closed by", _hung_up("while keys were exchanged")),
    ("connection reset by", _hung_up("while keys were exchanged")),
)
