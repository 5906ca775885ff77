"""Packages of npm into one directory, none of their scripts run; a node of their own where this machine's is too old."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from opagent.errors import InstallFailed
from opagent.packages.fetching import Fetched, Part, Script, Tools
from opagent.packages.origin import Origin

NODE = 24  # the major version of a private node, where a newer one is not asked for
_QUIET = ("--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error", "--omit=dev")
_EVENTS = ("preinstall", "install", "postinstall")
_NPM = "apt-get install npm, or your system's way to get Node.js"
_CLAUSE = re.compile(r"(>=|\^|~|=)?\s*v?([0-9]+(?:\.[0-9]+){0,2})")


def fetch(origin: Origin, package: Path, tools: Tools, needs: str = "") -> Fetched:
    """`needs`: the node it wants, as `>=22`; without it the package itself is asked. Raises InstallFailed and its kind."""
    tools.find("npm", _NPM)
    wanted = f"{origin.place}@{origin.version or 'latest'}"
    private = node_for(needs or engines(wanted, package, tools), package, tools)
    if private:
        tools = tools.first(node_bin(package))
    words = ["npm", "install", *_QUIET, "--save-exact", "--prefix", str(package), wanted, *origin.also]
    tools.run(words, package)
    found = json.loads((package / "node_modules" / origin.place / "package.json").read_bytes())
    parts, scripts = contents(package)
    return Fetched(str(found["version"]), parts, scripts, private, programs(found))


def dependencies(package: Path, tools: Tools, needs: str = "") -> Fetched:
    """What the package.json of a folder names; exactly what its lock file says where it has one."""
    private = node_for(needs, package, tools)
    if private:
        tools = tools.first(node_bin(package))
    tools.find("npm", _NPM)
    locked = any((package / name).exists() for name in ("package-lock.json", "npm-shrinkwrap.json"))
    tools.run(["npm", "ci" if locked else "install", *_QUIET, "--prefix", str(package)], package)
    parts, scripts = contents(package)
    return Fetched("", parts, scripts, private)


def rebuild(names: list[str]) -> list[str]:
    """The command that runs the scripts of these packages; in the package's directory."""
    return ["npm", "rebuild", "--foreground-scripts", "--no-update-notifier", "--ignore-scripts=false", *names]


def contents(package: Path) -> tuple[tuple[Part, ...], tuple[Script, ...]]:
    """Every package below node_modules with its hash, and the scripts that were not run."""
    try:
        lock = json.loads((package / "node_modules/.package-lock.json").read_bytes())
    except FileNotFoundError:
        return (), ()
    parts: list[Part] = []
    scripts: list[Script] = []
    for place, each in sorted(lock.get("packages", {}).items()):
        name = str(each.get("name") or place.rpartition("node_modules/")[2])
        if not each.get("link"):
            parts.append(Part(name, str(each.get("version", "")), str(each.get("integrity", ""))))
        if each.get("hasInstallScript"):
            scripts += _scripts(package / place, name, str(each.get("version", "")))
    return tuple(parts), tuple(scripts)


def _scripts(folder: Path, name: str, version: str) -> Iterator[Script]:
    try:
        said = json.loads((folder / "package.json").read_bytes()).get("scripts", {})
    except (OSError, ValueError):
        said = {}
    found = [Script(name, version, event, str(said[event])) for event in _EVENTS if event in said]
    yield from found or [Script(name, version, "install", "node-gyp rebuild")]


def programs(manifest: dict[str, Any]) -> tuple[str, ...]:
    """The programs of a package, the one that npx would run first."""
    said = manifest.get("bin") or {}
    name = str(manifest.get("name", "")).rpartition("/")[2]
    found = [name] if isinstance(said, str) else list(said)
    return tuple(sorted(found, key=lambda each: each != name))


def engines(wanted: str, package: Path, tools: Tools) -> str:
    """The versions of node that a package wants; "" for any."""
    said = tools.run(["npm", "view", wanted, "engines", "--json", "--no-update-notifier", "--loglevel=error"], package).strip()
    found = json.loads(said) if said else {}
    last = found[-1] if isinstance(found, list) and found else found
    return str(last.get("node", "")) if isinstance(last, dict) else ""


# ---- node ------------------------------------------------------------------------------------------------------------------


def node_bin(package: Path) -> Path:
    return package / "node/node_modules/.bin"


def node_for(wanted: str, package: Path, tools: Tools) -> str:
    """Fetches a node of its own where the one on PATH is not what is wanted. Its version, "" where none is needed."""
    if not wanted or accepts(wanted, here(tools, package)):
        return ""
    tools.find("npm", _NPM)
    lowest = max((int(found[2].split(".")[0]) for found in _CLAUSE.finditer(wanted)), default=NODE)
    name = f"node-{'darwin' if platform.system() == 'Darwin' else 'linux'}-{_architecture()}"
    place = package / "node"
    place.mkdir()
    tools.run(["npm", "install", *_QUIET, "--save-exact", "--prefix", str(place), f"{name}@{max(NODE, lowest)}"], place)
    version = here(tools.first(node_bin(package)), package)
    if not accepts(wanted, version):
        raise InstallFailed(f"node {wanted} is needed", f"npm has {version or 'none'} for this machine", "node --version")
    return version


def here(tools: Tools, cwd: Path) -> str:
    """The version of node on PATH, "" for none."""
    try:
        return tools.run(["node", "--version"], cwd).strip().removeprefix("v")
    except (OSError, InstallFailed):
        return ""


def accepts(wanted: str, version: str) -> bool:
    """Whether a version is in a range: `>=22`, `^20.19 || >=22.12`, `18 || 20`. What is not understood counts as wanted."""
    if not version:
        return False
    have = _numbers(version)
    for clause in wanted.split("||"):
        found = _CLAUSE.findall(clause)
        if not found or all(_one(mark, _numbers(number), have) for mark, number in found[:1]):
            return True
    return False


def _one(mark: str, number: tuple[int, ...], have: tuple[int, ...]) -> bool:
    if mark in (">=", ""):
        return have >= number if mark else have[: len(number)] == number
    same = 1 if mark == "^" else min(2, len(number))
    return have >= number and have[:same] == number[:same]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"[0-9]+", version.split("-")[0])[:3])


def _architecture() -> str:
    machine = os.uname().machine
    return {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64"}.get(machine, machine)
