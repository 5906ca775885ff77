"""Our own things on this machine: whose code the daemon runs and when another takes over, and removing everything.

Called by `landing.py` out of an unpacked package, for `host upgrade` and `host forget --purge` too. Touches no workspace.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from opagent import launch, oldcode, paths
from opagent.client import Client
from opagent.errors import Conflict, DaemonUnavailable, HostUnfit, ProtocolMismatch
from opagent.version import VERSION

ENDS_WITHIN = 45.0  # seconds: the daemon itself gives up before
_HINT = "opagent host upgrade"


def make_way(digest: str) -> str:
    """What the daemon here does for code of this digest.

    `none`: there is none; `same`: it runs that code; `kept`: it is of a newer version, or one that the user installed here;
    `leaves`: it works, and goes when it is idle; `stopped`: it was idle. Raises HostUnfit for one that cannot be talked to.
    """
    with contextlib.suppress(OSError):
        if paths.daemon_code().read_text().split()[:1] == [digest]:
            return "same"
    try:
        with Client("landing", start=False) as client:
            status = client.request("daemon/status")
            if status.get("code", "") == digest:
                return "same"
            if not _older(status):
                return "kept"
            if status.get("runs", status.get("running")):
                if "runs" in status:  # an older one would stop at once
                    client.request("daemon/stop", {"when": "idle"})
                return "leaves"
            _stop(client)
    except DaemonUnavailable:
        return "none"
    except ProtocolMismatch as error:
        raise HostUnfit("a daemon of another version runs there, and cannot be talked to", error.why, _HINT) from error
    return "stopped"


def upgrade(digest: str, force: bool = False) -> dict[str, Any]:
    """Take over from the daemon that runs here: `{was, now, runs}`. Raises Conflict where it works and `force` is not given."""
    was = ""
    with contextlib.suppress(DaemonUnavailable), Client("landing", start=False) as client:
        status = client.request("daemon/status")
        was = str(status["version"])
        if status.get("code", "") != digest:
            _free(status, force, f"{_HINT} --force stops it")
            _stop(client)
    launch.connect(start=True, end=time.monotonic() + ENDS_WITHIN).close()
    return {"was": was, "now": VERSION}


def purge(bases: list[Path], force: bool = False) -> dict[str, Any]:
    """Stop the daemon and remove all that is ours: `{removed: [path]}`. Raises Conflict where it works and `force` is not given.

    `bases`: every directory that code may lie in. Workspaces, conversation files and the user's configuration stay.
    """
    sys.dont_write_bytecode = True  # this very code is removed
    with contextlib.suppress(DaemonUnavailable), Client("landing", start=False) as client:
        _free(client.request("daemon/status"), force, "opagent host forget --purge --force stops it")
        _stop(client)
    removed: list[str] = []
    left: list[str] = []
    for place in _ours(bases):
        if place.is_symlink() or not place.is_dir() or place.stat().st_uid != os.geteuid():
            continue
        if not force and oldcode.used(place):  # by another machine with the same home directory
            left.append(str(place))
            continue
        shutil.rmtree(place, ignore_errors=True)
        (left if place.exists() else removed).append(str(place))
        _remove_empty(place.parent)
    return {"removed": removed, "left": left}


def _ours(bases: list[Path]) -> list[Path]:
    """What there may be of this user and this home; beside it, below /var/tmp, may lie what belongs to another home."""
    shared = paths.locals_()
    codes = [base / name for base in bases for name in ("rt", "py", "state") if base in shared]
    return [
        *dict.fromkeys([paths.run(), paths.state(), Path(paths.usual_state()), *(b for b in bases if b not in shared), *codes])
    ]


def _older(status: dict[str, Any]) -> bool:
    """Whether the code of this process takes over: from an older version, or from other pushed code of the same."""
    theirs, ours = _numbers(str(status.get("version", ""))), _numbers(VERSION)
    return theirs < ours or (theirs == ours and bool(status.get("code")))


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)[:3]))


def _free(status: dict[str, Any], force: bool, hint: str) -> None:
    runs = status.get("runs") or []
    if force or not (runs or status.get("running")):
        return
    said = "; ".join(f"{each['agent']} in {each['workspace']} ({each['state']})" for each in runs[:5]) or "a turn"
    raise Conflict("the daemon there is at work", said, hint)


def _stop(client: Client) -> None:
    """The daemon has ended when this returns. Raises Conflict when it does not."""
    from opagent.process import tree  # slow to import

    pid = client.greeting.daemon
    began = tree.start_time(pid)
    client.request("daemon/stop")
    client.close()
    end = time.monotonic() + ENDS_WITHIN
    while tree.start_time(pid) == began and began is not None:
        if time.monotonic() > end:
            raise Conflict("the daemon there does not end", f"its pid is {pid}", "opagent daemon status")
        time.sleep(0.02)


def _remove_empty(folder: Path) -> None:
    """Directories that were only made for ours: below the home directory, and our own below /var/tmp."""
    home = Path(os.path.expanduser("~"))
    while home in folder.parents or folder in paths.locals_():
        try:
            folder.rmdir()
        except OSError:
            return
        folder = folder.parent
