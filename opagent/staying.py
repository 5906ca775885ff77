"""Whether what is started now outlives the logout of its user, and how it is started so that it does; starts nothing itself.

systemd-logind ends what a session started when `KillUserProcesses` is yes. Then only a scope of the user's own manager lives on,
and that only while lingering is enabled; a plain `systemd-run --user` would not survive without it even where plain forks do.
(Tried under systemd 252. Sources: logind.conf(5), loginctl(1), systemd-run(1).)
"""

from __future__ import annotations

import os
import pwd
import shutil
from dataclasses import dataclass

_WITHIN = 1.0  # seconds for each of the programs that are asked
_LOGIN1 = ("org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager")
SCOPE = ("systemd-run", "--user", "--scope", "--quiet", "--collect", "--")


@dataclass(frozen=True, slots=True)
class Logind:
    """What logind says. `kills` None: there is none, or it does not answer. `lingers` and `scopes` matter where it kills."""

    kills: bool | None = None
    lingers: bool | None = None
    scopes: bool = False  # systemd-run is there


@dataclass(frozen=True, slots=True)
class Staying:
    """`stays`: whether a logout leaves the daemon alone. `prefix`: words in front of its command line."""

    stays: bool
    sentence: str
    hint: str = ""
    prefix: tuple[str, ...] = ()


def decide(logind: Logind) -> Staying:
    """Pure."""
    if logind.kills is None:
        return Staying(True, "nothing on this machine is known to end processes at a logout")
    if not logind.kills:
        return Staying(True, "a logout leaves the daemon and its agents running (KillUserProcesses=no)")
    ends = "a logout ends the daemon and its agents: KillUserProcesses=yes"
    if not logind.lingers:
        return Staying(False, f"{ends}, and lingering is off", "loginctl enable-linger")
    if not logind.scopes:
        return Staying(False, f"{ends}, and there is no systemd-run", "ask the administrator for KillExcludeUsers")
    return Staying(True, "the daemon runs in a scope of your own, which lingering keeps (KillUserProcesses=yes)", prefix=SCOPE)


def ask() -> Logind:
    """Asks logind through busctl and loginctl. Never raises; takes some 10 ms, where a program hangs a second."""
    if shutil.which("busctl") is None:
        return Logind()
    said = _said("busctl", "get-property", *_LOGIN1, "KillUserProcesses", "KillOnlyUsers", "KillExcludeUsers").splitlines()
    if not said or said[0].split() not in (["b", "true"], ["b", "false"]):
        return Logind()
    kills = said[0].split()[1] == "true" and _meant(*(_names(line) for line in [*said, "", ""][1:3]))
    if not kills:
        return Logind(False)
    lingers = "Linger=yes" in _said("loginctl", "show-user", str(os.getuid()), "--property=Linger").split()
    return Logind(True, lingers, shutil.which("systemd-run") is not None)


def environment() -> dict[str, str]:
    """What a scope needs to find the user's manager; a cron job and a bare SSH session do not have it."""
    place = f"/run/user/{os.getuid()}"
    given = {} if "XDG_RUNTIME_DIR" in os.environ or not os.path.isdir(place) else {"XDG_RUNTIME_DIR": place}
    return {**os.environ, **given}


def _meant(only: set[str], excluded: set[str]) -> bool:
    """Whether the rule is for this user."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = str(os.getuid())
    return name not in excluded and (not only or name in only)


def _names(line: str) -> set[str]:
    """`as 2 "root" "ana"`"""
    return {word.strip('"') for word in line.split()[2:]}


def _said(*argv: str) -> str:
    import subprocess  # slow to import, and whoever asks starts a program anyway

    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_WITHIN, env=environment(), check=False
        )
    except (OSError, subprocess.TimeoutExpired, ValueError):
        return ""
    return done.stdout if done.returncode == 0 else ""
