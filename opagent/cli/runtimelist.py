"""`opagent runtime list|info`: what is known and installed, which version counts, whether its files are still the same."""

from __future__ import annotations

from typing import Any

import click

from opagent.cli.app import App
from opagent.cli.command import Command, pass_app
from opagent.cli.runtimenames import RUNTIME, act
from opagent.cli.words import age, bytes_short, home_short

_COLUMNS = {"NAME": "name", "VERSION": "version", "STATE": "state", "OTHERS": "others", "ABOUT": "about"}


@click.command("list", cls=Command, example="opagent runtime list", exits=(0, 1, 2))
@click.option("--all", "-a", "all_", is_flag=True, help="Also the agents of the stored list of agents (the ACP registry's form).")
@click.option("--registry", metavar="URL", help="First fetch that list anew.")
@pass_app
def list_(app: App, all_: bool, registry: str | None) -> None:
    """The runtimes that are known here: installed ones, your own, and those that OpAgent brings along or can install."""
    rows = act(app, "list", all=all_, registry=registry)["runtimes"]
    if app.out.format == "text":
        rows = [{**row, "others": ", ".join(row["others"])} for row in rows]
    app.out.records("runtimes", rows, _COLUMNS, "no runtime is known")


@click.command(cls=Command, example="opagent runtime info echo-node --verify", exits=(0, 1, 2, 4))
@click.argument("name", metavar="NAME[@VERSION]", shell_complete=RUNTIME)
@click.option(
    "--verify", is_flag=True, help="Hash all files, and compare with what was installed. Exit code 1 where they differ."
)
@pass_app
def info(app: App, name: str, verify: bool) -> int:
    """One runtime: what counts, what else is installed, where it comes from with all hashes (--json), what runs of it."""
    found = act(app, "info", name=name, verify=verify)
    if app.out.json:
        app.out.result(found)
    else:
        _print(app, found)
    return 1 if found.get("problem") else 0


def _print(app: App, found: dict[str, Any]) -> None:
    out = app.out
    out.data(f"{found['name']} {found['version']}   {found['title']}: {found['about']}")
    out.data(f"command    {' '.join(found['command'])}")
    out.data(f"package    {home_short(found['package'])} ({found['source']})")
    if lock := found.get("lock"):
        out.data(
            f"from       {lock['identity']}, {len(lock['parts'])} packages, {bytes_short(lock['bytes'])}, {age(lock['at'])} ago"
        )
        out.data(f"digest     sha256 {lock['digest']}   {_verdict(found)}")
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
        out.data(f"install    {app.typed('opagent runtime install')} {found['name']}") if found.get("installs") else None


def _verdict(found: dict[str, Any]) -> str:
    if "problem" not in found:
        return "(--verify compares)"
    return f"✗ changed: {found['problem']}" if found["problem"] else "✓ as installed"
