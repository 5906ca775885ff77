"""Two saves around one version of ours: the first came out of the file when it went in, the second is of who had loaded it.

Neither editor knows of the other: what each typed stands in the file once, whatever else they did.
"""

from __future__ import annotations

import itertools
import random
import re

import pytest

from opagent.document.edit import new
from opagent.document.parse import Part, scan
from tests.doubles.conversation import Daemon
from tests.doubles.texts import HEADER, TAG

BOX = b"- [ ] **Send**"
FIRST, SECOND = b"typed first", b"typed second"


def talk(chance: random.Random) -> tuple[Daemon, bytes]:
    """Four turns, some from the file and some not; perhaps notes in the margin, and a draft."""
    daemon = Daemon(new(HEADER, "alice").content())
    for number in range(4):
        raw = b"m%d\n- [x] **Send**\n" % number if chance.random() < 0.5 else b""
        daemon.begin(daemon.queue(b"m%d" % number, raw))
        daemon.stream(f"word{number}\n", chance.choice(["done", "interrupted", "cancelled"]))
    content = daemon.version(0)
    for number in range(chance.randrange(4)):
        content = noted(content, b"note %d" % number, chance)
    daemon.take(content + chance.choice([b"", b"draft\n", b"draft\n/cancel\nmore\n", b"/send\n"]))
    if daemon.running:
        daemon.stream("x\n", "done")
    return daemon, daemon.version(len(content))


def noted(content: bytes, line: bytes, chance: random.Random) -> bytes:
    """With a line behind some reply."""
    reply = chance.choice([region for region in scan(content, TAG) if region.part is Part.REPLY and region.close])
    place = content.find(reply.close) + len(reply.close)
    return content[:place] + b"\n" + line + b"\n" + content[place:]


def typed(content: bytes, line: bytes, chance: random.Random) -> bytes:
    """With a line at the end, before the box, behind a reply, or in a turn."""
    match chance.randrange(4):
        case 0:
            return noted(content, line, chance)
        case 1:
            turn = chance.choice([region for region in scan(content, TAG) if region.part.turn])
            start = content.find(turn.open) + len(turn.open)
            place = start + chance.choice([match.end() for match in re.finditer(rb"\n", turn.body)])
            return content[:place] + line + b"\n" + content[place:]
        case 2 if BOX in content:
            return content.replace(BOX, line + b"\n\n" + BOX)
        case _:
            return content + line + b"\n"


def exchange(content: bytes, chance: random.Random) -> bytes:
    """A whole one as it stands there."""
    pairs = [
        pair for pair in itertools.pairwise(scan(content, TAG)) if (pair[0].part, pair[1].part) == (Part.MESSAGE, Part.REPLY)
    ]
    message, reply = chance.choice(pairs)
    return b"".join((message.open, message.body, message.close, message.tail, reply.open, reply.body, reply.close))


def changed(content: bytes, line: bytes, chance: random.Random) -> bytes:
    """A save: with `line`, perhaps with an exchange deleted or put first, and with a gesture."""
    content = typed(content, line, chance)
    shorter = content.replace(exchange(content, chance), b"", 1)
    content = shorter if chance.random() < 0.3 and line in shorter else content
    if chance.random() < 0.4:
        cut, first = exchange(content, chance), next(region.open for region in scan(content, TAG) if region.part is Part.MESSAGE)
        content = content if cut.startswith(first) else content.replace(cut, b"", 1).replace(first, cut + first, 1)
    return content + chance.choice([b"", b"/send\n"])


@pytest.mark.parametrize("seed", range(8))
def test_both_stand_there_once(seed: int) -> None:
    for number in range(60):
        chance = random.Random(1000 * seed + number)
        daemon, loaded = talk(chance)
        daemon.memory.note(chance.choice(["", "a note"]))
        ours = daemon.version(len(loaded))
        daemon.take(changed(chance.choice([loaded, ours]), FIRST, chance), displaced=ours)
        if daemon.running and chance.random() < 0.5:
            daemon.stream("y\n", chance.choice(["", "done"]))
        both = daemon.version(len(ours))
        if chance.random() < 0.2:
            daemon.restart(both)
            both = daemon.version(len(both))
        daemon.take(changed(ours, SECOND, chance), displaced=chance.choice([both, None]))
        content = daemon.version(len(both))
        for line in (FIRST, SECOND):
            assert content.count(line) == 1 or any(line in aside for aside in daemon.aside), (seed, number, line)
