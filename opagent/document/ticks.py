"""The boxes that a person ticked in the open approvals of a reply; decides nothing and writes nothing.

API: `untick`, `plain`, `fold`, `Tick`.

What an agent asks for stands in a quote, so only lines outside it are read: no text of an agent can be a tick. (Design:
"Approvals and questions in the file".)
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from opagent.document.parse import Part, Region, asks

_BOX = re.compile(rb" {0,3}[-*+][ \t]+\[([ xX])\][ \t]+(.+)")
_DENY = re.compile(rb"(deny)[ \t]*:[ \t]*(.*)", re.I)
_ANSWER = re.compile(rb" {0,3}answer[ \t]*:[ \t]*(.*)", re.I)
_QUOTE = re.compile(rb" {0,3}>[ \t]?")


@dataclass(frozen=True, slots=True)
class Tick:
    """What a person did to one open block. Nothing is said here about whether it counts."""

    approval: str  # id of the block
    chosen: tuple[str, ...]  # labels of the ticked option lines, as they stand in the file
    words: str  # text after `Deny:` or `Answer:` and on the lines right below it
    shown: bytes  # the block as `plain` gives it: compared with what was logged
    reply: str = ""  # the reply that it stands in


@dataclass(slots=True)
class _Block:
    """The lines of a block: as the daemon wrote them, as they are compared, and what the person put into them."""

    written: list[bytes] = field(default_factory=list)
    compared: list[bytes] = field(default_factory=list)
    chosen: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    wordy: bool = False  # the line before was a reason or an answer: it may go on in this one

    def take(self, line: bytes) -> None:
        text = line.rstrip(b" \t\r")
        end = b"\r" if line.endswith(b"\r") else b""
        if box := _BOX.fullmatch(text):
            self._box(box, end)
        elif answer := _ANSWER.fullmatch(text):
            self._say(answer[1])
            self.written.append(b"Answer:" + end)
        elif self.wordy and text and not text.lstrip().startswith((b">", b"<!--")):
            self._say(text)
        else:
            self.wordy = False
            self.written.append(line)
            if text:  # empty lines outside the quote come and go with formatters
                self.compared.append(_QUOTE.sub(b"> ", text, count=1).rstrip())

    def _box(self, box: re.Match[bytes], end: bytes) -> None:
        label = box[2]
        self.wordy = False
        if denied := _DENY.fullmatch(label):
            label = denied[1]
            self._say(denied[2])
        if box[1] != b" ":
            self.chosen.append(_text(label))
        self.written.append(b"- [ ] " + label + end)
        self.compared.append(b"- [ ] " + fold(_text(label)).encode())

    def _say(self, words: bytes) -> None:
        self.wordy = True
        if words.strip():
            self.words.append(_text(words.strip()))


def _text(content: bytes) -> str:
    return content.decode("utf-8", "replace")


def _read(lines: bytes) -> _Block:
    block = _Block()
    for line in lines.split(b"\n"):
        block.take(line)
    return block


def fold(label: str) -> str:
    """A label as it is compared: case and blanks do not matter."""
    return " ".join(label.split()).casefold()


def plain(shown: bytes) -> bytes:
    """What stands between the markers of a block, as it is compared: boxes unticked, no reason and no answer, LF.

    Blanks at line ends, empty lines and how a quote is indented do not matter; everything inside the quote does.
    """
    return b"\n".join(_read(shown).compared)


def untick(body: bytes, tag: str, reply: str = "") -> tuple[bytes, tuple[Tick, ...]]:
    """The body of a reply with the boxes of its open approvals as the daemon wrote them, and what a person did to them.

    A block that nobody touched gives no tick. A body without open blocks comes back unchanged.
    """
    pieces, ticks, done = [], [], 0
    for ask in asks(Region(Part.REPLY, body=body), tag):
        if ask.outcome != "open":
            continue
        start, end = body.index(b"\n", ask.start) + 1, body.rindex(b"<!--", ask.start, ask.end)
        block = _read(body[start:end])
        pieces += [body[done:start], b"\n".join(block.written)]
        done = end
        if block.chosen or block.words:
            words = "\n".join(block.words)
            ticks.append(Tick(ask.id, tuple(block.chosen), words, b"\n".join(block.compared), reply))
    return b"".join((*pieces, body[done:])), tuple(ticks)
