"""What two texts are compared by where an editor or a formatter was between them: digests, lines with text, words; no structure.

API: `digest`, `shape`, `lines`, `line_digest`, `has_text`, `words`, `aligned`.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Sequence

_SIZE = 8  # bytes of a digest
_ALIGNED = 2000  # lines a side; from 200 on `difflib` ignores those that make up over 1 %, so this takes milliseconds
_PLAIN = re.compile(rb"[0-9A-Za-z_]")


def _hash(text: bytes) -> bytes:
    return hashlib.blake2b(text, digest_size=_SIZE).digest()


def _normal(body: bytes) -> bytes:
    """LF, nothing at line ends, no outer blank lines."""
    return b"\n".join([line.rstrip() for line in body.strip().split(b"\n")])


def digest(body: bytes) -> bytes:
    """Equal for bodies that differ in line ends, blanks at line ends and outer blank lines only."""
    return _hash(_normal(body))


def lines(body: bytes) -> list[bytes]:
    """The lines without blanks around them."""
    return [line.strip() for line in body.split(b"\n")]


def line_digest(line: bytes) -> bytes:
    return _hash(line.strip())


def has_text(line: bytes) -> bool:
    """Whether a stripped line holds a word and is no closing tag."""
    if line.startswith(b"</"):
        return False
    return bool(_PLAIN.search(line)) or (not line.isascii() and bool(re.search(r"\w", line.decode("utf-8", "replace"))))


def shape(stripped: list[bytes]) -> bytes:
    """Digest of those of the lines that have text."""
    return _hash(b"\n".join([line for line in stripped if has_text(line)]))


def words(text: bytes) -> str:
    """The words of a text between single blanks, so that `words(a) in words(b)` asks for a sequence of whole words."""
    return " " + " ".join(re.findall(r"\w+", text.decode("utf-8", "replace"))) + " "


def aligned(old: Sequence[bytes], new: Sequence[bytes]) -> list[tuple[str, int, int, int, int]]:
    """Opcodes as of `difflib`; what is common at both ends is cut first, and of the rest at most 2,000 lines a side line up."""
    head = _common(old, new)
    tail = _common(old[head:][::-1], new[head:][::-1])
    ends = len(old) - tail, len(new) - tail
    middle_old, middle_new = old[head : min(ends[0], head + _ALIGNED)], new[head : min(ends[1], head + _ALIGNED)]
    found = [("equal", 0, head, 0, head)] if head else []
    for kind, i1, i2, j1, j2 in difflib.SequenceMatcher(None, middle_old, middle_new).get_opcodes():
        found.append((kind, i1 + head, i2 + head, j1 + head, j2 + head))
    rest = head + len(middle_old), head + len(middle_new)
    if rest != ends:
        kind = "replace" if rest[0] < ends[0] and rest[1] < ends[1] else "delete" if rest[0] < ends[0] else "insert"
        found.append((kind, rest[0], ends[0], rest[1], ends[1]))
    return [*found, ("equal", ends[0], len(old), ends[1], len(new))] if tail else found


def _common(one: Sequence[bytes], other: Sequence[bytes]) -> int:
    return next((place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
