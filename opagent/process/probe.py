"""What this machine can do to confine a program, found out by doing it once; kept until something it depends on changes.

found = probe.strict()    # blocks for some 20 ms the first time of a boot: for a thread
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from opagent import files, paths
from opagent.process import tree
from opagent.process.box import Pipes, Started
from opagent.process.profile import Profile
from opagent.process.sandbox import BWRAP, Bwrap
from opagent.process.spawn import unawaited

WITHIN = 10.0  # seconds
_VERSION = 2  # of what is tried


@dataclass(frozen=True, slots=True)
class Ability:
    """`program`: the bwrap to use, "" where it does not work; then `why` and `hint` say what would help."""

    program: str = ""
    why: str = ""
    hint: str = ""

    def __bool__(self) -> bool:
        return bool(self.program)


_known: dict[tuple[str, ...], Ability] = {}


def strict() -> Ability:
    """Whether level `strict` works here."""
    if sys.platform != "linux":
        return Ability(why=f"there is no bubblewrap for {sys.platform}")
    program = _bwrap()
    if not program:
        return Ability(why="bwrap is not installed", hint=install())
    key = _key(program)
    if key not in _known:
        _known[key] = _kept(key) or _try(program)
        _keep(key, _known[key])
    return _known[key]


def mark() -> str:
    """What its processes carry. bwrap's init may outlive a daemon that is killed in this moment: the next one ends it."""
    return f"probe-{hashlib.sha256(os.fsencode(paths.state())).hexdigest()[:12]}"


def install() -> str:
    """The command that installs bubblewrap here."""
    managers = {"apt-get": "install", "dnf": "install", "zypper": "install", "apk": "add"}
    found = next((name for name in managers if shutil.which(name)), "")
    if not found:
        return "pacman -S bubblewrap" if shutil.which("pacman") else "install bubblewrap"
    sudo = "" if os.geteuid() == 0 else "sudo "
    return f"{sudo}{found.replace('apt-get', 'apt')} {managers[found]} bubblewrap"


def _bwrap() -> str:
    """The path that profiles of the system name, else one on the daemon's own PATH that nobody else could have written."""
    if os.access(BWRAP, os.X_OK):
        return BWRAP
    found = shutil.which("bwrap") or ""
    return found if found.startswith("/") and not files.owner_problem(found, os.stat(found)) else ""


def _key(program: str) -> tuple[str, ...]:
    found = os.stat(program)
    return (tree.boot_id(), os.uname().release, program, str(found.st_ino), str(found.st_mtime_ns), str(_VERSION))


def _try(program: str) -> Ability:
    """Run `true` in the whole profile, in a directory of its own."""
    if os.stat(program).st_mode & stat.S_ISUID:
        return Ability(why=f"{program} is set-uid, and takes fewer options then", hint=f"sudo chmod u-s {program}")
    with tempfile.TemporaryDirectory(prefix="probe-", dir=files.private_directory(paths.state())) as folder:
        workspace = os.path.realpath(folder)
        Path(workspace, "protected").touch()
        Path(workspace, "hidden").touch()
        box = Bwrap(Profile(workspace, protected=("protected",), hidden=("hidden",)), program)
        null, said = os.open(os.devnull, os.O_RDWR), os.memfd_create("said")
        try:
            env = {"PATH": "/usr/bin:/bin", tree.MARKER: mark()}
            started = box.start(("/usr/bin/true",), env, workspace, Pipes(null, null, said))
            unawaited.add(started.popen.pid)
            code = _ended(started)
            words = os.pread(said, 4096, 0).decode("utf-8", "replace").strip()
        except OSError as error:
            return Ability(why=str(error), hint="opagent doctor")
        finally:
            os.close(null)
            os.close(said)
    if code == 0:
        return Ability(program)
    return Ability(why=words.splitlines()[-1] if words else f"bwrap ended with {code}", hint=_help(words))


def _ended(started: Started) -> int:
    """Its exit status; killed when it takes too long."""
    process = started.popen
    try:
        return process.wait(WITHIN)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # bwrap alone might leave its init, which then waits for it for ever
        return process.wait()
    finally:
        unawaited.discard(process.pid)
        os.close(started.status)


def _help(said: str) -> str:
    """What makes it work, for what bwrap complained of."""
    if "uid map" in said or "Creating new namespace" in said or "Operation not permitted" in said:
        for name, wanted in (("kernel/apparmor_restrict_unprivileged_userns", "0"), ("kernel/unprivileged_userns_clone", "1")):
            with contextlib.suppress(OSError):
                if Path("/proc/sys", name).read_text().strip() != wanted:
                    return f"sudo sysctl {name.replace('/', '.')}={wanted}"
        return "sudo sysctl user.max_user_namespaces=15000"
    if "Unknown option" in said:
        return f"{install()}   # 0.8 or newer"
    return "opagent doctor"


def _kept(key: tuple[str, ...]) -> Ability | None:
    """What an earlier daemon of this boot found."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        said = json.loads(paths.sandbox_probe().read_text())
        if said["key"] == list(key):
            return Ability(str(said["program"]))
    return None


def _keep(key: tuple[str, ...], found: Ability) -> None:
    """Only that it works: what does not may be put right at any time."""
    if found:
        with contextlib.suppress(OSError):
            files.write_whole(paths.sandbox_probe(), json.dumps({"key": key, "program": found.program}).encode(), sync=False)
