"""The list of agents in the form of the ACP registry: a stored copy, fetched anew from a URL that a person names, as origins."""

from __future__ import annotations

import difflib
import json
import os
import platform
import re
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from opagent import files, paths
from opagent.errors import FileRefused, InstallFailed, RuntimeNotFound, Usage
from opagent.packages import catalog, versions
from opagent.packages.origin import Origin, parse

MAX_BYTES = 16 << 20
_LOCAL = ("localhost", "127.0.0.1", "::1")
_VARIABLE = re.compile(r"(?!(PATH|HOME)$|OPAGENT_|LD_|DYLD_)[A-Za-z_][A-Za-z0-9_]*")


def entries() -> dict[str, Mapping[str, Any]]:
    """id -> entry, of the copy that was fetched last, else of the one that comes with us. Raises FileRefused."""
    path = paths.runtime_registry()
    try:
        content = files.read_file(path, MAX_BYTES)
    except FileNotFoundError:
        path = Path(__file__).with_name("registry.json")
        content = path.read_bytes()
    try:
        return _read(content)
    except ValueError as error:
        raise FileRefused(f"{path} cannot be read", str(error), f"rm {path}") from error


def refresh(url: str) -> int:
    """Fetches the list and keeps it. How many agents it has. Raises Usage, InstallFailed."""
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOCAL):
        raise Usage(f"{url} is not fetched", "only https:// URLs are", "opagent runtime list --registry https://...")
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310  # https only, above
            content = answer.read(MAX_BYTES + 1)
        found = _read(content[:MAX_BYTES]) if len(content) <= MAX_BYTES else {}
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise InstallFailed(f"{url} is no list of agents that can be fetched", str(error), f"curl -I {url}") from error
    if not found:
        raise InstallFailed(f"{url} is no list of agents", "it names none, or is too long", f"curl -I {url}")
    files.private_directory(paths.runtime_registry().parent)
    files.write_whole(paths.runtime_registry(), content)
    return len(found)


def _read(content: bytes) -> dict[str, Mapping[str, Any]]:
    """Raises ValueError. Entries whose form is not known are passed over: the format grows."""
    said = json.loads(content)
    agents = said.get("agents") if isinstance(said, dict) else None
    if not isinstance(agents, list):
        raise ValueError("it has no list called agents")
    known = (each for each in agents if isinstance(each, dict) and isinstance(each.get("distribution"), dict))
    return {str(each["id"]): each for each in known if versions.NAME.fullmatch(str(each.get("id", "")))}


def find(name: str) -> Origin:
    """Where an agent of the registry comes from. Raises RuntimeNotFound, InstallFailed."""
    known = entries()
    if name not in known:
        near = difflib.get_close_matches(name, [*known, *catalog.names()], 3, 0.6)
        why = f"near: {', '.join(near)}" if near else "neither described here nor in the list of agents"
        raise RuntimeNotFound(f"no runtime is named {name!r}", why, "opagent runtime list --all")
    return convert(known[name])


def convert(entry: Mapping[str, Any]) -> Origin:
    """The first that can be had here: of npm, of PyPI, an archive with a hash. Raises InstallFailed."""
    ways = entry["distribution"]
    title, about = str(entry.get("name", entry["id"]))[:80], _line(str(entry.get("description", "")))
    for kind, scheme in (("npx", "npm"), ("uvx", "pypi")):
        if isinstance(ways.get(kind), dict):
            come = parse(f"{scheme}:{ways[kind].get('package', '')}")[2]
            assert come is not None
            return _with(come, ways[kind], title, about)
    machine = {"arm64": "aarch64", "amd64": "x86_64"}.get(os.uname().machine, os.uname().machine)
    system = f"{platform.system().lower()}-{machine}"
    systems = ways.get("binary")
    one = systems.get(system) if isinstance(systems, dict) else None
    if not isinstance(one, dict):
        raise InstallFailed(
            f"{entry['id']} is not made for this machine", f"there is nothing for {system}", "opagent runtime list --all"
        )
    if not one.get("sha256"):
        hint = f"opagent runtime install '{one.get('archive')}#sha256=...' --name {entry['id']}"
        raise InstallFailed(
            f"{entry['id']} is an archive without a hash", "the list names none, so nothing tells a forged one", hint
        )
    come = parse(f"{one['archive']}#sha256={str(one['sha256']).lower()}")[2]
    assert come is not None
    return _with(come, one, title, about)


def _with(come: Origin, way: Mapping[str, Any], title: str, about: str) -> Origin:
    words = [str(way["cmd"])] if way.get("cmd") else []
    args = way.get("args")
    env = way.get("env") if isinstance(way.get("env"), dict) else {}
    kept = tuple((str(name), str(value)) for name, value in (env or {}).items() if _VARIABLE.fullmatch(str(name)))
    run = (*words, *map(str, args if isinstance(args, list) else ()))
    return Origin(come.kind, come.place, come.version, run=run, env=kept, title=title, about=about)


def _line(text: str) -> str:
    return " ".join(text.split())[:200]
