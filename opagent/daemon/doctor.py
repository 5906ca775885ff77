"""What works on this host and what does not, looked at from the daemon; each check says what to do."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING, Any

from opagent import paths
from opagent.daemon import toolshown
from opagent.errors import OpAgentError
from opagent.packages import catalog
from opagent.process import landlock, probe
from opagent.watch.observer import POLL, POLL_IDLE, Observer
from opagent.watch.survey import How

if TYPE_CHECKING:
    from opagent.daemon.host import Host

_LEAST_FREE = 256 * 2**20


def check(name: str, ok: bool | None, sentence: str, hint: str = "") -> dict[str, Any]:
    """`ok` None: it could not be found out, or it is only a piece of advice."""
    return {"name": name, "ok": ok, "sentence": sentence, **({"hint": hint} if hint else {})}


async def checks(host: Host) -> list[dict[str, Any]]:
    """All of them; none takes longer than a look."""
    return [
        _database(host), _place(), _space(), _supervision(), _sandbox(), *watching(host.watching.observer), *_runtimes(host),
        *_tools(host), _journal(host),
    ]  # fmt: skip


def _database(host: Host) -> dict[str, Any]:
    problem = host.database.problem
    if problem is not None:
        return check("database", False, str(problem), problem.hint)
    return check("database", True, f"{paths.database()} is written")


def state_moved() -> str:
    """Why the state does not lie in the user's home; "" when it does, or where a variable puts it."""
    kind = paths.state_moved()
    return f"a database is not safe on {kind}; it is of this machine alone" if kind else ""


def _place() -> dict[str, Any]:
    """On this machine's own disk, or said why not."""
    why = state_moved()
    if why:
        return check("state kept", None, f"{paths.state()}: {why}", "OPAGENT_STATE_DIR names another local directory")
    return check("state kept", True, f"{paths.state()}, of this machine alone")


def _space() -> dict[str, Any]:
    free = shutil.disk_usage(paths.state()).free
    if free < _LEAST_FREE:
        return check("disk", False, f"only {free // 2**20} MiB are free for {paths.state()}", f"df -h {paths.state()}")
    return check("disk", True, f"{free // 2**30} GiB free")


def _supervision() -> dict[str, Any]:
    if hasattr(os, "pidfd_open"):
        return check("supervision", True, "agents are watched by descriptor; what they leave behind is ended with them")
    return check("supervision", False, f"this kernel or Python ({sys.version.split()[0]}) has no pidfd", "use Linux 5.4 or newer")


def _sandbox() -> dict[str, Any]:
    """Which level agents have here where nobody says another one, and what makes it a firmer one."""
    able = probe.strict()
    if able:
        return check("sandbox", True, f"level strict: {able.program} gives each agent mounts, processes and a network of its own")
    if landlock.abi():
        return check("sandbox", None, f"level landlock: inside its workspace nothing holds an agent ({able.why})", able.hint)
    return check("sandbox", False, f"nothing can confine an agent: only those that come with us run ({able.why})", able.hint)


def watching(observer: Observer) -> list[dict[str, Any]]:
    """How saves are noticed: a line for each directory where the system tells nothing of them."""
    watches = observer.watches()
    polled = [watch for watch in watches if watch.state.how is How.POLLING]
    if not polled:
        return [check("saves", True, f"told by the system as they happen; directories: {len(watches)}")]
    return [
        check(
            "saves",
            None,
            f"{watch.directory} is looked at every {POLL:g} to {POLL_IDLE:g} s: {watch.state.why}",
            "sysctl fs.inotify" if "limit" in watch.state.why else "",
        )
        for watch in polled
    ]


def _runtimes(host: Host) -> list[dict[str, Any]]:
    found = []
    path = os.environ.get("PATH", "")
    for name in catalog.names():
        try:
            spec = catalog.find(name)
            argv = catalog.installed(spec, path, sorted(host.workspaces), str(paths.state()))
        except OpAgentError as error:
            found.append(check(f"runtime {name}", None, str(error), error.hint))
        else:
            found.append(check(f"runtime {name}", True, f"{argv[0]} ({spec.source})"))
    return found


def _tools(host: Host) -> list[dict[str, Any]]:
    """The programs of MCP servers that the bindings of opened directories name and that are not here."""
    found = []
    opened = dict(host.workspaces)
    for workspace in (opened | {c.workspace.path: c.workspace for c in host.conversations.values()}).values():
        for name in workspace.loaded.binding.tools:
            if why := toolshown.missing(workspace, name):
                found.append(check(f"tool {name}", False, f"{why}, and {workspace.path} names it", "opagent tools"))
    return found


def _journal(host: Host) -> dict[str, Any]:
    return check("journal", True, f"{host.journal.last_journal()} rows")
