"""Makes one version of a runtime out of what an origin gives: fetched aside, looked at, hashed, and put there in one rename.

    with versions.exclusive(name):
        installed = install(Wanted(name, origin, folder), tools, consent)    # nothing counts yet: versions.activate

It is killed at any moment, or the disk is full: then nothing but a directory in .staging is left, which the next one sweeps.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from opagent import files
from opagent.errors import Conflict, InstallFailed, OpAgentError, RuntimeInvalid, Usage
from opagent.model import RuntimeSpec
from opagent.packages import catalog, description, npm, pip, sources, tree, versions
from opagent.packages.fetching import Fetched, Script, Tools, translated
from opagent.packages.origin import Origin
from opagent.version import VERSION

_UNFIT = re.compile(r"[^0-9A-Za-z.+_-]+")


@dataclass(frozen=True, slots=True)
class Wanted:
    """`folder`: where its description lies, with the files beside it; None where it is made from the package."""

    name: str
    origin: Origin
    folder: Path | None = None


class Consent(Protocol):
    """Says yes or no to what would be executed; made by whoever speaks to a person."""

    def build(self) -> bool:
        """Called before pip fetches: whether source packages may run their build."""

    def scripts(self, needed: tuple[Script, ...], other: tuple[Script, ...]) -> tuple[Script, ...]:
        """Called once everything was fetched: which scripts run. Raises ScriptsRefused where needed ones may not."""

    def run(self, argv: list[str], package: Path, tools: Tools) -> str:
        """Called to run them: confined where that works. How it was, as a word for the lock file."""


def install(wanted: Wanted, tools: Tools, consent: Consent) -> versions.Installed:
    """The version as it is installed now; one that was there already is left as it is. Raises InstallFailed and its kind."""
    with versions.staging() as (place, held), translated(place):
        ready = place / "ready"
        package = ready / wanted.name
        package.mkdir(parents=True)
        tools = replace(tools, held=held)
        fetched = _fetched(wanted, package, tools, consent)
        spec = _described(wanted, package, fetched)
        ran = _scripts(wanted, fetched, package, tools, consent)
        tree.seal(package)
        digest, count, size = tree.digest(str(package))
        version = _version(wanted, fetched, spec, digest)
        known = _same(wanted.name, version)
        if known:
            return known
        lock = {
            "schema": 1, "name": wanted.name, "version": version, "origin": asdict(wanted.origin),
            "identity": wanted.origin.identity, "described": str(wanted.folder or ""), "digest": digest,
            "files": count, "bytes": size, "node": fetched.node,
            "parts": [asdict(part) for part in fetched.parts], "platform": here(),
            "python": fetched.python, "python_version": pip.version_of(fetched.python, tools, package) if fetched.python else "",
            **fetched.origin, **ran, "at": datetime.now(UTC).isoformat(timespec="seconds"), "by": VERSION,
        }  # fmt: skip
        return put(ready, lock)


def put(ready: Path, lock: dict[str, Any]) -> versions.Installed:
    """A package that lies ready, with its lock file, becomes an installed version."""
    files.write_whole(ready / versions.LOCK, json.dumps(lock, indent=1).encode() + b"\n")
    name, version = str(lock["name"]), str(lock["version"])
    installed = versions.publish(ready, name, version)
    try:
        catalog.startable(installed)
    except OpAgentError:
        versions.forget(name, version)
        raise
    return installed


def here() -> str:
    """The kind of system, as bundles name it."""
    return f"{platform.system().lower()}-{os.uname().machine}"


def _same(name: str, version: str) -> versions.Installed | None:
    return versions.read(name, version) if version in versions.of(name) else None


# ---- fetch -----------------------------------------------------------------------------------------------------------------


def _fetched(wanted: Wanted, package: Path, tools: Tools, consent: Consent) -> Fetched:
    origin = wanted.origin
    needs = _needs(wanted)
    if origin.kind == "npm":
        return npm.fetch(origin, package, tools, needs)
    if origin.kind == "pip":
        return pip.fetch(origin, package, tools, consent.build())
    if origin.kind == "path":
        found = sources.folder(origin, package)
    else:
        found = sources.git(origin, package, tools) if origin.kind == "git" else sources.archive(origin, package)
    more = Fetched("")
    if (package / "package.json").is_file():
        more = npm.dependencies(package, tools, needs or _asked(package))
    elif (package / "requirements.txt").is_file():
        more = pip.dependencies(package, tools, consent.build())
    return replace(found, parts=(*found.parts, *more.parts), scripts=more.scripts, node=more.node, python=more.python)


def _needs(wanted: Wanted) -> str:
    """The node that the description asks for."""
    if wanted.folder is None:
        return ""
    spec = catalog.read(catalog.Entry(wanted.folder.name, wanted.folder, "bundled"))
    return str(spec.needs.get("node", ""))


def _asked(package: Path) -> str:
    said = json.loads((package / "package.json").read_bytes())
    return str((said.get("engines") or {}).get("node", ""))


# ---- the description -------------------------------------------------------------------------------------------------------


def _described(wanted: Wanted, package: Path, fetched: Fetched) -> RuntimeSpec:
    """The package gets its runtime.yaml, from the catalogue or made. Raises RuntimeInvalid, InstallFailed."""
    if wanted.folder is not None:
        _copy(wanted.folder, package)
    path = package / catalog.FILE
    if not path.is_file():
        path.write_text(_made(wanted, fetched, package), "utf-8")
    named = catalog.named_in(str(path))
    if named and named != wanted.name and wanted.folder is None:
        raise Usage(
            f"it calls itself {named}", f"its runtime.yaml says so, and not {wanted.name}", f"the same with --name {named}"
        )
    return description.read(files.read_file(path, catalog.MAX_BYTES), package, "installed")


def _copy(folder: Path, package: Path) -> None:
    """The description and what lies beside it; what was fetched wins."""
    for each in sorted(folder.iterdir()):
        target = package / each.name
        if each.name.startswith(".") or each.name in ("node_modules", "__pycache__") or target.exists():
            continue
        tree.copy(each, target) if each.is_dir() else shutil.copy2(each, target, follow_symlinks=False)


def _made(wanted: Wanted, fetched: Fetched, package: Path) -> str:
    origin = wanted.origin
    if origin.kind not in ("npm", "pip") and not origin.run:
        why = f"{origin.identity} has none, and how it is started is not known"
        raise RuntimeInvalid("a runtime has a runtime.yaml", why, "less docs/reference/runtime-yaml.md")
    command = list(origin.run)
    if not command or command[0].startswith("-"):
        if not fetched.programs:
            raise InstallFailed(
                f"{origin.place} has no program", "a runtime is a program that speaks ACP", "opagent runtime list"
            )
        command = [fetched.programs[0], *command]
    if origin.kind == "archive":
        command[0] = "{package}/" + command[0].removeprefix("./")
        (package / command[0].removeprefix("{package}/")).chmod(0o755)
    said: dict[str, Any] = {"name": wanted.name, "title": origin.title or wanted.name, "about": origin.about[:200]}
    said |= {"command": command, "env": dict(origin.env)}
    if origin.kind in ("npm", "pip"):
        said["install"] = {origin.kind: origin.place.partition("[")[0], "version": fetched.version}
    if fetched.node:
        said["needs"] = {"node": f">={fetched.node.split('.')[0]}"}
    lines = (f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in said.items() if value)
    return "# Made by opagent runtime install: nobody described this agent.\n" + "\n".join(lines) + "\n"


def _version(wanted: Wanted, fetched: Fetched, spec: RuntimeSpec, digest: str) -> str:
    """What the origin says; for folders, whose content changes as it likes, with a mark of the content."""
    if wanted.origin.kind in ("npm", "pip"):
        return _UNFIT.sub("-", fetched.version)
    mark = str(fetched.origin.get("commit", digest))[:8]
    return f"{_UNFIT.sub('-', spec.version) or '0'}+{mark}"


# ---- scripts ---------------------------------------------------------------------------------------------------------------


def _scripts(wanted: Wanted, fetched: Fetched, package: Path, tools: Tools, consent: Consent) -> dict[str, Any]:
    """Runs what may be run; what the lock file says of it."""
    needed = tuple(each for each in fetched.scripts if each.package in wanted.origin.scripts)
    other = tuple(each for each in fetched.scripts if each not in needed)
    chosen = consent.scripts(needed, other) if fetched.scripts else ()
    how = ""
    if chosen:
        argv = npm.rebuild(sorted({each.package for each in chosen}))
        how = consent.run(argv, package, tools.first(*map(Path, catalog.programs_of(package))))
    skipped = [str(each) for each in fetched.scripts if each not in chosen]
    return {"scripts": [str(each) for each in chosen], "skipped": skipped, "confined": how}


def verify(installed: versions.Installed) -> str:
    """Why the files are not those that were installed; "" when they are."""
    try:
        found, count, _ = tree.digest(str(installed.package))
    except OSError as error:
        return str(error)
    if found == installed.lock.get("digest"):
        return ""
    return f"{count} files with the digest {found[:16]}…, and {str(installed.lock.get('digest'))[:16]}… was installed"


def already(wanted: Wanted) -> versions.Installed | None:
    """The exact version that is asked for, if it is here."""
    version = wanted.origin.version
    if wanted.origin.kind not in ("npm", "pip") or version not in versions.of(wanted.name):
        return None
    found = versions.read(wanted.name, version)
    if found.lock.get("identity") != wanted.origin.identity:
        why = f"{wanted.name} {version} came from {found.lock.get('identity')}"
        raise Conflict("another package has that name and version", why, f"opagent runtime remove {wanted.name}@{version}")
    return found
