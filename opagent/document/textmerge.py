"""Three versions of a text -> one, line by line (diff3); knows no conversation.

API: `merge_text`, `shared`, `favoured`, `marked`, `Clash`.

(The algorithm is that of Khanna, Kunal, Pierce, "A formal investigation of diff3", 2007.)
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher

_ALIGNED = 10_000  # lines a side that are lined up (0.4 s at worst); more count as one change
_LINE = re.compile(rb"[^\n]*\n|[^\n]+")


@dataclass(frozen=True, slots=True)
class Clash:
    """Lines that both sides changed, each in its own way; one of the two may be empty."""

    ours: bytes
    theirs: bytes

    def block(self, eol: bytes, name: str = "") -> bytes:
        """Both texts between the marks that git uses."""
        label = f" {name}".encode() if name else b""
        ours, theirs = (text + eol if text and not text.endswith(b"\n") else text for text in (self.ours, self.theirs))
        return b"".join((b"<<<<<<< ours", label, eol, ours, b"=======", eol, theirs, b">>>>>>> theirs", label, eol))


Piece = bytes | Clash


def merge_text(base: bytes, ours: bytes, theirs: bytes) -> tuple[Piece, ...]:
    """The merged text in order, and in it what cannot be merged."""
    if theirs in (base, ours):
        return (ours,)
    if ours == base:
        return (theirs,)
    return tuple(_pieces(*(_LINE.findall(text) for text in (base, ours, theirs))))


def shared(ours: bytes, theirs: bytes) -> bytes:
    """The lines that both have, in order: what stands in for a text that both come from where none is known."""
    lines = _LINE.findall(ours)
    return b"".join(lines[line] for line in sorted(_matches(lines, _LINE.findall(theirs))))


def favoured(pieces: Iterable[Piece]) -> bytes:
    """Where both sides changed lines, ours."""
    return b"".join(piece.ours if isinstance(piece, Clash) else piece for piece in pieces)


def marked(pieces: Iterable[Piece], eol: bytes) -> bytes:
    """Where both sides changed lines, both, as git shows it."""
    return b"".join(piece.block(eol) if isinstance(piece, Clash) else piece for piece in pieces)


def _pieces(base: list[bytes], ours: list[bytes], theirs: list[bytes]) -> Iterator[Piece]:
    """From one line that all three have to the next; what lies between was changed by one side or by both."""
    in_ours, in_theirs = _matches(base, ours), _matches(base, theirs)
    at = at_ours = at_theirs = 0
    for line in (*(line for line in range(len(base)) if line in in_ours and line in in_theirs), len(base)):
        to_ours, to_theirs = in_ours.get(line, len(ours)), in_theirs.get(line, len(theirs))
        if line == len(base):
            to_ours, to_theirs = len(ours), len(theirs)
        yield from _chosen(base[at:line], ours[at_ours:to_ours], theirs[at_theirs:to_theirs])
        yield b"".join(base[line : line + 1])
        at, at_ours, at_theirs = line + 1, to_ours + 1, to_theirs + 1


def _chosen(base: list[bytes], ours: list[bytes], theirs: list[bytes]) -> Iterator[Piece]:
    if theirs in (base, ours):
        yield b"".join(ours)
    elif ours == base:
        yield b"".join(theirs)
    else:
        head = _common(ours, theirs)
        tail = _common(ours[head:][::-1], theirs[head:][::-1])
        yield b"".join(ours[:head])
        yield Clash(b"".join(ours[head : len(ours) - tail]), b"".join(theirs[head : len(theirs) - tail]))
        yield b"".join(ours[len(ours) - tail :])


def _matches(base: list[bytes], side: list[bytes]) -> dict[int, int]:
    """Lines of base that stand in a side too: number -> number there, both growing."""
    head = _common(base, side)
    tail = _common(base[head:][::-1], side[head:][::-1])
    found = {line: line for line in range(head)}
    inner, other = base[head : len(base) - tail], side[head : len(side) - tail]
    if max(len(inner), len(other)) <= _ALIGNED:
        for first, second, size in SequenceMatcher(None, inner, other).get_matching_blocks():
            found |= {head + first + line: head + second + line for line in range(size)}
    return found | {len(base) - line: len(side) - line for line in range(tail, 0, -1)}


def _common(first: list[bytes], second: list[bytes]) -> int:
    pairs = zip(first, second, strict=False)
    return next((count for count, (one, other) in enumerate(pairs) if one != other), min(len(first), len(second)))
