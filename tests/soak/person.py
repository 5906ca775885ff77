"""A person at one conversation file, in a process of its own: types, ticks, deletes, reorders and saves at random until stdin ends.

python -m tests.soak.person PATH JOURNAL SEED

Every save is written down before it is made: JOURNAL gets one JSON line with the lines that stand in the buffer, and what was
taken out of it on purpose. An editor that does not load the file again before the next change is the usual case here.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import select
import sys
import time
from collections.abc import Callable
from pathlib import Path

from opagent.document.parse import Part, Region, scan
from tests.doubles.saver import save

STYLES = (
    b"%s", b"%s and more", b"- %s", b"> %s", b"# %s", b"```%s", b"    %s", b"%s  ", b"%s caf\xc3\xa9 \xf0\x9f\x98\x80", b"%s \xe9\xff",
    b"<!-- %s -->", b"@%s", b"/%s", b"%s ```", b"- [ ] %s", b"| %s | x |", b"<details>%s",
)  # fmt: skip
WORD = re.compile(rb"P\d{6}q")
BOX = re.compile(rb"(?m)^- \[ \] \*\*Send\*\*$")
OPEN = re.compile(rb"(?m)^<!-- op:\w{4} (p\w+) ask (?:.|\n)*?^<!-- op:\w{4} /\1 open -->$")
WEIGHTS = {
    "type": 30, "inside": 6, "margin": 4, "reword": 3, "send": 14, "cancel": 1, "answer": 12, "delete": 2, "unsay": 3, "reorder": 2,
    "save": 40, "load": 14,
}  # fmt: skip


class Person:
    def __init__(self, path: Path, journal: Path, seed: int) -> None:
        self.path, self.chance, self.number = path, random.Random(seed), 0
        self.journal = journal.open("a")
        self.buffer = self.read()
        self.lines: dict[str, bytes] = {}  # typed so far, by word
        self.removed: set[str] = set()  # words that were taken out since the last save
        self.deleted: set[str] = set()  # and turns
        self.gone: set[str] = set()  # turns that were taken out at any time
        self.ticked: set[str] = set()
        self.asked = 0  # gestures since the last save
        self.dirty = False

    def run(self, stopped: Callable[[], bool]) -> None:
        while not stopped():
            name = self.chance.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
            getattr(self, name)()
            time.sleep(self.chance.random() ** 3 * 0.05)
        self.save()

    # ---- the buffer ------------------------------------------------------------------------------------------------------

    def read(self) -> bytes:
        while True:
            try:
                return self.path.read_bytes()
            except FileNotFoundError:
                time.sleep(0.001)

    def load(self) -> None:
        """An editor takes the file anew where nothing is lost by that."""
        if not self.dirty:
            self.buffer = self.read()
            self.gone -= {region.id for region in scan(self.buffer)}  # a version from before that save: they may come back

    def save(self) -> None:
        if not self.dirty and self.chance.random() < 0.9:
            return  # now and then a buffer without a change, which may be old
        how = self.chance.choice(("inplace", "vim", "rename"))
        words = sorted(word.decode() for word in WORD.findall(self.buffer))
        said = {
            "how": how, "words": words, "lines": {word: self.lines[word].decode("latin-1") for word in words if word in self.lines},
            "removed": sorted(self.removed), "deleted": sorted(self.deleted), "gone": sorted(self.gone), "ticked": sorted(self.ticked),
            "asked": self.asked,
        }  # fmt: skip
        self.journal.write(json.dumps(said) + "\n")
        self.journal.flush()
        save(self.path, how, self.buffer)
        self.lines, self.removed, self.deleted, self.ticked = {}, set(), set(), set()
        self.asked, self.dirty = 0, False
        if self.chance.random() < 0.5:
            time.sleep(self.chance.random() * 0.2)
            self.load()

    def change(self, content: bytes) -> None:
        self.buffer, self.dirty = content, True

    def line(self) -> bytes:
        self.number += 1
        word = b"P%06dq" % self.number
        self.lines[word.decode()] = line = self.chance.choice(STYLES) % word
        return line + b"\n"

    def insert(self, place: int, text: bytes) -> None:
        self.change(self.buffer[:place] + text + self.buffer[place:])

    def append(self, text: bytes) -> None:
        self.change(self.buffer + (b"" if self.buffer.endswith(b"\n") else b"\n") + text)

    def pick(self, part: Part, ended: bool = False) -> Region | None:
        found = [region for region in scan(self.buffer) if region.part is part and (region.close or not ended)]
        return self.chance.choice(found) if found else None

    def line_of(self, region: Region) -> int:
        """Where some line of a region begins."""
        start = self.buffer.find(region.open) + len(region.open)
        ends = [match.end() for match in re.finditer(rb"\n", region.body)]
        return start + self.chance.choice(ends or [len(region.body)])

    # ---- what a person does ----------------------------------------------------------------------------------------------

    def type(self) -> None:
        boxes = list(BOX.finditer(self.buffer, max(0, self.buffer.rfind(b"\n<!-- op:"))))
        if boxes and self.chance.random() < 0.6:
            self.insert(boxes[-1].start(), self.line() + b"\n")
        else:
            self.append(self.line())

    def send(self) -> None:
        boxes = list(BOX.finditer(self.buffer, max(0, self.buffer.rfind(b"\n<!-- op:"))))
        self.asked += 1
        if boxes and self.chance.random() < 0.6:
            place = boxes[-1].start() + 3
            self.change(self.buffer[:place] + b"x" + self.buffer[place + 1 :])
        else:
            self.append(b"/send\n")

    def cancel(self) -> None:
        self.append(b"/cancel\n")

    def inside(self) -> None:
        """A line into a reply, whether it runs or has ended."""
        if reply := self.pick(Part.REPLY, ended=True):
            self.insert(self.line_of(reply), self.line())

    def reword(self) -> None:
        """A line into a message that was sent."""
        if message := self.pick(Part.MESSAGE):
            self.insert(self.line_of(message), self.line())

    def margin(self) -> None:
        """A note behind an older turn."""
        if (reply := self.pick(Part.REPLY, ended=True)) and reply.close:
            self.insert(self.buffer.find(reply.close) + len(reply.close), b"\n" + self.line())

    def answer(self) -> None:
        """A box of what an agent asks."""
        if asked := OPEN.search(self.buffer):
            box = self.chance.choice((b"- [ ] Allow once", b"- [ ] Allow in this conversation", b"- [ ] Deny"))
            place = self.buffer.find(box + b"\n", asked.start(), asked.end())
            if place >= 0:
                self.ticked |= {asked[1].decode()} if b"Allow" in box else set()
                self.change(self.buffer[:place] + box.replace(b" ]", b"x]") + self.buffer[place + len(box) :])

    def unsay(self) -> None:
        """A line of the draft is taken back."""
        area = self.buffer.rfind(b"\n<!-- op:") + 1
        found = [match for match in re.finditer(rb"(?m)^.*P\d{6}q.*\n", self.buffer) if match.start() > area]
        if found:
            line = self.chance.choice(found)
            self.take_out(line[0])
            self.change(self.buffer[: line.start()] + self.buffer[line.end() :])

    def delete(self) -> None:
        """A whole exchange that this editor has seen to its end."""
        if cut := self.exchange(ended=True):
            raw, ids = cut
            self.take_out(raw)
            self.deleted |= ids
            self.gone |= ids
            self.change(self.buffer.replace(raw, b"", 1))

    def reorder(self) -> None:
        """A whole exchange goes before the first one."""
        cut, first = self.exchange(), next((region for region in scan(self.buffer) if region.part is Part.MESSAGE), None)
        if cut and first and not cut[0].startswith(first.open):
            content = self.buffer.replace(cut[0], b"", 1)
            self.change(content.replace(first.open, cut[0] + first.open, 1))

    def exchange(self, ended: bool = False) -> tuple[bytes, set[str]] | None:
        """A message and its reply as they stand in the buffer; `ended`: one whose end was loaded."""
        regions = scan(self.buffer)
        loaded = regions[-1].value("after") if regions[-1].part is Part.NEXT else ""
        names = [region.id for region in regions]
        if not loaded or loaded not in names:
            return None
        pairs = [
            (message, reply)
            for message, reply in itertools.pairwise(regions)
            if message.part is Part.MESSAGE
            and reply.part is Part.REPLY
            and reply.close
            and reply.value("re") == message.id
            and (reply.finished or not ended)
        ]
        if not pairs:
            return None
        message, reply = self.chance.choice(pairs)
        raw = b"".join((message.open, message.body, message.close, message.tail, reply.open, reply.body, reply.close))
        return (raw, {message.id, reply.id}) if raw in self.buffer else None

    def take_out(self, content: bytes) -> None:
        self.removed |= {word.decode() for word in WORD.findall(content)}


def main(path: Path, journal: Path, seed: int) -> None:
    Person(path, journal, seed).run(lambda: bool(select.select([0], [], [], 0)[0]) and not os.read(0, 1))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
