"""Names of runtimes and their versions on the command line: what completes them, and that they are about this machine."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import click

from opagent.cli.app import App
from opagent.packages import catalog, versions

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


def RUNTIME(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """`shell_complete` of any runtime that is known."""
    return _items((name for name in catalog.names()), incomplete)


def INSTALLED(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """`shell_complete` of what is installed: names, and after an @ their versions."""
    name, at, _ = incomplete.partition("@")
    if at and versions.NAME.fullmatch(name):
        return _items((f"{name}@{version}" for version in versions.of(name)), incomplete)
    return _items(versions.names(), incomplete)


def _items(names: object, incomplete: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    return [CompletionItem(name) for name in names if name.startswith(incomplete)]  # type: ignore[attr-defined]


def here(app: App, *words: str) -> None:
    """Raises Usage for another machine."""
    app.only_here("runtimes are installed", shlex.join(["opagent", "runtime", *words]))
