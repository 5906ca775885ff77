"""A version of a runtime as one file, for machines without network: written from what is installed, installed from the file."""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from opagent.errors import Conflict, HashMismatch, InstallFailed
from opagent.packages import install as making
from opagent.packages import pip, sources, tree, versions
from opagent.packages.fetching import Tools, translated

TOP = "opagent-runtime"


def write(installed: versions.Installed, output: Path) -> int:
    """The bytes of the file. It is there whole or not at all. Raises HashMismatch, InstallFailed."""
    if why := making.verify(installed):
        hint = f"opagent runtime install {installed.name}@{installed.version}"
        raise HashMismatch(f"{installed.name} {installed.version} is not what was installed", why, hint)
    part = output.with_name(f".{output.name}.{os.getpid()}.part")
    with translated(output.parent):
        try:
            with tarfile.open(part, "w:gz" if output.name.endswith(("gz", "tgz")) else "w") as tar:
                tar.add(installed.folder / versions.LOCK, f"{TOP}/{versions.LOCK}")
                tar.add(installed.package, f"{TOP}/{installed.name}", filter=_plain)
            size = part.stat().st_size
            os.replace(part, output)
        finally:
            part.unlink(missing_ok=True)
    return size


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Nothing of this machine's users; and not what running it left."""
    if "__pycache__" in member.name.split("/"):
        return None
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def install(path: str, waiting: Callable[[], None]) -> versions.Installed:
    """What a bundle holds becomes an installed version; nothing is fetched, and nothing of it runs. Raises InstallFailed."""
    with versions.staging() as (place, held), translated(place):
        sources.unpack(Path(path), place)
        top = place / TOP
        lock = _lock(top / versions.LOCK, path)
        name, version = str(lock["name"]), str(lock["version"])
        found, _, _ = tree.digest(str(top / name))
        if found != lock["digest"]:
            why = f"its files have the digest {found[:16]}…, and its lock file says {str(lock['digest'])[:16]}…"
            raise HashMismatch(f"{path} is damaged", why, "copy it again")
        lock = _fitted(lock, top / name, held)
        with versions.exclusive(name, waiting):
            versions.sweep()
            if version in versions.of(name):
                known = versions.read(name, version)
                if known.lock["digest"] != lock["digest"]:
                    hint = f"opagent runtime remove {name}@{version}"
                    raise Conflict(f"{name} {version} is installed, and not the same", "", hint)
                return known
            tree.seal(top / name)
            return making.put(top, lock)


def _lock(path: Path, name: str) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
        fine = versions.NAME.fullmatch(found["name"]) and versions.VERSION.fullmatch(found["version"]) and found["digest"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InstallFailed(f"{name} is no bundle of a runtime", str(error), "opagent runtime bundle --help") from error
    if not fine:
        raise InstallFailed(f"{name} is no bundle of a runtime", "its lock file is not one", "opagent runtime bundle --help")
    return dict(found)


def _fitted(lock: dict[str, Any], package: Path, held: int) -> dict[str, Any]:
    """Starters of Python programs name the interpreter: they are made anew for the one here. Raises InstallFailed."""
    if lock.get("platform") != making.here():
        why = f"it was made for {lock.get('platform')}, this is {making.here()}"
        raise InstallFailed(f"{lock['name']} {lock['version']} does not run here", why, "make a bundle on such a machine")
    if not lock.get("python"):
        return lock
    tools, wanted = Tools(dict(os.environ), held), str(lock["python_version"])
    python = next((each for each in pip.interpreters(tools, package) if pip.version_of(each, tools, package) == wanted), "")
    if not python:
        why = f"its packages are for Python {wanted}, which is not on PATH"
        raise InstallFailed(f"{lock['name']} {lock['version']} does not run here", why, f"python{wanted} --version")
    if python == lock["python"]:
        return lock
    tree.remove(package / pip.BIN)
    pip.starters(package, python)
    digest, count, size = tree.digest(str(package))
    return {**lock, "digest": digest, "files": count, "bytes": size, "python": python}
