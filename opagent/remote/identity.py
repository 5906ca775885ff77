"""Whether a key that a host shows is the one we know: the verdict, the question at first contact, the new line of known_hosts.

A key that is another than before is refused whatever the configuration says; StrictHostKeyChecking decides on unknown ones only.
"""

from __future__ import annotations

import enum
import ipaddress
import logging

from opagent.errors import HostKeyRefused
from opagent.remote import hostkeys, refusals
from opagent.remote.hostkeys import Entry
from opagent.remote.seam import Ask, Question
from opagent.remote.sshconfig import HostConfig

log = logging.getLogger(__name__)

TRIES = 3


class Verdict(enum.Enum):
    KNOWN = "known"
    NEW = "new"
    CHANGED = "changed"
    REVOKED = "revoked"


class Identity:
    """What is known of one host's keys. `address`: the one we are connected to; empty behind a jump host or a proxy."""

    def __init__(self, config: HostConfig, address: str = "") -> None:
        self._config = config
        alias = config.one("hostkeyalias")
        self.name = alias or hostkeys.host_name(config.host, config.port)
        self._files = config.paths("userknownhostsfile") + config.paths("globalknownhostsfile")
        self.entries = hostkeys.look_up(self._files, [self.name])
        portless = [] if alias or config.port == 22 else hostkeys.look_up(self._files, [config.host.lower()])
        self._portless = [
            entry for entry in portless if not entry.marker
        ]  # may vouch for the key, as in OpenSSH, not contradict it
        self._address = hostkeys.host_name(address, config.port) if address and not alias else ""
        self._of_address = [] if self._address in ("", self.name) else hostkeys.look_up(self._files, [self._address])
        self._loopback = bool(address) and ipaddress.ip_address(address.partition("%")[0]).is_loopback

    def trusted(self) -> list[Entry]:
        """The entries that asyncssh is to know, with their markers. A revoked key is none of them, so that we are asked."""
        return [entry for entry in self.entries + self._portless if entry.marker or not self._revoked(entry.blob)]

    def verdict(self, blob: bytes) -> Verdict:
        if self._revoked(blob):
            return Verdict.REVOKED
        plain = [entry for entry in self.entries if not entry.marker]
        if any(entry.blob == blob for entry in plain + self._portless):
            return Verdict.KNOWN
        return Verdict.CHANGED if plain else Verdict.NEW

    def accepts_unasked(self, blob: bytes) -> bool:
        """Whether the configuration takes an unknown key: never one of a host, address or alias that has another."""
        if self._loopback and self._config.yes("nohostauthenticationforlocalhost"):
            return True
        taken = self._strictness() in ("accept-new", "no")
        return taken and self.verdict(blob) is Verdict.NEW and not self._contradicted(blob)

    async def decide(self, blob: bytes, ask: Ask) -> None:
        """Returns when the person accepts a new key, which is then written down. Raises HostKeyRefused."""
        where, kind, print_ = self._config.name, hostkeys.spoken(hostkeys.kind(blob)), hostkeys.fingerprint(blob)
        verdict = self.verdict(blob)
        if verdict is Verdict.REVOKED:
            raise refusals.revoked_key(where, print_, self._revoked(blob))
        if verdict is Verdict.CHANGED:
            raise self._changed(blob)
        if verdict is Verdict.NEW:
            if self._strictness() not in ("ask", "accept-new", "no"):
                raise refusals.unknown_key(self._config.name, kind, print_, "and StrictHostKeyChecking is yes")
            await self._ask(kind, print_, self._contradicted(blob), ask)
            self.learn(blob)

    async def _ask(self, kind: str, print_: str, contradicted: str, ask: Ask) -> None:
        lines = [f"The key of {self._config.where} is not known yet.", f"{kind} key fingerprint: {print_}"]
        lines += [contradicted] if contradicted else []
        text = "\n".join([*lines, "Is it the right one? (yes, no, or the fingerprint)"])
        for _ in range(TRIES):
            answer = await ask(Question("host_key", text))
            if answer is None:
                raise refusals.unknown_key(self._config.name, kind, print_, "and nobody is here to accept it")
            said = answer.strip()
            if said.lower() in ("yes", "y") or said in (print_, print_.removeprefix("SHA256:")):
                return
            if said.lower() in ("", "no", "n"):
                break
            text = f"Please answer yes, no, or the fingerprint that you expect. The host shows {print_}"
        raise refusals.unknown_key(self._config.name, kind, print_, "and it was not accepted")

    def learn(self, blob: bytes) -> None:
        """Write the key into the first known_hosts file of the user. A file that cannot be written is no reason to stop."""
        file = next(iter(self._config.paths("userknownhostsfile")), "")
        hashed = self._config.yes("hashknownhosts")
        names = [self.name]
        if self._config.yes("checkhostip") and self._address not in ("", self.name) and not self._of_address:
            names.append(self._address)
        lines = [hostkeys.line_for(name, blob, hashed) for name in (names if hashed else [",".join(names)])]
        try:
            hostkeys.add(file, "".join(lines)) if file else None
        except OSError as error:
            log.warning("the key of %s could not be added to %s: %s", self._config.name, file, error)

    def invalid(self, why: str) -> HostKeyRefused:
        """For what asyncssh refuses by itself: a certificate, or a key that @revoked names."""
        revoked = next((entry for entry in self.entries if entry.marker == "revoked"), None)
        if revoked is not None and "revoked" in why:
            return refusals.revoked_key(self._config.name, revoked.fingerprint, revoked.place)
        return refusals.bad_certificate(self._config.name, why)

    def authorities(self) -> bool:
        return any(entry.marker == "cert-authority" for entry in self.entries)

    def _strictness(self) -> str:
        word = self._config.one("stricthostkeychecking", "ask").lower()
        return {"off": "no", "false": "no", "true": "yes"}.get(word, word)

    def known(self) -> list[tuple[str, str, str]]:
        """Type, fingerprint and place of each key that the host may have."""
        return [(hostkeys.spoken(entry.kind), entry.fingerprint, entry.place) for entry in self.entries if not entry.marker]

    def _changed(self, blob: bytes) -> HostKeyRefused:
        new = f"{hostkeys.spoken(hostkeys.kind(blob))} {hostkeys.fingerprint(blob)}"
        return refusals.changed_key(self._config.name, self.name, new, self.known())

    def _contradicted(self, blob: bytes) -> str:
        """A sentence when the address is known with another key."""
        others = [entry for entry in self._of_address if not entry.marker]
        if not others or any(entry.blob == blob for entry in others):
            return ""
        return f"Its address {self._address} is known with another key: {others[0].fingerprint} ({others[0].place})"

    def _revoked(self, blob: bytes) -> str:
        """Where the key is revoked; empty when it is not. A list that cannot be read revokes everything, as in OpenSSH."""
        found = next((entry.place for entry in self.entries if entry.marker == "revoked" and entry.blob == blob), "")
        if found:
            return found
        for file in self._config.paths("revokedhostkeys"):
            try:
                if hostkeys.revoked(file, blob):
                    return file
            except (OSError, ValueError) as error:
                return f"{file}, which cannot be read ({error})"
        return ""
