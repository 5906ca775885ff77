"""The daemon's side of one conversation without processes, clocks and disks: a real memory, real replies, a log in a list."""

from __future__ import annotations

import collections
import json
from typing import Any

from opagent.document import parts
from opagent.document.draft import Gesture, read
from opagent.document.edit import Opening
from opagent.document.memory import Memory
from opagent.document.merge import Merged, merge
from opagent.document.rebuild import continued, rebuild
from opagent.document.records import Fact, file_digest
from opagent.document.render import Look, Reply
from opagent.model import Event
from tests.doubles.texts import HEADER, TAG, event

LOOK = Look()


class Daemon:
    """Takes saves and streams replies into the file's next version; a restart keeps the log and the file only."""

    def __init__(self, content: bytes) -> None:
        self.log: list[Event] = []
        self.memory = Memory.of(content, TAG, "alice")
        self.replies: dict[str, Reply] = {}
        self.running = ""
        self.turns = 0
        self.sent: list[bytes] = []  # texts of messages from the file
        self.cancelled = 0  # how often a command was obeyed
        self.aside: list[bytes] = []
        self.parts: list[bytes] = []
        self.facts: collections.Counter[str] = collections.Counter()
        self._append("document", self.memory.written(content))

    def _append(self, kind: str, body: dict[str, Any], turn: str = "") -> Event:
        number = len(self.log) + 1
        made = event(
            kind, json.loads(json.dumps(body)), turn, f"2026-11-20T09:{number // 60 % 60:02}:{number % 60:02}.000Z", number
        )
        self.log.append(made)
        if turn in self.replies:
            self.replies[turn].apply(made)
        return made

    # ---- saves ---------------------------------------------------------------------------------------------------------

    def take(self, content: bytes, displaced: bytes | None = None) -> Merged:
        """A save: merged, logged, and obeyed."""
        merged = merge(self.memory, content, displaced)
        for fact in merged.facts:
            self.facts[fact.what] += 1
            body = {"what": fact.what, "region": fact.region, "body": fact.body.decode("latin-1"), "after": fact.after}
            self._append("document", body)
        if merged.aside:
            self.aside.append(content)
        if not merged.stop:
            self.obey(merged.gestures)
        return merged

    def obey(self, gestures: bool = True) -> None:
        said = read(self.memory.draft())
        waits = gestures and self.running and said.gesture.sends and said.text
        self.memory.note("sent when this turn ends" if waits else "")
        if not gestures:
            return
        if said.gesture is Gesture.CANCEL:
            self.cancelled += 1
            self.memory.obeyed()
            if self.running:
                self.stream("", "cancelled")
        elif said.gesture.sends and not said.text:
            self.memory.obeyed()
        elif said.gesture.sends and not self.running:
            self.sent.append(said.text)
            self.begin(self.queue(said.text, self.memory.draft()))

    # ---- turns ---------------------------------------------------------------------------------------------------------

    def queue(self, text: bytes, raw: bytes = b"") -> Event:
        """A turn is logged; without `raw` it comes from the command line."""
        self.turns += 1
        body = {"state": "queued", "message": f"u{self.turns:04}", "author": "human:1", "agent": "writer"}
        body |= {"text": text.decode("utf-8", "surrogateescape"), "raw": raw.decode("latin-1"), "via": "" if raw else "cli"}
        return self._append("turn_state", body, f"a{self.turns:04}")

    def begin(self, queued: Event) -> None:
        body, turn = queued.body, str(queued.turn)
        self.running = turn
        self.replies[turn] = Reply(TAG, "Writer", LOOK)
        at = self._append("turn_state", {"state": "running"}, turn).at
        opening = Opening(body["message"], turn, "alice", body["text"], "writer", queued.at, at, via=body["via"])
        self.memory.begin(opening, body["raw"].encode("latin-1"))

    def stream(self, text: str, end: str = "") -> None:
        turn = self.running
        self._append("text", {"text": text}, turn)
        if end:
            self._append("turn_state", {"state": end}, turn)
            self.running = ""
        reply = self.replies[turn]
        self.memory.put(turn, reply.body(), reply.end(), not reply.state.final)

    # ---- versions ------------------------------------------------------------------------------------------------------

    def version(self, previous: int) -> bytes:
        """The bytes to write next; logged."""
        content = self.memory.version(previous)
        self._append("document", self.memory.written(content))
        return content

    def split(self) -> bool:
        """All but the last turns to a part."""
        made = parts.split(self.memory.content(), "c.md", f"s{len(self.parts):04}", limit=1)
        if made:
            self.parts.append(made.part)
            self.memory.rewrite(made.content)
        return made is not None

    def restart(self, content: bytes) -> Merged:
        """Killed and started again: memory out of the log, or out of the file where that is our last version."""
        versions = [each.body["digest"] for each in self.log if each.body.get("what") == "version"]
        ours = versions[-1:] == [file_digest(content)]
        self.memory = Memory.of(content if ours else rebuild(self.log, None, HEADER, LOOK, "alice"), TAG, "alice")
        waiting = self._recall(ours)
        if self.running:
            more = continued(content, TAG, self.running, self.replies[self.running].unclosed())
            self.stream(more, "interrupted")
        for each in waiting:
            self.begin(each)
        if not ours:
            self.memory.remind(content)
        return self.take(content)

    def rescue(self, save: bytes) -> None:
        """What an earlier daemon had taken out of the file and not looked at."""
        if self.memory.cannot_keep(save):
            self.aside.append(save)
        if self.memory.rescue(save):
            self.facts["rescued"] += 1

    def _recall(self, ours: bool) -> list[Event]:
        """Memory and replies as the log has them; the turns that have not begun. `ours`: the memory is made of the last version."""
        begun = [str(each.turn) for each in self.log if each.body.get("state") == "running"]
        messages = {str(each.turn): str(each.body["message"]) for each in self.log if each.body.get("state") == "queued"}
        for turn in begun:
            self.memory.records.begins(messages[turn], turn)
        self.replies = {turn: Reply(TAG, "Writer", LOOK) for turn in begun}
        waiting = []
        for each in self.log:
            if each.turn in self.replies:
                self.replies[str(each.turn)].apply(each)
            if each.body.get("what") == "version":
                self.memory.restore(each.body)
            elif "what" in each.body:
                fact = Fact(each.body["what"], each.body["region"], each.body["body"].encode("latin-1"), each.body["after"])
                region = self.memory.document.region(fact.region)
                if not ours or (region is not None and region.body == fact.body):
                    self.memory.recall(fact)
            elif each.body.get("state") == "queued" and each.turn in self.replies:
                self.memory.told(each.body["message"], each.body["raw"].encode("latin-1"))
            elif each.body.get("state") == "queued":
                waiting.append(each)
        self.running = next((turn for turn in begun if not self.replies[turn].state.final), "")
        return waiting
