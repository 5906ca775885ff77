"""The keys that we can show a server, in the order of OpenSSH: configured ones the agent holds, others of the agent, key files.

A passphrase is asked when the server has said that it would take that key. Nothing is stored. asyncssh does the signing.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import asyncssh

from opagent.remote.seam import Ask, Question
from opagent.remote.sshconfig import HostConfig, agent_path

TRIES = 3
_HEAD, _MAGIC = b"-----BEGIN OPENSSH PRIVATE KEY-----", b"openssh-key-v1\0"
_UNREADABLE = (OSError, ValueError, asyncssh.KeyImportError, asyncssh.KeyEncryptionError)


@dataclass(slots=True)
class Tried:
    """For the error: the keys that were offered, why others were not, and whether one of them is for OpenSSH alone."""

    offered: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    security_key: bool = False


class FileKey(asyncssh.SSHKeyPair):
    """A private key in a file, read when a signature is wanted."""

    def __init__(
        self, path: str, public: asyncssh.SSHKey, keys: Keys, certificate: asyncssh.SSHCertificate | None = None
    ) -> None:
        name, algorithms = public.algorithm, public.sig_algorithms
        super().__init__(name, name, algorithms, algorithms, public.public_data, None, certificate)
        self._path, self._keys = path, keys

    async def sign_async(self, data: bytes) -> bytes:
        """Raises ValueError when nobody unlocks the key: asyncssh goes on with the next one."""
        return (await self._keys.unlocked(self._path)).sign(data, self.sig_algorithm)


class Keys:
    """The keys for one host; `pairs` gives them one at a time."""

    def __init__(self, config: HostConfig, ask: Ask, agent: str | None) -> None:
        self._config, self._ask = config, ask
        self._agent_path = agent_path(config, agent)
        self._agent: asyncssh.SSHAgentClient | None = None
        self._open: dict[str, asyncssh.SSHKey] = {}
        self.tried = Tried()

    def close(self) -> None:
        if self._agent is not None:
            self._agent.close()

    async def pairs(self) -> AsyncIterator[asyncssh.SSHKeyPair]:
        held = {pair.public_data: pair for pair in await self._of_agent()}
        files = [(path, _public_part(path)) for path in self._files()]
        certificates, used = list(self._certificates()), set()
        for path, public in files:
            if public is not None and public.public_data in held:
                pair = held.pop(public.public_data)
                used.add(public.public_data)
                for certificate in (one for one in certificates if one.key.public_data == public.public_data):
                    if certificate.public_data not in held:
                        yield self._noted(self._certified(pair, certificate), f"the certificate of {path}")
                yield self._noted(pair, f"{path} of the agent")
        if not self._config.yes("identitiesonly"):
            for pair in held.values():
                yield self._noted(pair, f"{pair.get_comment(errors='replace') or 'a key'} of the agent")
        for path, public in files:
            if public is None or public.public_data not in used:
                async for pair in self._of_file(path, public, certificates):
                    yield pair

    async def unlocked(self, path: str) -> asyncssh.SSHKey:
        """The private key of a file. Raises ValueError when nobody gives its passphrase, or three wrong ones."""
        if path not in self._open:
            self._open[path] = await self._unlock(path)
        return self._open[path]

    async def _unlock(self, path: str) -> asyncssh.SSHKey:
        data, again = Path(path).read_bytes(), ""
        if not _closed(data):
            return asyncssh.import_private_key(data)
        for _ in range(TRIES):
            answer = await self._ask(Question("passphrase", f"{again}passphrase of {path}", secret=True))
            if answer is None:
                self.tried.left_out.append(f"{path} has a passphrase, and nobody was asked for it or gave it")
                raise ValueError("no passphrase")
            try:
                return await asyncio.to_thread(asyncssh.import_private_key, data, answer)
            except asyncssh.KeyEncryptionError:
                again = "That was wrong. "
            except asyncssh.KeyImportError as error:  # also for a wrong passphrase of an older format
                self.tried.left_out.append(f"{path}: {error}")
                again = "That was wrong. "
        self.tried.left_out.append(f"{path}: {TRIES} wrong passphrases")
        raise ValueError("wrong passphrases")

    async def _of_file(
        self, path: str, public: asyncssh.SSHKey | None, certificates: list[asyncssh.SSHCertificate]
    ) -> AsyncIterator[asyncssh.SSHKeyPair]:
        if problem := _unusable(path):
            self.tried.left_out.append(f"{path} {problem}")
            return
        if public is None:  # an old format, closed: it shows nothing before the passphrase
            try:
                public = (await self.unlocked(path)).convert_to_public()
            except _UNREADABLE as error:
                self.tried.left_out.append(f"{path}: {error}")
                return
        if public.algorithm.startswith(b"sk-"):
            self.tried.security_key = True
            self.tried.left_out.append(f"{path} is a security key, which the agent does not hold")
            return
        for certificate in certificates:
            if certificate.key.public_data == public.public_data:
                yield self._noted(FileKey(path, public, self, certificate), f"the certificate of {path}")
        yield self._noted(FileKey(path, public, self), path)

    def _noted(self, pair: asyncssh.SSHKeyPair, source: str) -> asyncssh.SSHKeyPair:
        self.tried.offered.append(source)
        return pair

    def _certified(self, pair: asyncssh.SSHKeyPair, certificate: asyncssh.SSHCertificate) -> asyncssh.SSHKeyPair:
        """The agent's key once more, with its certificate."""
        assert self._agent is not None
        plain = asyncssh.SSHAgentKeyPair(self._agent, pair.algorithm, pair.public_data, b"")
        plain.set_certificate(certificate)
        return plain

    def _files(self) -> Iterator[str]:
        """Key files in the order of the configuration; those of ssh's own list that are not here are not meant."""
        seen = set()
        for path in self._config.paths("identityfile"):
            if path not in seen and (os.path.exists(path) or os.path.exists(path + ".pub")):
                seen.add(path)
                yield path

    def _certificates(self) -> Iterator[asyncssh.SSHCertificate]:
        for path in [*self._config.paths("certificatefile"), *(path + "-cert.pub" for path in self._files())]:
            with contextlib.suppress(*_UNREADABLE):
                yield asyncssh.read_certificate(path)

    async def _of_agent(self) -> list[asyncssh.SSHKeyPair]:
        if not self._agent_path:
            return []
        try:
            self._agent = asyncssh.SSHAgentClient(self._agent_path)
            return list(await self._agent.get_keys())
        except (OSError, ValueError) as error:
            self.tried.left_out.append(f"the agent at {self._agent_path} gives no keys: {error}")
            return []


def _public_part(path: str) -> asyncssh.SSHKey | None:
    """The public key that belongs to a file, without asking; None when nothing shows it. A file may hold the public key alone."""
    with contextlib.suppress(*_UNREADABLE):
        return asyncssh.read_public_key(path + ".pub")
    with contextlib.suppress(*_UNREADABLE):
        return asyncssh.read_public_key(path)
    with contextlib.suppress(*_UNREADABLE):
        data = Path(path).read_bytes()
        if data.startswith(_HEAD):
            return asyncssh.import_public_key(_public_line(_body(data)))
        if not _closed(data):
            return asyncssh.import_private_key(data).convert_to_public()
    return None


def _unusable(path: str) -> str:
    try:
        status = os.stat(path)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if status.st_uid == os.getuid() and status.st_mode & 0o077:
        return f"is open to others, so it is not used (chmod 600 {path})"
    if not os.access(path, os.R_OK):
        return "cannot be read: permission denied"
    with open(path, "rb") as file:
        return "" if b"PRIVATE KEY" in file.read(200) else "is no private key, and the agent does not hold it"


def _body(data: bytes) -> bytes:
    return base64.b64decode(b"".join(data.strip().splitlines()[1:-1]))


def _closed(data: bytes) -> bool:
    """Whether a passphrase is needed. PEM says so in words; OpenSSH's own format names the cipher first."""
    if not data.startswith(_HEAD):
        return b"ENCRYPTED" in data
    rest = _body(data).removeprefix(_MAGIC)
    return rest[4 : 4 + int.from_bytes(rest[:4], "big")] != b"none"


def _public_line(data: bytes) -> bytes:
    """The public key in the open head of a closed private key (PROTOCOL.key of OpenSSH), as a line."""
    rest = data.removeprefix(_MAGIC)
    for _ in range(3):  # cipher, kdf, its options
        rest = rest[4 + int.from_bytes(rest[:4], "big") :]
    blob = rest[8 : 8 + int.from_bytes(rest[4:8], "big")]
    return blob[4 : 4 + int.from_bytes(blob[:4], "big")] + b" " + base64.b64encode(blob)
