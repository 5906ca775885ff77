"""`opagent doctor`: what works here and what is missing, first without a daemon, then what the daemon says."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from typing import Any

import click

from opagent import files, paths
from opagent.cli.app import App
from opagent.cli.command import Command, pass_app
from opagent.errors import OpAgentError
from opagent.store import features

SYMBOLS = {True: "✓ ok", False: "✗ missing", None: "! look"}
_RUNTIME = "runtime "


@click.command(cls=Command, example="opagent doctor --json", exits=(0, 1, 2))
@pass_app
def doctor(app: App) -> int:
    """What works here and what is missing, with the command that helps; -v: every runtime. Exit code 1 when one fails.

    With --host: what the daemon there says; `opagent host check HOST` looks at the way to it and at the machine.
    """
    checks = [*(_here() if app.here else ()), *_daemon(app)]
    if app.out.json:
        app.out.result({"checks": checks})
    else:
        for check in checks if app.settings.verbose else _shorter(checks):
            app.out.data(f"{SYMBOLS.get(check['ok'], SYMBOLS[None]):10} {check['name']:14} {check['sentence']}")
            if check.get("hint") and not check["ok"]:
                app.out.data(f"{'':25} try: {check['hint']}")
    return 1 if any(check["ok"] is False for check in checks) else 0


def _shorter(checks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One line for all runtimes that are not installed: they are no faults, and nobody needs every one."""
    absent = [check for check in checks if check["ok"] is None and check["name"].startswith(_RUNTIME)]
    if len(absent) < 2:
        return checks
    names = ", ".join(check["name"].removeprefix(_RUNTIME) for check in absent)
    line = _check("runtimes", None, f"{len(absent)} not ready: {names}", "opagent doctor -v")
    return [line if check is absent[0] else check for check in checks if check is absent[0] or check not in absent]


def _here() -> Iterator[dict[str, Any]]:
    """Checks that need no daemon: they tell why there might be none."""
    version = ".".join(map(str, sys.version_info[:3]))
    yield _check("python", sys.version_info >= (3, 11), f"{version} at {sys.executable}", "install Python 3.11 or newer")
    yield _fts5()
    yield _node()
    for name, path in (("state", paths.state()), ("socket", paths.run())):
        try:
            files.private_directory(path)
            yield _check(name, True, str(path))
        except (OpAgentError, OSError) as error:
            yield _check(name, False, str(error), getattr(error, "hint", ""))
    if os.geteuid() == 0:
        sentence = "you are root: limits, modes and read-only files mean nothing to your agents"
        yield _check("user", None, sentence, "use a plain user")
    else:
        yield _check("user", True, f"uid {os.geteuid()}")


def _fts5() -> dict[str, Any]:
    problem = features.full_text()
    if problem:
        return _check("sqlite", False, f"{features.version()} without FTS5 ({problem})", "use a Python whose sqlite3 has FTS5")
    return _check("sqlite", True, f"{features.version()} with FTS5")


def _node() -> dict[str, Any]:
    node = shutil.which("node")
    return _check("node", True if node else None, node or "not found; agents written for Node will not start", "install Node 22")


def _daemon(app: App) -> Iterator[dict[str, Any]]:
    try:
        status = app.ask("daemon/status")
        yield _check("daemon", True, f"pid {status['pid']}, version {status['version']}, socket {status['socket']}")
        yield from app.ask("daemon/doctor")["checks"]
    except OpAgentError as error:
        if not app.here:  # nothing is known of it, and the exit code says why
            raise
        yield _check("daemon", False, str(error), error.hint)


def _check(name: str, ok: bool | None, sentence: str, hint: str = "") -> dict[str, Any]:
    return {"name": name, "ok": ok, "sentence": sentence} | ({"hint": hint} if hint else {})
