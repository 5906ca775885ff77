"""What a fault must leave alone: files of a home that are none of ours (I12), and a secret that must turn up nowhere (I9)."""

from __future__ import annotations

import base64
import os
import stat
from pathlib import Path
from urllib.parse import quote

FILES = (".bashrc", ".gitconfig", ".ssh/id_ed25519", ".ssh/authorized_keys", "letters/mother.md")
VARIABLE = "CANARY_API_KEY"
SECRET = "canary/7Q+fJ2m&x9=ZpL4wT"  # reads differently in each spelling
_BLOCK = 1 << 20


class Decoy:
    """The files, and how they were."""

    def __init__(self, home: Path) -> None:
        self._home = home
        for name in FILES:
            path = home / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{name} of a person\n")
        self._before = self._now()

    def changes(self) -> list[str]:
        now = self._now()
        names = sorted(now.keys() | self._before.keys())
        return [f"I12: {name} in the home was changed" for name in names if now.get(name) != self._before.get(name)]

    def _now(self) -> dict[str, tuple[int, int, bytes]]:
        """Every file beside the decoys, too: nothing is added there."""
        folders = {self._home / os.path.dirname(name) for name in FILES} - {self._home}
        paths = [self._home / name for name in FILES if "/" not in name] + [
            each for folder in folders for each in folder.iterdir()
        ]
        return {str(path.relative_to(self._home)): _state(path) for path in paths if path.exists()}


def _state(path: Path) -> tuple[int, int, bytes]:
    found = path.lstat()
    return found.st_mode, found.st_mtime_ns, path.read_bytes()


def spellings(secret: str) -> list[bytes]:
    """Raw, quoted for a URL, and base64 at each of the three places where it may begin."""
    raw = secret.encode()
    coded = [base64.b64encode(b"\0" * shift + raw)[shift and shift + 1 : -4] for shift in range(3)]
    return [raw, quote(secret, safe="").encode(), *coded]


def found(secret: str, *tops: Path) -> list[str]:
    """Files below these directories that hold the secret in any spelling."""
    forms = spellings(secret)
    return [
        f"I9: the secret stands in {path}"
        for top in tops
        for path in top.rglob("*")
        if stat.S_ISREG(path.lstat().st_mode) and _holds(path, forms)
    ]


def _holds(path: Path, forms: list[bytes]) -> bool:
    kept = max(map(len, forms))
    last = b""
    try:
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                if any(form in last + block for form in forms):
                    return True
                last = block[-kept:]
    except OSError:
        return False  # it went away meanwhile, or is of another user
    return False
