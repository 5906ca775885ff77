"""Ids of conversations, messages, replies and approvals, and the names of files; randomness is passed in, nothing is looked up.

API: `new_id`, `new_conversation`, `new_rest`, `slug`, `file_name`, `free_name`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

from opagent.document.markers import DIGITS
from opagent.model import ConversationId

LETTERS = {"message": "u", "reply": "a", "approval": "p", "summary": "s", "process": "x", "call": "c"}
_LENGTH = 60  # characters of a slug
_BYTES = 200  # and bytes: date, suffix and `.md` must fit into 255 with it
_STEM = 240  # bytes of a name without number and `.md`
_DEVICES = {"con", "prn", "aux", "nul", *(f"{name}{number}" for name in ("com", "lpt") for number in range(1, 10))}


def _digits(random: bytes, count: int) -> str:
    if len(random) < count:
        raise ValueError(f"{count} random bytes are needed")
    return "".join(DIGITS[byte & 31] for byte in random[:count])


def new_id(kind: str, random: bytes) -> str:
    """A letter and four digits, from at least four random bytes. The caller draws again while the id is known."""
    return LETTERS[kind] + _digits(random, 4)


def new_conversation(random: bytes) -> ConversationId:
    """TAG-REST, e.g. k7q2-m4x8p3, from at least ten random bytes."""
    drawn = _digits(random, 10)
    return ConversationId(f"{drawn[:4]}-{drawn[4:]}")


def new_rest(conversation: str, random: bytes) -> ConversationId:
    """The id of a fork: the same TAG, so that its markers need no change."""
    return ConversationId(f"{conversation.partition('-')[0]}-{_digits(random, 6)}")


def slug(text: str) -> str:
    """The first line with text, as a name for every file system: letters, digits and `-`, NFC, lower case, never a device."""
    first = next((line for line in text.splitlines() if _words(line)), "")
    name = ""
    for word in _words(first):
        longer = f"{name}-{word}" if name else word
        if len(longer) > _LENGTH or len(longer.encode()) > _BYTES:
            break
        name = longer
    name = name or _cut("-".join(_words(first)))
    return f"{name}-chat" if name in _DEVICES else name or "conversation"


def _words(line: str) -> list[str]:
    normal = unicodedata.normalize("NFC", unicodedata.normalize("NFC", line).lower())
    kept = "".join(character if _fits(character) else " " for character in normal)
    return kept.split()


def _fits(character: str) -> bool:
    return character.isalnum() or unicodedata.category(character) in ("Mn", "Mc")


def _cut(name: str) -> str:
    return name[:_LENGTH].encode()[:_BYTES].decode("utf-8", "ignore").strip("-")


def file_name(day: str, text: str, taken: Callable[[str], bool]) -> str:
    """`2026-11-20-tighten-the-intro.md`; `-2`, `-3` while `taken` says so (it must ignore case, as some file systems do)."""
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", day):
        raise ValueError(f"not a day: {day}")
    return free_name(f"{day}-{slug(text)}", taken)


def free_name(stem: str, taken: Callable[[str], bool]) -> str:
    """`STEM.md`, or with a number as `file_name`; of a long stem what fits into a name."""
    stem = stem.encode("utf-8", "surrogateescape")[:_STEM].decode("utf-8", "ignore")
    name, number = f"{stem}.md", 1
    while taken(name):
        number += 1
        name = f"{stem}-{number}.md"
    return name
