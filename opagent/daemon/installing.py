"""`opagent runtime install|upgrade`, wherever it is asked for: what a word stands for, installed, and made to count."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from opagent.daemon import proving
from opagent.daemon.consenting import Asking, Desk
from opagent.errors import Conflict, NotFound, Usage
from opagent.packages import bundle, catalog, install, origin, registry, versions
from opagent.packages.fetching import Tools
from opagent.packages.install import Wanted
from opagent.packages.origin import Origin

Given = Mapping[str, Any]
_COMMIT = 40  # characters


def installed(given: Given, desk: Desk) -> dict[str, Any]:
    """`{source, name?, allow_scripts?, no_activate?}` -> `{runtime}`."""
    done = _done(desk, _wanted(str(given["source"]), given.get("name")), bool(given.get("allow_scripts")))
    if given.get("no_activate"):
        return {"runtime": _row(done, versions.active(done.name).version)}
    return {"runtime": _row(done, _activated(desk, done, pinned_stays=True))}


def upgraded(given: Given, desk: Desk) -> dict[str, Any]:
    """`{names, all?, allow_scripts?}` -> `{runtimes}`."""
    names = given.get("names") or [name for name in versions.names() if not versions.active(name).pin]
    return {"runtimes": [_upgraded(desk, str(word), bool(given.get("allow_scripts"))) for word in names]}


def _upgraded(desk: Desk, word: str, allow_scripts: bool) -> dict[str, Any]:
    name, _, version = word.partition("@")
    now = versions.active(name)
    if not now.version:
        raise NotFound(f"{name} is not installed by opagent", "", f"opagent runtime install {word}")
    if now.pin:
        raise Conflict(f"{name} is pinned to {now.pin}", "", f"opagent runtime pin {name} --off")
    lock = versions.read(name, now.version).lock
    folder = catalog.described_by(name) if lock.get("described") else None
    done = _done(desk, Wanted(name, _newer(name, origin.restored(lock["origin"]), version), folder), allow_scripts)
    if done.version == now.version:
        desk.tell(f"{name} {now.version} is the newest")
        return _row(done, now.version)
    return _row(done, _activated(desk, done))


def _newer(name: str, come: Origin, version: str) -> Origin:
    """Where the newest version comes from: a package's is asked for, a branch's and a directory's are what lies there now."""
    if version or come.kind in ("npm", "pip"):
        return origin.at(come, version or "latest")
    if come.kind == "archive" or (come.kind == "git" and len(come.version) >= _COMMIT):
        raise Conflict(f"{name} has no newer version to look for", str(come), "opagent runtime install --help")
    return come


def _wanted(source: str, called: str | None) -> Wanted:
    """What a word stands for: a described runtime, an agent of the registry, or a package. Raises Usage, NotFound."""
    name, version, come = origin.parse(source)
    if come is None:
        return _known(name, version, called)
    if come.kind == "path":
        described = os.path.join(come.place, catalog.FILE)
        folder_name = catalog.named_in(described) if os.path.exists(described) else ""
        return Wanted(_name(called or folder_name or os.path.basename(come.place)), come)
    usual = come.place.partition("[")[0].rpartition("/")[2].removesuffix(".git").partition("#")[0]
    if come.kind == "archive" and not called:
        raise Usage("an archive needs a name here", "", f"opagent runtime install '{source}' --name NAME")
    return Wanted(_name(called or usual.lower()) if come.kind != "bundle" else "", come)


def _known(name: str, version: str, called: str | None) -> Wanted:
    if called and called != name:
        raise Usage(f"{name} has its name", "--name is for packages, archives and repositories", "opagent runtime list --all")
    folder = catalog.described_by(name)
    if folder is None:
        return Wanted(name, _at(registry.find(name), version))
    spec = catalog.read(catalog.Entry(name, folder, "bundled"))
    come = origin.described(spec.install, spec.package)
    if come is None:
        raise Conflict(f"{name} comes with OpAgent", "there is nothing to install", f"opagent open . --agent {name}")
    return Wanted(name, _at(come, version), folder if come.kind != "path" else None)


def _at(come: Origin, version: str) -> Origin:
    return origin.at(come, version) if version else come


def _name(name: str) -> str:
    if not versions.NAME.fullmatch(name):
        raise Usage(
            f"'{name}' is no name for a runtime", "small letters, digits, . _ -", "opagent runtime install SOURCE --name NAME"
        )
    return name


def _done(desk: Desk, wanted: Wanted, allow_scripts: bool) -> versions.Installed:
    """Installed, by us or already."""
    if wanted.origin.kind == "bundle":
        return bundle.install(wanted.origin.place, lambda: desk.tell("another installation of it is under way; waiting"))
    with versions.exclusive(wanted.name, lambda: desk.tell(f"another installation of {wanted.name} is under way; waiting")):
        if left := versions.sweep():
            desk.tell(f"took away what {left} interrupted installation{'s' * (left > 1)} had left")
        if found := install.already(wanted):
            desk.tell(f"{wanted.name} {found.version} is installed already")
            return found
        how = "" if wanted.origin.kind == "path" else " (not confined; nothing of the package runs)"
        desk.progress(f"fetching {wanted.origin}{how} ...")
        try:
            return install.install(wanted, Tools(desk.env, -1, desk.timeout), Asking(desk, allow_scripts))
        finally:
            desk.progress("")


def _activated(desk: Desk, done: versions.Installed, pinned_stays: bool = False) -> str:
    """Lets it count from now on, unless a pin keeps it from that. The version that did before."""
    before = versions.active(done.name)
    if pinned_stays and before.pin and before.pin != done.version:
        return before.version
    if before.version != done.version:
        proving.before_it_counts(desk, done.name, done.version)
    with versions.exclusive(done.name):
        versions.activate(done.name, done.version)
    return before.version


def _row(done: versions.Installed, before: str) -> dict[str, Any]:
    lock = done.lock
    return {
        "name": done.name, "version": done.version, "active": versions.active(done.name).version,
        "before": before, "digest": lock["digest"], "origin": lock["identity"], "package": str(done.package),
        "scripts": lock["scripts"], "skipped": lock["skipped"], "confined": lock["confined"], "node": lock["node"],
        "packages": len(lock["parts"]), "bytes": lock["bytes"],
    }  # fmt: skip
