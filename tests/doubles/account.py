"""An sshd with an account of its own, `there`: another user, with a password and any login shell. Takes root; touches no file of /etc.

The server runs in a mount namespace where /etc/passwd, /etc/shadow and /etc/pam.d/sshd are ours.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from opagent.remote import stage1
from tests.doubles.sshd import Sshd, sshd

NUMBER = 61_234
NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="another account takes root: run the tests as root")
PASSWORD = "correct horse"
# nodelay: a wrong password would cost two seconds each
PAM = "auth optional pam_echo.so Look at your token.\nauth required pam_unix.so nodelay\naccount required pam_permit.so\n"
OLD = f"#!/bin/sh\n[ $1 = -V ] && exec echo Python 3.8.18\nexit {stage1.TOO_OLD}\n"


class Account(Sshd):
    shell = "/bin/sh"
    too_old: tuple[Path, ...] = ()  # the Pythons that are of another time there

    def __init__(self, *words: Any) -> None:
        super().__init__(*words)
        self.user = "there"
        self.configure()

    def argv(self) -> list[str]:
        places = {"passwd": "/etc/passwd", "shadow": "/etc/shadow", "pam": "/etc/pam.d/sshd"}
        self._write()
        mounts = [f"mount --bind {shlex.quote(str(self.folder / name))} {place}" for name, place in places.items()]
        mounts += [f"mount --bind {shlex.quote(str(self.folder / 'old'))} {shlex.quote(str(path))}" for path in self.too_old]
        script = " && ".join([*mounts, "exec " + shlex.join(super().argv())])
        return ["unshare", "--mount", "--propagation", "private", "sh", "-c", script]

    def _write(self) -> None:
        hashed = subprocess.run(["openssl", "passwd", "-6", PASSWORD], check=True, capture_output=True, text=True).stdout.strip()
        line = f"there:x:{NUMBER}:{NUMBER}::{self.home}:{self.shell}\n"
        (self.folder / "passwd").write_text(Path("/etc/passwd").read_text() + line)
        (self.folder / "shadow").write_text(f"root:*:1::::::\nsshd:!:1::::::\nthere:{hashed}:19000::::::\n")
        (self.folder / "pam").write_text(PAM)
        (self.folder / "old").write_text(OLD)
        (self.folder / "old").chmod(0o755)
        for path in (self.folder.parent, self.folder):
            path.chmod(0o711)
        for path in (self.home, self.folder / "run"):
            os.chown(path, NUMBER, NUMBER)
        self.authorized_keys.chmod(0o644)


@contextlib.contextmanager
def account(folder: Path, shell: str = "/bin/sh", too_old: Iterable[Path] = (), **options: object) -> Iterator[Account]:
    """As `sshd`, for the account `there` with `shell`, on a machine where these Pythons are 3.8."""
    Account.shell, Account.too_old = shell, tuple(too_old)
    with sshd(folder, kind=Account, **options) as server:
        assert isinstance(server, Account)
        yield server
