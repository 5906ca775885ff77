"""What this machine is like for a daemon, step by step, each with a sentence and what helps; changes nothing.

`host check` shows these beside its own steps (the connection, the difference of the clocks).
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from opagent import control, files, mounts, paths, staying
from opagent.client import Client
from opagent.errors import DaemonUnavailable, OpAgentError
from opagent.version import VERSION

_ROOM = 64 * 2**20  # bytes: our code, its bytecode, a database that begins
_NAMES = ("python", "base", "state", "run", "noexec", "logout", "sandbox", "daemon")


def step(name: str, ok: bool | None, sentence: str, hint: str = "") -> dict[str, Any]:
    """`ok` None: it works, with less."""
    return {"name": name, "ok": ok, "sentence": sentence, **({"hint": hint} if hint else {})}


def check(base: str) -> list[dict[str, Any]]:
    """All steps. One that goes wrong says so and hinders no other."""
    looks: tuple[Callable[[], Iterator[dict[str, Any]]], ...] = (
        _python, lambda: _base(base), _state, _run, lambda: _noexec(base), _logout, _sandbox, _daemon,
    )  # fmt: skip
    found = []
    for name, look in zip(_NAMES, looks, strict=True):
        try:
            found += list(look())
        except (OpAgentError, OSError) as error:
            found.append(step(name, False, str(error), getattr(error, "hint", "")))
    return found


def _python() -> Iterator[dict[str, Any]]:
    yield step("python", True, f"{'.'.join(map(str, sys.version_info[:3]))} at {sys.executable}")


def _base(base: str) -> Iterator[dict[str, Any]]:
    room = os.statvfs(base)
    free = room.f_bavail * room.f_frsize
    ok = free >= _ROOM
    yield step("base", ok, f"our code lies in {base}, {free // 2**20} MiB are free there", "" if ok else f"df -h {base}")


def _state() -> Iterator[dict[str, Any]]:
    kind = paths.state_moved()
    place = files.private_directory(paths.state())
    on = mounts.file_system(str(place)) or "an unknown file system"
    if kind:
        yield step(
            "state", None, f"{place} on {on}: a database is not safe on {kind}", "OPAGENT_STATE_DIR names a local directory"
        )
    elif mounts.untold(str(place)):
        hint = f"OPAGENT_STATE_DIR={paths.local()}"
        yield step("state", False, f"{place} lies on {on}, where a database is not safe", hint)
    else:
        yield step("state", True, f"{place} on {on}")


def _run() -> Iterator[dict[str, Any]]:
    yield step("run", True, f"socket and lock lie in {files.private_directory(paths.run())}")


def _noexec(base: str) -> Iterator[dict[str, Any]]:
    without = [place for place in (base, "/tmp", str(Path.home())) if os.path.isdir(place) and _is_noexec(place)]
    if without:
        yield step("noexec", None, f"no program starts from {', '.join(without)}; ours is read by Python and needs none there")
    else:
        yield step("noexec", True, "programs may lie anywhere")


def _is_noexec(place: str) -> bool:
    return bool(os.statvfs(place).f_flag & os.ST_NOEXEC)


def _logout() -> Iterator[dict[str, Any]]:
    plan = staying.decide(staying.ask())
    yield step("logout", plan.stays, plan.sentence, plan.hint)


def _sandbox() -> Iterator[dict[str, Any]]:
    found = shutil.which("bwrap")
    if found:
        yield step("sandbox", True, f"{found} is there")
    else:
        yield step("sandbox", None, "bwrap is not installed: agents there can be confined less", "install bubblewrap there")


def _daemon() -> Iterator[dict[str, Any]]:
    try:
        with Client("landing", start=False) as client:
            status = client.request("daemon/status")
    except DaemonUnavailable as error:
        none = not error.why
        yield step("daemon", none, "none runs; the next command starts one" if none else str(error))
        return
    since, runs = status["started"], status.get("runs", [])
    yield step("daemon", True, f"pid {status['pid']}, version {status['version']}, since {since}, at work: {len(runs)}")
    low, high = client.greeting.protocol
    sentence = f"it speaks {low} to {high}, version {VERSION} speaks {control.PROTOCOL}"
    yield step("protocol", True, sentence)
