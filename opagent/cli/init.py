"""`opagent init`: writes a commented `.agent.yaml`, or copies a template of the shipped workspaces; all of it or nothing.

In a git work tree it offers the lines by which git merges conversations; with `--git` also where a binding is there already.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import click

from opagent import files, paths, yamlfile
from opagent.binding.making import DEFAULT_AGENT, copy, create
from opagent.cli import gitfiles
from opagent.cli.app import App
from opagent.cli.command import TARGET, Command, pass_app
from opagent.errors import Conflict, Usage


@click.command(cls=Command, example="opagent init ./docs", exits=(0, 1, 2, 4))
@click.argument("target", required=False, type=TARGET)
@click.option("--agent", metavar="NAME", help=f"The agent that `open` starts here ({DEFAULT_AGENT} when unsaid).")
@click.option("--template", "shipped", metavar="NAME", help="Copy a shipped workspace into the directory.")
@click.option(
    "--git/--no-git",
    "wanted",
    default=None,
    help="Add what git needs to merge conversations, to an existing binding too. Unsaid: asked at a terminal, else not.",
)
@pass_app
def init(app: App, target: str | None, agent: str | None, shipped: str | None, wanted: bool | None) -> None:
    """Write a commented .agent.yaml; what stands there already is never touched."""
    path = app.path(target)
    if shipped is not None and agent is not None:
        raise Usage("--agent and --template exclude each other", hint="opagent init --help")
    if not app.here:
        _there(app, path, agent, shipped, wanted)
        return
    inside = gitfiles.inside(path)
    if wanted and not inside:
        raise Conflict(f"{path} is in no git work tree", "no .git there or above", f"git init {shlex.quote(path)}")
    binding = os.path.join(path, paths.BINDING)
    if not (wanted and os.path.isfile(binding)):
        binding = copy(path, shipped) if shipped is not None else create(path, agent)
    added = []
    if inside and (wanted or (wanted is None and app.confirm("Let git merge conversations by turns?"))):
        added = gitfiles.add(Path(path), _conversations(binding))
        app.out.talk(f"once in each clone: {gitfiles.DRIVER}")
    if app.out.json:
        app.out.result({"binding": binding, "git": added})
        return
    for name in (binding, *added):
        app.out.data(name)
    app.out.talk(f"now: opagent open {os.path.relpath(path)}")


def _there(app: App, path: str, agent: str | None, shipped: str | None, wanted: bool | None) -> None:
    if wanted:
        raise Usage("--git is for a directory of this machine", hint=app.typed(f"opagent init {shlex.quote(path)}"))
    made = app.ask("binding/create", path=path, agent=agent, template=shipped)["binding"]
    if app.out.json:
        app.out.result({"binding": made, "git": []})
        return
    app.out.data(made)
    app.out.talk(f"now: {app.typed(f'opagent open {shlex.quote(os.path.dirname(made))}')}")


def _conversations(binding: str) -> str:
    """Where a binding keeps its conversations. Raises BindingInvalid."""
    top = yamlfile.load(files.read_file(binding, yamlfile.MAX_BYTES), binding).value
    said = top.get("conversations") if isinstance(top, dict) else None
    return said.value if said is not None and isinstance(said.value, str) else paths.CONVERSATIONS
