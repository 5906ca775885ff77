"""The environment an agent starts with: built from named variables, never filtered from ours; reads no file but links in PATH.

    environment = build(client, binding.capabilities.env, runtime, process=id, state=directory, workspace=root)

`client` is the environment of the person's command that opened the workspace; the daemon's own reaches no agent.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping

from opagent.model import RuntimeSpec

BASE = ("HOME", "USER", "LOGNAME", "PATH", "LANG", "TZ", "TERM", "TMPDIR")  # and LC_*
DEFAULTS = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "TERM": "dumb"}

_NAME = re.compile(r"[A-Z_][A-Z0-9_]*")
_LOCALE = re.compile(r"LC_[A-Z]+")
# What changes which code runs, where it talks to, or who it speaks as. `*` stands for anything.
FORBIDDEN = """
    LD_* DYLD_* GCONV_PATH BASH_ENV ENV IFS PROMPT_COMMAND
    PYTHONPATH PYTHONSTARTUP PYTHONHOME PYTHONINSPECT PYTHONBREAKPOINT NODE_OPTIONS NODE_PATH PERL5* RUBYOPT
    JAVA_TOOL_OPTIONS _JAVA_OPTIONS GIT_* SSH_AUTH_SOCK SSH_ASKPASS
    DBUS_* XDG_RUNTIME_DIR DISPLAY WAYLAND_DISPLAY
    *_BASE_URL *_API_BASE *_ENDPOINT *_PROXY OPAGENT_*
"""
_FORBIDDEN = re.compile("|".join(pattern.replace("*", ".*") for pattern in FORBIDDEN.split()))


def forbidden(name: str) -> bool:
    """Whether a binding may never pass this variable; also true for what is no variable name at all."""
    return not _NAME.fullmatch(name) or bool(_FORBIDDEN.fullmatch(name))


def build(
    client: Mapping[str, str], passed: Iterable[str], runtime: RuntimeSpec, *, process: str, state: str, workspace: str
) -> dict[str, str]:
    """The whole environment. The runtime's constants win over what is passed, OpAgent's own names over everything.

    A forbidden name, and one that the runtime reserves for itself, is left out of `passed`: the binding's loader has already
    refused it, and this is the last door.
    """
    environment = DEFAULTS | {name: client[name] for name in client if name in BASE or _LOCALE.fullmatch(name)}
    environment["PATH"] = ":".join([*runtime.bin, safe_path(environment["PATH"], workspace) or DEFAULTS["PATH"]])
    reserved = {*runtime.pass_env, *runtime.env}
    wanted = [name for name in passed if not forbidden(name) and name not in reserved and name not in BASE]
    environment |= {name: client[name] for name in (*wanted, *runtime.pass_env) if name in client}
    environment |= runtime.env
    kept = {name: value for name, value in environment.items() if not name.startswith("OPAGENT_") and "\0" not in value}
    return kept | {"OPAGENT_PROCESS": process, "OPAGENT_STATE": state}


def plain(client: Mapping[str, str], workspace: str) -> dict[str, str]:
    """For a program of the user's own that the daemon starts: the base and nothing else."""
    found = DEFAULTS | {"HOME": os.path.expanduser("~")}
    found |= {name: client[name] for name in client if (name in BASE or _LOCALE.fullmatch(name)) and "\0" not in client[name]}
    found["PATH"] = safe_path(found["PATH"], workspace) or DEFAULTS["PATH"]
    return found


def safe_path(path: str, workspace: str) -> str:
    """PATH without entries that are relative or lead into the workspace: a repository must not decide what `git` means."""
    root = os.path.realpath(workspace)
    kept: list[str] = []
    for entry in path.split(":"):
        if not os.path.isabs(entry) or entry in kept:
            continue
        if not any(_inside(way, root) for way in (os.path.normpath(entry), os.path.realpath(entry))):
            kept.append(entry)
    return ":".join(kept)


def _inside(path: str, root: str) -> bool:
    return path == root or path.startswith(root.rstrip("/") + "/")
