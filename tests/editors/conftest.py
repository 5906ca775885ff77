"""A conversation of a real daemon, and a person who opens its file in an editor. Not under /tmp: vim saves otherwise there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from opagent.document.parse import Part, scan
from tests.doubles.editors import EDITORS, Editor
from tests.doubles.patience import until
from tests.integration.conftest import FINAL, Talk, talk

__all__ = ["Desk", "talk"]


class Desk:
    """A conversation, its file and the turns that the log knows of it."""

    def __init__(self, talk: Talk, home: Path, conversation: dict[str, Any]) -> None:
        self.talk, self.home, self.conversation = talk, home, conversation
        self.path = Path(conversation["path"])
        self._open: list[Editor] = []

    def open(self, name: str, shows: str = "**Send**", reload: bool = False) -> Editor:
        """The file in an editor; `reload`: with the settings that the guide recommends."""
        self._open.append(Editor(EDITORS[name], self.path, self.home, shows, reload))
        return self._open[-1]

    def turns(self) -> list[dict[str, Any]]:
        return list(self.talk.show(self.conversation)["turns"])

    def texts(self) -> list[str]:
        """What was sent, in order."""
        return [turn["text"].strip() for turn in self.turns()]

    def sent(self, number: int, ended: bool = True) -> dict[str, Any]:
        """The turn of this number, from 1, once it is over; `ended=False`: once it runs."""

        def look() -> dict[str, Any] | None:
            found = self.turns()[number - 1 : number]
            return found[0] if found and (found[0]["state"] in FINAL or (not ended and found[0]["state"] == "running")) else None

        turn: dict[str, Any] = until(look)
        if ended:
            self.holds(f"/{turn['id']} {turn['state']} ")
        return turn

    def said(self, turn: dict[str, Any]) -> str:
        """What the agent said in a turn so far, as the log has it."""
        return self.talk.answer(self.conversation, turn["id"])

    def sent_only(self, *texts: str) -> None:
        """No other turns than these: what the daemon has noticed before the next turn ends would have become one by then."""
        self.talk.say(self.conversation, "is that all?")
        assert self.texts() == [*texts, "is that all?"]

    def cancel(self) -> None:
        self.talk.client.request("turn/cancel", {"conversation": self.conversation["id"]})

    # ---- the file --------------------------------------------------------------------------------------------------------

    def text(self) -> str:
        """The file; one that an editor is about to make anew is read when it is there."""

        def look() -> str | None:
            try:
                return self.path.read_text()
            except FileNotFoundError:
                return None

        return str(until(look))

    def holds(self, *words: str) -> str:
        """The file once it holds all of the words."""
        return str(until(lambda: all(word in (text := self.text()) for word in words) and text))

    def reply(self, turn: dict[str, Any]) -> str:
        """The text of a reply in the file."""
        found = next(region for region in scan(self.path.read_bytes()) if region.id == turn["id"])
        return found.body.decode()

    def draft(self) -> str:
        """The text below the last turn."""
        found = next(region for region in scan(self.path.read_bytes()) if region.part is Part.NEXT)
        return found.body.decode()

    def close(self) -> None:
        for editor in self._open:
            if editor.child.isalive():
                editor.kill()


@pytest.fixture
def desk(talk: Talk, home: Path) -> Iterator[Callable[..., Desk]]:
    """Makes one: `desk()`, `desk("librarian")`."""
    made: list[Desk] = []

    def make(agent: str = "echo") -> Desk:
        made.append(Desk(talk, home, talk.create(agent)))
        return made[-1]

    yield make
    for each in made:
        each.close()
