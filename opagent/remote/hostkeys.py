"""Which keys known_hosts names for a host, and the line for a new one. Decides nothing, asks nobody.

Files are read as sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT", says: patterns, `!`, `[host]:port`, hashed names,
@cert-authority, @revoked.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import fnmatch
import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

KRL = b"SSHKRL\n\0"


@dataclass(frozen=True, slots=True)
class Entry:
    """One key of one line. `marker`: empty, `cert-authority` or `revoked`."""

    marker: str
    kind: str
    blob: bytes
    file: str
    line: int

    @property
    def place(self) -> str:
        return f"{self.file}:{self.line}"

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.blob)

    @property
    def text(self) -> str:
        """As asyncssh and OpenSSH read a public key."""
        return key_text(self.blob)


def fingerprint(blob: bytes) -> str:
    """`SHA256:...`, as `ssh-keygen -l` prints it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def key_text(blob: bytes) -> str:
    """Type and key, as files of OpenSSH hold them."""
    return f"{kind(blob)} {base64.b64encode(blob).decode()}"


def kind(blob: bytes) -> str:
    """The type that stands in the key itself."""
    size = int.from_bytes(blob[:4], "big")
    return blob[4 : 4 + size].decode("ascii", "replace")


_WORDS = {"ssh-ed25519": "ED25519", "ssh-rsa": "RSA", "ssh-dss": "DSA"}


def spoken(name: str) -> str:
    """The type of a key as `ssh` writes it: ED25519, RSA, ECDSA."""
    plain = re.sub(r"-cert-v01@openssh\.com$|@openssh\.com$", "", name)
    return _WORDS.get(plain, "ECDSA" if "ecdsa" in plain else "ED25519-SK" if plain == "sk-ssh-ed25519" else plain)


def host_name(host: str, port: int) -> str:
    """How known_hosts names a host at a port."""
    return host.lower() if port in (0, 22) else f"[{host.lower()}]:{port}"


def look_up(files: Iterable[str], names: Iterable[str]) -> list[Entry]:
    """All entries for any of the names. A file that is not there or not ours to read says nothing."""
    wanted = [name for name in names if name]
    found: list[Entry] = []
    for file in files:
        with contextlib.suppress(OSError):
            found += parse(file, Path(file).read_text(errors="replace"), wanted)
    return found


def parse(file: str, text: str, names: list[str]) -> list[Entry]:
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        marker = words.pop(0)[1:] if words[0].startswith("@") else ""
        if len(words) < 3 or marker not in ("", "cert-authority", "revoked"):
            continue
        if any(_matches(words[0], name) for name in names):
            with contextlib.suppress(binascii.Error, ValueError):
                found.append(Entry(marker, words[1], base64.b64decode(words[2], validate=True), file, number))
    return found


def _matches(patterns: str, name: str) -> bool:
    if patterns.startswith("|1|"):
        with contextlib.suppress(binascii.Error, ValueError):
            salt, digest = (base64.b64decode(part) for part in patterns[3:].split("|"))
            return hmac.compare_digest(hmac.new(salt, name.encode(), hashlib.sha1).digest(), digest)
        return False
    found = False
    for pattern in patterns.lower().split(","):
        if fnmatch.fnmatchcase(name, _escaped(pattern.removeprefix("!"))):
            if pattern.startswith("!"):
                return False
            found = True
    return found


def _escaped(pattern: str) -> str:
    """Brackets stand for themselves: only `*` and `?` are patterns there."""
    return pattern.replace("[", "[[]")


def revoked(file: str, blob: bytes) -> bool:
    """Whether a list of revoked keys (RevokedHostKeys) names the key. Raises OSError, and ValueError for a binary list."""
    data = Path(file).read_bytes()
    if data.startswith(KRL):
        raise ValueError(f"{file} is a binary list")
    wanted = base64.b64encode(blob).decode()
    return any(wanted in line.split() for line in data.decode(errors="replace").splitlines() if not line.startswith("#"))


def line_for(name: str, blob: bytes, hashed: bool, salt: bytes = b"") -> str:
    """The line of a new key."""
    if hashed:
        salt = salt or secrets.token_bytes(20)
        digest = hmac.new(salt, name.encode(), hashlib.sha1).digest()
        name = "|1|" + "|".join(base64.b64encode(part).decode() for part in (salt, digest))
    return f"{name} {key_text(blob)}\n"


def add(file: str, line: str) -> None:
    """Append a line, in one write; makes the file and its directory where they are missing. Raises OSError."""
    path = Path(file)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        size = os.fstat(fd).st_size
        start = b"\n" if size and os.pread(fd, 1, size - 1) != b"\n" else b""
        os.write(fd, start + line.encode())
        with contextlib.suppress(OSError):  # /dev/null takes it, and cannot sync it
            os.fsync(fd)
    finally:
        os.close(fd)
