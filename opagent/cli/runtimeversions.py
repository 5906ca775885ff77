"""`opagent runtime rollback|pin|remove|bundle`: which installed version counts, and which ones stay."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from opagent.cli.app import App
from opagent.cli.command import Command, pass_app
from opagent.cli.runtimenames import INSTALLED, there
from opagent.cli.words import bytes_short
from opagent.errors import Conflict, NotFound, RuntimeInUse, Usage
from opagent.packages import bundle, inuse, versions

_EXITS = (0, 1, 2, 4)


@click.command(cls=Command, example="opagent runtime rollback echo-node", exits=_EXITS)
@click.argument("name", metavar="NAME[@VERSION]", shell_complete=INSTALLED)
@pass_app
def rollback(app: App, name: str) -> int:
    """Let the version count again that did before, or the one named. Nothing is fetched; what runs stays on its version."""
    done = there(app, "rollback", name)
    if done is not None:
        return done
    name, version = _named(name)
    with versions.exclusive(name):
        was = versions.active(name)
        if was.pin:
            raise Conflict(f"{name} is pinned to {was.pin}", "", f"opagent runtime pin {name} --off")
        now = versions.activate(name, version or versions.previous(name))
    return _say(app, name, now, f"{name} {now.version} counts now, before it {was.version or 'none'}")


@click.command(cls=Command, example="opagent runtime pin echo-node", exits=_EXITS)
@click.argument("name", metavar="NAME[@VERSION]", shell_complete=INSTALLED)
@click.option("--off", is_flag=True, help="Let it move again.")
@pass_app
def pin(app: App, name: str, off: bool) -> int:
    """Keep a runtime on the version that counts, or on the one named: upgrade and rollback leave it there."""
    done = there(app, "pin", name, off=off)
    if done is not None:
        return done
    name, version = _named(name)
    with versions.exclusive(name):
        if off:
            now = versions.pin(name, "")
        else:
            chosen = version or versions.active(name).version
            if not chosen:
                raise NotFound(f"no version of {name} counts", "", f"opagent runtime install {name}")
            now = versions.activate(name, chosen, pin=chosen)
    return _say(app, name, now, f"{name} stays at {now.version}" if now.pin else f"{name} {now.version} may be upgraded again")


@click.command(cls=Command, example="opagent runtime remove echo-node", exits=_EXITS)
@click.argument("name", metavar="NAME[@VERSION]", shell_complete=INSTALLED)
@pass_app
def remove(app: App, name: str) -> int:
    """Take away one version, or all of a runtime. A version that runs, or that counts while others are there, stays."""
    done = there(app, "remove", name)
    if done is not None:
        return done
    name, version = _named(name)
    with versions.exclusive(name):
        versions.sweep()
        gone = [version] if version else versions.of(name)
        now = versions.active(name)
        if version == now.version and len(versions.of(name)) > 1:
            raise RuntimeInUse(f"{name} {version} is the version that counts", "", f"opagent runtime rollback {name}")
        for each in gone:
            _unused(name, each)
        if not version and not app.confirm(f"Remove {name} with {', '.join(gone)}?"):
            raise Usage("nothing was removed", "nobody said yes", f"opagent runtime remove {name} --yes")
        for each in gone:
            versions.forget(name, each)
        now = versions.active(name)
    return _say(app, name, now, f"{name} {', '.join(gone)} is gone")


@click.command("bundle", cls=Command, example="opagent runtime bundle echo-node --output echo-node.tar", exits=_EXITS)
@click.argument("name", metavar="NAME[@VERSION]", shell_complete=INSTALLED)
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False), help="The file; .tar.gz packs it.")
@pass_app
def bundle_(app: App, name: str, output: str) -> int:
    """Write a version into one file: `opagent runtime install ./FILE` installs it where there is no network."""
    done = there(app, "bundle", name, output=output)
    if done is not None:
        return done
    name, version = _named(name)
    installed = versions.read(name, version or versions.active(name).version)
    path = Path(os.path.abspath(os.path.expanduser(output)))
    size = bundle.write(installed, path)
    if app.out.json:
        app.out.result(
            {"name": name, "version": installed.version, "file": str(path), "bytes": size, "digest": installed.lock["digest"]}
        )
        return 0
    app.out.data(f"{path}: {name} {installed.version}, {bytes_short(size)}")
    app.out.talk(f"there: opagent runtime install ./{path.name}   (digest {installed.lock['digest']})")
    return 0


def _named(word: str) -> tuple[str, str]:
    """The name and the one installed version that the word means; "" where it names none. Raises NotFound."""
    name, at, wanted = word.partition("@")
    if not versions.NAME.fullmatch(name) or not versions.of(name):
        raise NotFound(f"no version of {name!r} was installed by opagent", "", "opagent runtime list")
    version = versions.matching(name, wanted) if at else ""
    if at and not version:
        why = f"installed are {', '.join(versions.of(name))}"
        raise NotFound(f"{word} is not installed", why, f"opagent runtime install {word}")
    return name, version


def _unused(name: str, version: str) -> None:
    running = list(inuse.of(versions.home(name) / version))
    if running:
        why = ", ".join(f"{each.name} (pid {each.pid})" for each in running[:5])
        raise RuntimeInUse(f"{name} {version} runs, so it stays", why, "opagent ps -a")


def _say(app: App, name: str, now: versions.Active, sentence: str) -> int:
    if app.out.json:
        row: dict[str, Any] = {"name": name, "version": now.version, "pin": now.pin, "before": list(now.before)}
        app.out.result({"runtime": row | {"versions": versions.of(name)}})
    else:
        app.out.data(sentence)
    return 0
