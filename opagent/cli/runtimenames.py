"""Names of runtimes and their versions on the command line: what completes them, and doing it on another machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

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


class Here:
    """The desk of the person at this command."""

    def __init__(self, app: App) -> None:
        self._app = app
        self.env: Mapping[str, str] = dict(os.environ)
        self.timeout = app.settings.timeout or 3600.0

    def tell(self, text: str) -> None:
        self._app.out.talk(text)

    def progress(self, text: str) -> None:
        """A line that the next one takes the place of; in a log it is a line."""
        if sys.stderr.isatty():
            self._app.out.status(text)
        elif text:
            self._app.out.talk(text)

    def agrees(self, question: str) -> bool | None:
        if not self._app.settings.yes and not self._app.interactive:
            return None
        *lines, last = question.split("\n")
        self._app.out.talk("\n".join(lines))
        return self._app.confirm(last)


def act(app: App, command: str, **given: object) -> dict[str, Any]:
    """A command about runtimes, done here or on the machine that it is about. Raises OpAgentError."""
    from opagent.daemon import runtimework

    said = {name: value for name, value in given.items() if value}
    if app.here:
        return runtimework.ACTS[command](said, Here(app))
    said |= {"yes": True} if app.settings.yes else {}
    answer = app.client.request("runtime/run", {"command": command, "given": said}, app.settings.timeout or FOREVER)
    for line in answer["told"]:
        app.out.talk(str(line))
    return dict(answer["result"])
