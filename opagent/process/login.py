"""The PATH that a login shell of this user has, asked of the shell itself; blocks, and takes nothing else of it.

Whoever comes over SSH brings no environment, and sshd gives a program the PATH of a bare system: what the user installed in
`~/.local/bin` or through a version manager is not on it.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import select
import signal
import subprocess
import time
from collections.abc import Mapping

WITHIN = 3.0  # seconds
MOST = 1 << 20  # bytes of noise
BESIDE = ("~/.local/bin", "/usr/local/bin")  # where the shell does not answer


def path(environment: Mapping[str, str], within: float = WITHIN) -> str:
    """Never raises. What a start-up file prints, reads or leaves running does not matter; one that takes too long does."""
    return _asked(environment, within) or _guessed(environment)


def _guessed(environment: Mapping[str, str]) -> str:
    own = [part for part in environment.get("PATH", os.defpath).split(":") if part]
    return ":".join(dict.fromkeys([*own, *map(os.path.expanduser, BESIDE)]))


def _asked(environment: Mapping[str, str], within: float) -> str:
    shell = environment.get("SHELL", "") or _shell()
    nonce = secrets.token_hex(16)
    if not shell.startswith("/"):
        return ""
    login = "-c" if os.path.basename(shell).endswith("csh") else "-lc"  # csh takes -l alone only
    argv = [shell, login, f"echo; echo {nonce}; printenv PATH; echo {nonce}"]
    try:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=dict(environment),
            cwd=os.path.expanduser("~"), start_new_session=True,
        )  # fmt: skip
    except OSError:
        return ""
    assert process.stdout is not None
    with process.stdout:
        try:
            said = _between(process.stdout.fileno(), nonce.encode(), time.monotonic() + within)
        finally:
            with contextlib.suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    found = said.strip().decode("utf-8", "surrogateescape")
    return found if found and all(part.startswith("/") for part in found.split(":") if part) else ""


def _between(fd: int, nonce: bytes, end: float) -> bytes:
    """What stands between two lines of the nonce; empty when they do not come."""
    mark, seen = b"\n" + nonce + b"\n", b""
    while seen.count(mark) < 2 and len(seen) < MOST and select.select([fd], [], [], max(0.0, end - time.monotonic()))[0]:
        part = os.read(fd, 1 << 16)
        if not part:
            break
        seen += part
    parts = seen.replace(mark, b"\n" + mark).split(mark)
    return parts[1] if len(parts) > 2 else b""


def _shell() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_shell
    except KeyError:
        return ""
