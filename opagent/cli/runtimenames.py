"""Names of runtimes and their versions on the command line: what completes them, and doing it on another machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from opagent.cli.app import App
from opagent.elsewhere import FOREVER
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


def there(app: App, *words: str, **flags: object) -> int | None:
    """Where the command is about another machine: done there, and its exit status. None: it is to be done here.

    `flags` are options by name: true ones and texts are passed on.
    """
    if app.here:
        return None
    options = {f"--{name.replace('_', '-').strip('-')}": value for name, value in flags.items() if value}
    said = [option if value is True else f"{option}={value}" for option, value in options.items()]
    settings = app.settings
    same = {"--json": app.out.json, "--yes": settings.yes, "--quiet": settings.style.quiet}
    said += [option for option, on in same.items() if on]
    answer = app.client.request("runtime/run", {"words": [*words, *said]}, settings.timeout or FOREVER)
    ours, theirs = "opagent runtime ", f"{app.typed('opagent runtime')} "
    app.out.raw(str(answer["stdout"]).replace(ours, theirs))
    for line in str(answer["stderr"]).replace(ours, theirs).splitlines():
        app.out.talk(line)
    return int(answer["status"])
