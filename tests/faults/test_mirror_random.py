"""Random lives of a conversation's file on two machines: both are edited, the link is cut, either daemon is killed.

At the end both files are equal, and every line that a person typed stands in them once, byte for byte, and was sent at most once.
`scripts/test tests/faults/test_mirror_random.py --long` lives ten times as many lives, each time others, and with stale
editors. `MIRROR_SEED=N` lives the one of a seed; what happens in it still depends on who is quicker.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from opagent.document.parse import Part, scan
from tests.doubles.machines import Machine, Pair
from tests.doubles.patience import until
from tests.doubles.sheet import BOX, Sheet
from tests.doubles.unixline import UnixLine, unix_line

ROUNDS = 30
LIVES = 2
FINAL = ("done", "failed", "interrupted", "cancelled")
_REST = (
    "", "  two blanks at its end  ", "\tand a tab", " \udcff\udcfe not UTF-8", " 漢字 🜁 e\u0301", " `code` <b> &amp;",
    " <!-- a comment -->", " | a | table |", " @nobody /send", " - [ ] **Send**",
)  # fmt: skip
_BEFORE = ("", "", "", "- ", "> ", "    ", "\t", "# ", "1. ", "\u2028")


def test_nothing_that_was_typed_is_lost(home: Path, rounds: int, capsys: pytest.CaptureFixture[str]) -> None:
    seeds = range(LIVES) if rounds == 1 else random.sample(range(1 << 30), LIVES * rounds)
    if said := os.environ.get("MIRROR_SEED"):
        seeds = [int(said)]
    for number, seed in enumerate(seeds):
        with capsys.disabled():
            print(f" seed {seed}", end="", flush=True)
        (home / f"{number}").mkdir()
        with _life(home / f"{number}", seed, 0.0 if rounds == 1 else 0.25) as life:
            for _ in range(ROUNDS):
                life.round()
            life.end()


@contextlib.contextmanager
def _life(home: Path, seed: int, stale: float) -> Iterator[_Life]:
    here, there = Machine(home, "a"), Machine(home, "b")
    with unix_line(home / "line.sock", there.socket) as line:
        here.mirror(there, line.path)
        there.start()
        here.start()
        try:
            with there.client() as client:
                yield _Life(Pair(here, there, client), line, seed, stale)
        finally:
            here.stop()
            there.stop()


class _Editor:
    """A person who types and saves; in a long run often in an old version, as with an editor that does not reload by itself."""

    def __init__(self, sheet: Sheet, name: str, life: _Life) -> None:
        self.sheet, self._name, self._life = sheet, name, life
        self._buffer = sheet.bytes()

    def act(self) -> None:
        chance = self._life.chance
        if chance.random() >= self._life.stale:
            self.load()
        for _ in range(chance.choice((1, 1, 1, 2, 4))):
            self.type()
        if chance.random() < 0.2:
            self._insert(b"/send", last=True)
        self.save()

    def load(self) -> None:
        self._buffer = self.sheet.bytes()

    def type(self, words: str = "") -> None:
        chance = self._life.chance
        line = words or f"{chance.choice(_BEFORE)}{self._name}{len(self._life.lines)}{chance.choice(_REST)}"
        self._life.lines.append(line.encode("utf-8", "surrogateescape"))
        self._insert(self._life.lines[-1])

    def _insert(self, line: bytes, last: bool = False) -> None:
        """Somewhere in the draft, as its last line, or (seldom) below a reply that has ended."""
        chance, regions = self._life.chance, scan(self._buffer)
        at = sum(region.size for region in regions[:-1])
        draft = regions[-1].raw
        places = [at + found.end() for found in re.finditer(rb"\n", draft)][2:] or [len(self._buffer)]
        box = (b"\n" + draft).rfind(b"\n" + BOX.encode())
        if last and box >= 0:
            places = [at + box]
        elif last:
            places = [len(self._buffer)]
        elif box >= 0:
            places = [place for place in places if place <= at + box] or [at + box]
        replies = [place for place, region in enumerate(regions[:-1]) if region.part is Part.REPLY and region.finished]
        if replies and not last and chance.random() < 0.15:
            places = [sum(region.size for region in regions[: chance.choice(replies) + 1])]
            self._life.notes.add(line.decode("utf-8", "replace"))
        place = chance.choice(places)
        before, after = self._buffer[:place], self._buffer[place:]
        self._buffer = before + (b"" if before.endswith(b"\n") else b"\n") + line + b"\n" + after

    def save(self) -> None:
        """In place, or as editors do that write a new file."""
        if self._life.chance.random() < 0.5:
            self.sheet.path.write_bytes(self._buffer)
        else:
            new = self.sheet.path.with_name(".new.tmp")
            new.write_bytes(self._buffer)
            new.rename(self.sheet.path)


class _Life:
    def __init__(self, pair: Pair, line: UnixLine, seed: int, stale: float) -> None:
        self.pair, self.line, self.seed, self.stale = pair, line, seed, stale
        self.chance = random.Random(seed)
        self.lines: list[bytes] = []
        self.notes: set[str] = set()  # typed behind a reply: for an editor that is behind they are draft
        sheet = pair.create()
        self.editors = _Editor(sheet, "here", self), _Editor(pair.other(sheet), "there", self)

    def round(self) -> None:
        chance = self.chance
        for editor in self.editors:
            if chance.random() < 0.7:
                editor.act()
        time.sleep(chance.random() ** 3 * 0.3)
        what = chance.choices(("nothing", "cut", "away", "here", "there"), (4, 3, 2, 1.5, 1.5))[0]
        if what == "cut":
            self.line.cut()
        elif what == "away":
            self.line.down()
        elif what != "nothing":
            victim = self.pair.here if what == "here" else self.pair.there
            victim.kill()
            if chance.random() < 0.5:
                chance.choice(self.editors).act()
            victim.start()
        if chance.random() < 0.4:
            self.line.up()

    def end(self) -> None:
        self.line.up()
        with self.pair.there.client() as client:
            for editor in self.editors:
                editor.sheet.talk.client = client
                editor.load()
                editor.type(f"the end of {editor._name}")
                editor.save()
            until(self._rests)
            self._check(self.editors[0].sheet)

    def _rests(self) -> bool:
        one, other = (editor.sheet.bytes() for editor in self.editors)
        ended = all(turn["state"] in FINAL for turn in self.editors[0].sheet.turns())
        return ended and one == other and all(line in one for line in self.lines[-2:])

    def _check(self, sheet: Sheet) -> None:
        regions = scan(sheet.bytes())
        typed = b"\n".join(region.tail if region.part is Part.REPLY else region.raw for region in regions).split(b"\n")
        count = {line: typed.count(line) for line in self.lines}
        wrong = {line: times for line, times in count.items() if times != 1}
        assert not wrong, f"seed {self.seed}: {wrong}\n{sheet.text()}".encode("ascii", "backslashreplace").decode()
        sent = [line for text in sheet.texts() for line in text.split("\n")]
        known = {line.decode("utf-8", "replace") for line in self.lines} - self.notes
        twice = {line for line in sent if line in known and sent.count(line) > 1}
        assert not twice, f"seed {self.seed}: {twice}\n{sheet.text()}".encode("ascii", "backslashreplace").decode()
