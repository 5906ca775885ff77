"""`opagent conversations merge`: the merge driver that git calls for a conversation file; asks no daemon."""

from __future__ import annotations

import os
import shlex
import stat
import subprocess
from pathlib import Path

import click

from opagent import files
from opagent.cli.app import App
from opagent.cli.command import Command, pass_app
from opagent.errors import Conflict, FileRefused, NotFound

_LARGE = 64 << 20  # bytes; a file above that is no conversation


@click.command(
    cls=Command,
    example="git config merge.opagent.driver 'opagent conversations merge %O %A %B --path %P'",
    exits=(0, 1, 2, 4),
    only_here=True,
)
@click.argument("base", type=click.Path())
@click.argument("ours", type=click.Path())
@click.argument("theirs", type=click.Path())
@click.option("--path", metavar="PATH", help="What the file is called, for messages.")
@pass_app
def merge(app: App, base: str, ours: str, theirs: str, path: str | None) -> None:
    """The git driver: turns are merged by id; the result is written to OURS. Exit code 1: a person must look at it.

    Files that are not versions of one conversation are merged as git does it.
    """
    from opagent.document.branches import merge3, same  # not for the commands beside this one

    names = [app.path(name) for name in (ours, base, theirs)]
    app.only_here("files are merged", "opagent conversations merge --help")
    mine, old, other = contents = [_content(name) for name in names]
    name = path or ours
    if None in contents or not same(mine or b"", other or b""):
        where = _by_lines(names)
    else:
        result = merge3(old or b"", mine or b"", other or b"")
        mode = stat.S_IMODE(os.stat(names[0]).st_mode)
        files.write_whole(Path(names[0]), result.content, sync=False)
        os.chmod(names[0], mode)  # whatever the umask is
        where = ", ".join(result.clashes)
    if where:
        raise Conflict(f"{name} cannot be merged without you", f"both sides changed it: {where}", f"$EDITOR {shlex.quote(name)}")
    if app.out.json:
        app.out.result({"path": name, "conflict": False})


def _content(name: str) -> bytes | None:
    """None for what is too large to be a conversation. Raises NotFound, FileRefused."""
    try:
        if os.stat(name).st_size > _LARGE:
            return None
        return files.read_file(name, _LARGE)
    except FileNotFoundError as error:
        raise NotFound(f"{name} does not exist", hint="opagent conversations merge --help") from error
    except OSError as error:
        raise FileRefused(f"{name} cannot be read", error.strerror or str(error), f"ls -l {shlex.quote(name)}") from error


def _by_lines(names: list[str]) -> str:
    """What git would do without a driver. Returns where a person must look, or nothing."""
    labels = [word for label in ("ours", "base", "theirs") for word in ("-L", label)]
    try:
        done = subprocess.run(["git", "merge-file", *labels, "--", *names], capture_output=True, text=True, check=False)
    except OSError as error:
        raise FileRefused("git cannot be started", error.strerror or str(error), "git --version") from error
    if done.returncode == 0:
        return ""
    return done.stderr.strip().removeprefix("error: ") if done.stderr.strip() else f"{done.returncode} places"
