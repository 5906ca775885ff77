"""`opagent runtime install|upgrade`: says what will be fetched, asks before anything of a package runs, then lets it count."""

from __future__ import annotations

import os
from typing import Any

import click

from opagent.cli.app import App
from opagent.cli.command import Command, pass_app
from opagent.cli.runtimeconsent import Asking, progress
from opagent.cli.runtimenames import RUNTIME, there
from opagent.cli.runtimeprobe import proved
from opagent.errors import Conflict, NotFound, Usage
from opagent.packages import bundle, catalog, install, origin, registry, versions
from opagent.packages.fetching import Tools
from opagent.packages.install import Wanted
from opagent.packages.origin import Origin

_EXITS = (0, 1, 2, 3, 4, 5)
_COMMIT = 40  # characters


@click.command("install", cls=Command, example="opagent runtime install echo-node", exits=_EXITS)
@click.argument("source", metavar="SOURCE", shell_complete=RUNTIME)
@click.option("--name", metavar="NAME", help="What it is called here, where SOURCE is no name.")
@click.option("--allow-scripts", is_flag=True, help="Also run what its packages want to execute now, without asking.")
@click.option("--no-activate", is_flag=True, help="Install it, and let what counts count on.")
@pass_app
def install_(app: App, source: str, name: str | None, allow_scripts: bool, no_activate: bool) -> int:
    """Install an agent: NAME, NAME@VERSION, npm:PACKAGE, pypi:PACKAGE, git+URL@REVISION, URL#sha256=..., ./DIR or a bundle.

    Nothing of a package runs while it is fetched; install scripts are shown, and run confined after a yes.
    """
    done = there(app, "install", source, name=name, allow_scripts=allow_scripts, no_activate=no_activate)
    if done is not None:
        return done
    wanted = _wanted(source, name)
    installed = _done(app, wanted, allow_scripts)
    _tell(app, installed, None if no_activate else _activated(app, installed, pinned_stays=True))
    return 0


@click.command("upgrade", cls=Command, example="opagent runtime upgrade echo-node", exits=_EXITS)
@click.argument("names", metavar="[NAME[@VERSION]]...", nargs=-1, shell_complete=RUNTIME)
@click.option("--all", "all_", is_flag=True, help="Every installed runtime that is not pinned.")
@click.option("--allow-scripts", is_flag=True, help="Also run what its packages want to execute now, without asking.")
@pass_app
def upgrade(app: App, names: tuple[str, ...], all_: bool, allow_scripts: bool) -> int:
    """Install the newest version of what is installed, or the one named, and let it count. What runs stays on its version."""
    done = there(app, "upgrade", *names, all=all_, allow_scripts=allow_scripts)
    if done is not None:
        return done
    if bool(names) == all_:
        raise Usage("name a runtime, or say --all", hint="opagent runtime list")
    rows = []
    for word in names or [name for name in versions.names() if not versions.active(name).pin]:
        rows.append(_upgraded(app, word, allow_scripts))
    if app.out.json:
        app.out.result({"runtimes": rows})
    return 0


def _upgraded(app: App, word: str, allow_scripts: bool) -> dict[str, Any]:
    name, _, version = word.partition("@")
    now = versions.active(name)
    if not now.version:
        raise NotFound(f"{name} is not installed by opagent", "", f"opagent runtime install {word}")
    if now.pin:
        raise Conflict(f"{name} is pinned to {now.pin}", "", f"opagent runtime pin {name} --off")
    lock = versions.read(name, now.version).lock
    folder = catalog.described_by(name) if lock.get("described") else None
    installed = _done(app, Wanted(name, _newer(name, origin.restored(lock["origin"]), version), folder), allow_scripts)
    if installed.version == now.version:
        app.out.talk(f"{name} {now.version} is the newest")
        return _row(installed, now.version)
    before = _activated(app, installed)
    _said(app, installed, before)
    return _row(installed, before)


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
        folder_name = _described_name(come.place) or os.path.basename(come.place)
        return Wanted(_name(called or folder_name), come)
    usual = come.place.partition("[")[0].rpartition("/")[2].removesuffix(".git").partition("#")[0]
    if come.kind == "archive" and not called:
        raise Usage("an archive needs a name here", "", f"opagent runtime install '{source}' --name NAME")
    return Wanted(_name(called or usual.lower()), come)


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


def _described_name(folder: str) -> str:
    path = os.path.join(folder, catalog.FILE)
    return catalog.named_in(path) if os.path.exists(path) else ""


def _name(name: str) -> str:
    if not versions.NAME.fullmatch(name):
        raise Usage(
            f"'{name}' is no name for a runtime", "small letters, digits, . _ -", "opagent runtime install SOURCE --name NAME"
        )
    return name


def _done(app: App, wanted: Wanted, allow_scripts: bool) -> versions.Installed:
    """Installed, by us or already."""
    asking = Asking(app, allow_scripts)
    if wanted.origin.kind == "bundle":
        return bundle.install(wanted.origin.place, lambda: app.out.talk("another installation of it is under way; waiting"))
    with versions.exclusive(wanted.name, lambda: app.out.talk(f"another installation of {wanted.name} is under way; waiting")):
        if left := versions.sweep():
            app.out.talk(f"took away what {left} interrupted installation{'s' * (left > 1)} had left")
        if found := install.already(wanted):
            app.out.talk(f"{wanted.name} {found.version} is installed already")
            return found
        how = "" if wanted.origin.kind == "path" else " (not confined; nothing of the package runs)"
        progress(app, f"fetching {wanted.origin}{how} ...")
        tools = Tools(dict(os.environ), -1, app.settings.timeout or 3600.0)
        try:
            return install.install(wanted, tools, asking)
        finally:
            progress(app, "")


def _activated(app: App, installed: versions.Installed, pinned_stays: bool = False) -> str | None:
    """Lets it count from now on. The version that did before; None where a pin keeps it."""
    if versions.active(installed.name).version != installed.version:
        proved(app, installed.name, installed.version)
    with versions.exclusive(installed.name):
        now = versions.active(installed.name)
        if now.pin and now.pin != installed.version and pinned_stays:
            return None
        versions.activate(installed.name, installed.version)
    return now.version


def _tell(app: App, installed: versions.Installed, before: str | None) -> None:
    if app.out.json:
        app.out.result({"runtime": _row(installed, before)})
        return
    _said(app, installed, before)
    if before is None:
        pin = versions.active(installed.name).pin
        app.out.talk(f"what counts is {pin or versions.active(installed.name).version or 'nothing yet'}; "
                     f"to let this one: opagent runtime pin {installed.name}@{installed.version}")  # fmt: skip
    else:
        app.out.talk(f"talk to it: opagent open . --agent {installed.name}")


def _said(app: App, installed: versions.Installed, before: str | None) -> None:
    """What lies there now, on stdout; what did not run, beside it."""
    if app.out.json:
        return
    lock = installed.lock
    was = f", before it {before}" if before and before != installed.version else ""
    app.out.data(f"{installed.name} {installed.version}: {len(lock['parts'])} packages, {lock['bytes'] / 1e6:.0f} MB{was}")
    if lock.get("node"):
        app.out.talk(f"with a node of its own, {lock['node']}")
    for each in lock.get("skipped", ()):
        app.out.talk(f"not run: {each}")


def _row(installed: versions.Installed, before: str | None) -> dict[str, Any]:
    lock = installed.lock
    return {
        "name": installed.name, "version": installed.version, "active": versions.active(installed.name).version,
        "before": before or "", "digest": lock["digest"], "origin": lock["identity"], "package": str(installed.package),
        "scripts": lock["scripts"], "skipped": lock["skipped"], "confined": lock["confined"],
    }  # fmt: skip
