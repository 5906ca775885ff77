"""kill -9 of either daemon of a mirror at random moments, while persons type on both sides: every line is in both files."""

from __future__ import annotations

import os
import random
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from opagent.document.parse import Part, scan
from tests.doubles.machines import Machine, Pair, paired
from tests.doubles.patience import until
from tests.doubles.sheet import BOX, Sheet

ROUNDS = int(os.environ.get("MIRROR_ROUNDS", "20"))


@pytest.fixture
def pair(home: Path) -> Iterator[Pair]:
    with paired(home) as both:
        yield both


def typed(sheet: Sheet, line: str) -> None:
    """Above the box, wherever that is."""
    content = sheet.text()
    before, box, after = content.rpartition(BOX)
    sheet.save(f"{before}{line}\n\n{BOX}{after}" if box else f"{content.rstrip()}\n\n{line}\n")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(int(os.environ.get("MIRROR_SEEDS", "1"))))
def test_no_line_is_lost_whoever_dies_when(pair: Pair, seed: int) -> None:
    chance = random.Random(seed)
    here = pair.create()
    there = pair.other(here)
    lines: list[str] = []
    for number in range(ROUNDS):
        victim: Machine = chance.choice((pair.here, pair.there))
        for sheet, side in ((here, "here"), (there, "there")):
            if chance.random() < 0.8:
                lines.append(f"typed {side} in round {number}")
                typed(sheet, lines[-1])
        if chance.random() < 0.4:
            lines.append(f"sent in round {number}")
            typed(here if chance.random() < 0.7 else there, f"{lines[-1]}\n\n/send")
        time.sleep(chance.random() * 0.25)
        victim.kill()
        if chance.random() < 0.5:
            lines.append(f"typed while one is away {number}")
            typed(chance.choice((here, there)), lines[-1])
        victim.start()
    with pair.there.client() as client:
        here.talk.client = there.talk.client = client
        typed(here, "the end")

        def rest() -> bool:
            turns = here.turns()
            one, other = here.bytes(), there.bytes()
            return (
                one == other
                and b"the end" in one
                and all(turn["state"] in ("done", "interrupted", "cancelled") for turn in turns)
            )

        until(rest)
        text = here.text()
        assert text == there.text()
        ours = b"".join(region.raw for region in scan(here.bytes()) if region.part is not Part.REPLY).decode()
        missing = [line for line in lines if not re.search(rf"(?m)^{re.escape(line)}$", ours)]
        assert not missing, f"{missing}\n{text}"
        sent = [line for turn in here.turns() for line in turn["text"].split("\n") if line in lines]
        assert len(sent) == len(set(sent)), sorted(line for line in sent if sent.count(line) > 1)
        twice = [line for line in lines if len(re.findall(rf"(?m)^{re.escape(line)}$", ours)) > 1]
        assert not twice, text
