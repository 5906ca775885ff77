"""A conversation's file in the hands of a person with a plain editor: what they type is saved in place, at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from opagent.document.parse import Part, Region, scan
from tests.doubles.patience import until
from tests.integration.conftest import FINAL, Talk

BOX = "- [ ] **Send**"


class Sheet:
    def __init__(self, talk: Talk, conversation: dict[str, Any]) -> None:
        self.talk, self.conversation = talk, conversation

    @property
    def path(self) -> Path:
        return Path(self.conversation["path"])

    # ---- the file --------------------------------------------------------------------------------------------------------

    def text(self) -> str:
        return self.bytes().decode("utf-8", "surrogateescape")

    def bytes(self) -> bytes:
        """The file; one that is just being exchanged is read when it is there."""

        def look() -> bytes | None:
            try:
                return self.path.read_bytes() or None
            except FileNotFoundError:
                return None

        return bytes(until(look))

    def save(self, content: str | bytes) -> None:
        self.path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogateescape"))

    def type(self, words: str) -> None:
        """Above the box of the draft."""
        content = self.text()
        assert BOX in content
        before, _, after = content.rpartition(BOX)
        self.save(f"{before}{words}\n\n{BOX}{after}")

    def change(self, old: str, new: str) -> None:
        content = self.text()
        assert content.count(old) == 1, f"{old!r} stands {content.count(old)} times in it"
        self.save(content.replace(old, new))

    def holds(self, *words: str) -> str:
        """The file once it holds all of the words."""
        return str(until(lambda: all(word in (text := self.text()) for word in words) and text))

    def lacks(self, *words: str) -> str:
        """The file once it holds none of the words."""
        return str(until(lambda: not any(word in (text := self.text()) for word in words) and text))

    def regions(self) -> tuple[Region, ...]:
        return scan(self.bytes(), self.conversation["id"].split("-")[0])

    def region(self, name: str) -> Region:
        return next(region for region in self.regions() if region.id == name)

    def draft(self) -> str:
        """What stands below the last turn."""
        return next(region.body.decode() for region in self.regions() if region.part is Part.NEXT)

    # ---- the log ---------------------------------------------------------------------------------------------------------

    def turns(self) -> list[dict[str, Any]]:
        return list(self.talk.show(self.conversation)["turns"])

    def texts(self) -> list[str]:
        """What was sent, in order."""
        return [turn["text"] for turn in self.turns()]

    def sent(self, number: int, *states: str) -> dict[str, Any]:
        """The turn of this number, from 1, once it is over and the file shows it; or once it is in one of the states."""

        def look() -> dict[str, Any] | None:
            found = self.turns()[number - 1 : number]
            return found[0] if found and found[0]["state"] in (states or FINAL) else None

        turn: dict[str, Any] = until(look)
        if not states:
            self.holds(f"/{turn['id']} {turn['state']} ")
        return turn

    def said(self, turn: dict[str, Any]) -> str:
        return self.talk.answer(self.conversation, turn["id"])

    def sent_only(self, *texts: str) -> None:
        """No other turns than these: what the daemon has noticed before the next turn ends would have become one by then."""
        last = self.talk.say(self.conversation, "is that all?")
        self.holds(f"/{last['id']} done")
        assert self.texts() == [*texts, "is that all?"]

    def facts(self, *what: str) -> list[dict[str, Any]]:
        """Events `document` of these kinds."""
        events = self.talk.show(self.conversation)["events"]
        return [event["body"] for event in events if event["kind"] == "document" and event["body"]["what"] in what]

    def told(self, what: str, times: int = 1) -> list[dict[str, Any]]:
        return list(until(lambda: len(found := self.facts(what)) >= times and found))

    def listed(self) -> dict[str, Any]:
        """As `conversations list` shows it."""
        found = self.talk.client.request("conversation/list", {"all": True})["conversations"]
        return next(dict(one) for one in found if one["id"] == self.conversation["id"])

    def queue(self) -> dict[str, Any]:
        return dict(self.talk.client.request("queue/list", {"conversation": self.conversation["id"]}))


Make = Callable[..., Sheet]
