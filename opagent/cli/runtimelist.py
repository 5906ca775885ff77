"""`opagent runtime list|info`: what is known and installed, which version counts, whether its files are still the same."""

from __future__ import annotations

import os
from typing import Any

import click

from opagent.cli.app import App
from opagent.cli.command import Command, pass_app
from opagent.cli.runtimenames import RUNTIME, there
from opagent.cli.words import age, bytes_short, home_short
from opagent.errors import OpAgentError
from opagent.model import RuntimeSpec
from opagent.packages import ability, catalog, inuse, registry, versions
from opagent.packages import install as making

_COLUMNS = {"NAME": "name", "VERSION": "version", "STATE": "state", "OTHERS": "others", "ABOUT": "about"}


@click.command("list", cls=Command, example="opagent runtime list", exits=(0, 1, 2))
@click.option("--all", "-a", "all_", is_flag=True, help="Also the agents of the stored list of agents (the ACP registry's form).")
@click.option("--registry", metavar="URL", help="First fetch that list anew.")
@pass_app
def list_(app: App, all_: bool, registry: str | None) -> int:
    """The runtimes that are known here: installed ones, your own, and those that OpAgent brings along or can install."""
    done = there(app, "list", all=all_, registry=registry)
    if done is not None:
        return done
    if registry:
        app.out.talk(f"{_refreshed(registry)} agents are in the list")
    rows = [_row(entry) for entry in catalog.entries()]
    known = {row["name"] for row in rows}
    if all_ or registry:
        rows += [_listed(name, each) for name, each in sorted(_registry().items()) if name not in known]
    if app.out.format == "text":
        rows = [{**row, "others": ", ".join(row["others"])} for row in rows]
    app.out.records("runtimes", rows, _COLUMNS, "no runtime is known")
    return 0


def _refreshed(url: str) -> int:
    return registry.refresh(url)


def _registry() -> dict[str, Any]:
    return registry.entries()


def _row(entry: catalog.Entry) -> dict[str, Any]:
    now = versions.active(entry.name)
    found = {"name": entry.name, "version": "", "state": "", "others": [], "pin": now.pin, "source": entry.source, "about": ""}
    found["others"] = [each for each in versions.of(entry.name) if each != now.version]
    try:
        spec = catalog.read(entry)
    except OpAgentError as error:
        return found | {"state": "cannot be used", "about": str(error)}
    return found | {"version": spec.version, "state": _state(spec, now), "about": spec.about}


def _state(spec: RuntimeSpec, now: versions.Active) -> str:
    if now.version == spec.version and spec.source == "installed":
        return "installed, pinned" if now.pin else "installed"
    if not spec.install:
        return "comes with opagent" if spec.source == "bundled" else "yours"
    return "not installed"


def _listed(name: str, each: Any) -> dict[str, Any]:
    about = str(each.get("description", ""))
    found = {"name": name, "version": str(each.get("version", "")), "state": "listed", "others": []}
    return found | {"pin": "", "source": "registry", "about": about}


@click.command(cls=Command, example="opagent runtime info echo-node --verify", exits=(0, 1, 2, 4))
@click.argument("name", metavar="NAME[@VERSION]", shell_complete=RUNTIME)
@click.option(
    "--verify", is_flag=True, help="Hash all files, and compare with what was installed. Exit code 1 where they differ."
)
@pass_app
def info(app: App, name: str, verify: bool) -> int:
    """One runtime: what counts, what else is installed, where it comes from with all hashes (--json), what runs of it."""
    done = there(app, "info", name, verify=verify)
    if done is not None:
        return done
    spec = catalog.find(name)
    found = _info(spec)
    if verify and found.get("lock"):
        found["problem"] = making.verify(versions.read(spec.name, spec.version))
    if app.out.json:
        app.out.result(found)
    else:
        _print(app, found, verify)
    return 1 if found.get("problem") else 0


def _info(spec: RuntimeSpec) -> dict[str, Any]:
    now = versions.active(spec.name)
    rows = []
    for version in versions.of(spec.name):
        each = versions.read(spec.name, version)
        running = [process.pid for process in inuse.of(each.folder)]
        rows.append({"version": version, "active": version == now.version, "at": each.lock["at"], "running": running})
    found = {
        "name": spec.name, "title": spec.title, "about": spec.about, "version": spec.version, "source": spec.source,
        "package": spec.package, "command": list(spec.command), "pin": now.pin, "before": list(now.before), "versions": rows,
        "env": dict(spec.env), "signin": spec.signin,
    }  # fmt: skip
    if seen := _seen(spec):
        found["seen"] = {"at": seen.at, "lines": [list(line) for line in ability.lines(seen)]}
    if spec.source == "installed" and spec.version in versions.of(spec.name):
        found["lock"] = versions.read(spec.name, spec.version).lock
    return found


def _seen(spec: RuntimeSpec) -> ability.Record | None:
    """What a probe of this version saw."""
    try:
        return ability.read(ability.key(spec, catalog.installed(spec, os.environ.get("PATH", os.defpath), (), "{state}")))
    except OpAgentError:
        return None


def _print(app: App, found: dict[str, Any], verified: bool) -> None:
    out = app.out
    out.data(f"{found['name']} {found['version']}   {found['title']}: {found['about']}")
    out.data(f"command    {' '.join(found['command'])}")
    out.data(f"package    {home_short(found['package'])} ({found['source']})")
    if lock := found.get("lock"):
        out.data(
            f"from       {lock['identity']}, {len(lock['parts'])} packages, {bytes_short(lock['bytes'])}, {age(lock['at'])} ago"
        )
        out.data(f"digest     sha256 {lock['digest']}" + (_verdict(found) if verified else "   (--verify compares)"))
        out.data(f"node       {lock['node']}, its own") if lock["node"] else None
        for each in lock["scripts"]:
            out.data(f"ran        {each}   ({'sandbox, no network' if lock['confined'] == 'strict' else 'NOT confined'})")
        for each in lock["skipped"]:
            out.data(f"not run    {each}")
    if seen := found.get("seen"):
        out.data(f"seen       {'; '.join(f'{what}: {word}' for what, word in seen['lines'] if word != 'not tried')}")
        out.data(f"           probed {seen['at']}")
    out.data(f"pinned     {found['pin']}") if found["pin"] else None
    for each in found["versions"]:
        running = f"   runs: {', '.join(map(str, each['running']))}" if each["running"] else ""
        out.data(f"{'counts' if each['active'] else 'also here':10} {each['version']}, {age(each['at'])} ago{running}")
    if not found["versions"] and found["source"] != "installed":
        out.data(f"install    opagent runtime install {found['name']}") if not found.get("lock") else None


def _verdict(found: dict[str, Any]) -> str:
    return f"   ✗ changed: {found['problem']}" if found["problem"] else "   ✓ as installed"
