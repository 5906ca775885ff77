"""Two saves around one version of ours: the first came out of the file when it went in, the second is of who had loaded it.

Neither editor knows of the other: what each typed stands in the file once, whatever else they did.
"""

from __future__ import annotations

import itertools
import random

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


def without_some_exchange(content: bytes, chance: random.Random) -> bytes:
    pairs = [
        pair for pair in itertools.pairwise(scan(content, TAG)) if (pair[0].part, pair[1].part) == (Part.MESSAGE, Part.REPLY)
    ]
    message, reply = chance.choice(pairs)
    cut = b"".join((message.open, message.body, message.close, message.tail, reply.open, reply.body, reply.close))
    shorter = content.replace(cut, b"", 1)
    return shorter if FIRST in shorter else content


@pytest.mark.parametrize("seed", range(8))
def test_both_stand_there_once(seed: int) -> None:
    for number in range(60):
        chance = random.Random(1000 * seed + number)
        daemon, loaded = talk(chance)
        daemon.memory.note(chance.choice(["", "a note"]))
        ours = daemon.version(len(loaded))
        buffer = chance.choice([loaded, ours])
        buffer = buffer + FIRST + b"\n" if chance.random() < 0.4 else noted(buffer, FIRST, chance)
        if chance.random() < 0.8:
            buffer = without_some_exchange(buffer, chance)
        daemon.take(buffer, displaced=ours)
        both = daemon.version(len(ours))
        other = ours + SECOND + b"\n" + chance.choice([b"", b"/send\n"])
        if chance.random() < 0.3:
            other = other.replace(BOX, BOX.replace(b" ]", b"x]"))
        daemon.take(other, displaced=chance.choice([both, None]))
        content = daemon.version(len(both))
        assert (content.count(FIRST), content.count(SECOND)) == (1, 1), (seed, number)
