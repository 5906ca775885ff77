"""The way to another machine as a person at the terminal sees it: what goes on, how far it is, and what only they can answer."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from opagent.client import Client
from opagent.elsewhere import Elsewhere, hearing

if TYPE_CHECKING:
    from opagent.cli.app import App

_BAR = 24  # characters
_SAID = {
    "dialing": "dialing",
    "authenticating": "signing in to",
    "probing": "looking at",
    "uploading": "copying OpAgent to",
    "installing": "installing OpAgent on",
    "starting": "starting the daemon on",
    "fetching Python": "fetching a portable Python for",
    "uploading Python": "copying a portable Python to",
    "installing Python": "unpacking a portable Python on",
}


def crossed(app: App) -> Elsewhere:
    """A client of the daemon on the command's machine. Raises HostUnreachable and its kinds."""
    shown = _Shown(app)
    try:
        return Elsewhere(app.machine, Client(), _answer(app, shown) if app.interactive else None, shown.tell)
    finally:
        shown.end()


@contextlib.contextmanager
def person(app: App) -> Iterator[None]:
    """While the daemon here dials for a request of this client: phases are shown, and what it asks is asked."""
    shown = _Shown(app)
    app.client.heard = hearing(app.client, _answer(app, shown) if app.interactive else None, shown.tell)
    try:
        yield
    finally:
        shown.end()


class _Shown:
    """One line on a terminal that changes as the phases go by; JSON events in a stream of JSON; else losses only."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._live = sys.stderr.isatty() and not app.out.json
        self._open = False
        self._lost = False

    def tell(self, phase: Mapping[str, Any]) -> None:
        name, machine = str(phase.get("phase")), str(phase.get("machine"))
        if self._app.out.json:
            if self._app.streams:
                self._app.out.item({"type": "link", **phase})
        elif name == "lost":
            if not self._lost:
                self.end()
                self._app.out.talk(f"the link to {machine} is lost; it is dialed again ({phase.get('text')})")
            self._lost = True
        elif name == "connected":
            self.end()
            if self._lost:
                self._app.out.talk(f"the link to {machine} is there again")
            self._lost = False
        elif self._live and not self._lost:
            words = _SAID.get(f"{name} {phase.get('text')}") or _SAID.get(name, name)
            self._line(f"{words} {machine} ... {_bar(phase)}")

    def end(self) -> None:
        """The line is wiped: what it said is over."""
        if self._open:
            self._app.out.status("")
        self._open = False

    def _line(self, text: str) -> None:
        self._app.out.status(text)
        self._open = True


def _bar(phase: Mapping[str, Any]) -> str:
    done, total = int(phase.get("done") or 0), int(phase.get("total") or 0)
    if not total:
        return ""
    full = min(_BAR, _BAR * done // total)
    return f"[{'#' * full}{'.' * (_BAR - full)}] {done >> 10} of {total >> 10} kB"


def _answer(app: App, shown: _Shown) -> Any:
    def answer(question: Mapping[str, Any]) -> str | None:
        shown.end()
        text = str(question.get("text", ""))
        try:
            if question.get("secret"):
                return app.out.ask_secret(text)
            return app.out.ask(text)
        except (EOFError, KeyboardInterrupt):
            return None

    return answer
