"""What must hold after a soak: the person's lines, the agent's chunks, the turns and the file, each against what was written down."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from opagent import paths
from opagent.document.parse import Part, join, scan
from opagent.store.opening import connect_reader
from tests.doubles.checker import Snapshot
from tests.soak import agent

CHUNK = re.compile(r"A[0-9a-f]{8}n\d+q")
WORD = re.compile(rb"P\d{6}q")
_LISTED = re.compile(rb"(?m)^- \d{4}-\d\d-\d\d \d\d:\d\d [^:\n]+: .*\n")  # of a table of contents, which quotes messages


@dataclass(slots=True)
class Said:
    """What the person's journal says: every line that was ever saved, and what was taken out on purpose."""

    lines: dict[str, bytes] = field(default_factory=dict)
    removed: set[str] = field(default_factory=set)
    deleted: set[str] = field(default_factory=set)  # turns, at any time
    gone: set[str] = field(default_factory=set)  # those of them that no version showed the person again
    ticked: set[str] = field(default_factory=set)
    asked: int = 0
    saves: int = 0


def journal(path: Path) -> Said:
    said = Said()
    for line in path.read_text().splitlines():
        save = json.loads(line)
        said.lines |= {word: text.encode("latin-1") for word, text in save["lines"].items()}
        said.removed |= set(save["removed"])
        said.deleted |= set(save["deleted"])
        said.gone = set(save["gone"])
        said.ticked |= set(save["ticked"])
        said.asked += save["asked"]
        said.saves += 1
    return said


class Found:
    """The file with its parts, and what was set aside."""

    def __init__(self, path: Path, workspace: Path) -> None:
        self.path = path
        self.contents = [_own(part.read_bytes()) for part in (path, *sorted(path.parent.glob(f"{path.stem}/part-*.md")))]
        self.regions = [region for content in self.contents for region in scan(content)]
        self.main = {region.id for region in scan(self.contents[0])}
        self.lines = Counter(line for content in self.contents for line in content.split(b"\n"))
        self.words = Counter(word.decode() for content in self.contents for word in WORD.findall(content))
        saves = workspace / ".opagent/saves"
        self.aside = {word.decode() for kept in saves.glob("*") for word in WORD.findall(kept.read_bytes())}
        self.left = sorted(path.name for path in (workspace / ".opagent/tmp").iterdir())


def _own(content: bytes) -> bytes:
    """What is no quote of another part."""
    regions = scan(content)
    return join(tuple(replace(each, body=_LISTED.sub(b"", each.body)) if each.part is Part.SUMMARY else each for each in regions))


def check(path: Path, workspace: Path, conversation: str, said: Said, numbers: Counter[str]) -> list[str]:
    """Everything that is wrong. `numbers` counts what was looked at."""
    connection = connect_reader(paths.database())
    try:
        log = Snapshot(connection)
    finally:
        connection.close()
    found = Found(path, workspace)
    numbers["saves"], numbers["lines"] = said.saves, len(said.lines)
    numbers["bytes"] = sum(map(len, found.contents))
    wrong = [*_lines(found, said, numbers), *_sent(log, conversation, said, numbers)]
    wrong += [*_replies(found, log, conversation, said, numbers)]
    return wrong + [f"left in tmp/: {name}" for name in found.left]


def _lines(found: Found, said: Said, numbers: Counter[str]) -> Iterator[str]:
    for word, line in said.lines.items():
        count = found.words[word]
        if count > 1:
            yield f"the person's {word} stands in the file {count} times"
        elif count == 0 and word in said.removed:
            numbers["taken out"] += 1
        elif count == 0 and word in found.aside:
            numbers["set aside"] += 1
        elif count == 0:
            yield f"the person's {word} is lost: {line!r}"
        elif found.lines[line] != 1:
            yield f"the person's line is not as typed: {line!r}"


def _sent(log: Snapshot, conversation: str, said: Said, numbers: Counter[str]) -> Iterator[str]:
    texts = [facts["text"].encode() for (name, _), facts in log.queued.items() if name == conversation]
    numbers["messages"] = len(texts)
    words = Counter(word.decode() for text in texts for word in set(WORD.findall(text)))
    yield from (f"{word} was sent {count} times" for word, count in words.items() if count > 1)
    if len(texts) > said.asked:
        yield f"{len(texts)} messages were sent, and the person asked {said.asked} times"


def _replies(found: Found, log: Snapshot, conversation: str, said: Said, numbers: Counter[str]) -> Iterator[str]:
    shown = Counter(chunk for content in found.contents for chunk in CHUNK.findall(content.decode("utf-8", "replace")))
    bodies = {region.id: region.body.decode("utf-8", "replace") for region in found.regions if region.part is Part.REPLY}
    for (name, turn), facts in log.queued.items():
        if name != conversation:
            continue
        chunks = CHUNK.findall(log.texts.get((name, turn), ""))
        planned = [chunk for text in agent.answer(facts["text"], "none") for chunk in CHUNK.findall(text)]
        numbers["chunks"] += len(chunks)
        if chunks != planned[: len(chunks)]:
            yield f"the log of {turn} does not hold what the agent said, in order: {chunks[:3]} ... {chunks[-3:]}"
        if log.states[name, turn][-1] == "done" and len(chunks) != len(planned):
            yield f"{turn} is done after {len(chunks)} of {len(planned)} chunks"
        if turn in said.deleted:
            numbers["exchanges deleted"] += 1
            if turn in found.main and turn in said.gone:
                yield f"the person deleted {turn}, and it is back"
        elif "running" in log.states[name, turn] and (body := CHUNK.findall(bodies.get(turn, ""))) != chunks:
            yield f"the file shows other chunks of {turn} than the log: {len(body)} and {len(chunks)}, {body[-2:]} and {chunks[-2:]}"
        elif twice := [chunk for chunk in chunks if shown[chunk] != 1]:
            yield f"{len(twice)} chunks of {turn} do not stand in the file once: {twice[:3]}"


def state_of(log: Snapshot, conversation: str) -> Counter[str]:
    """How the turns ended."""
    return Counter(states[-1] for (name, _), states in log.states.items() if name == conversation)
