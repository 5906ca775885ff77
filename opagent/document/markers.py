"""The one-line HTML comments that hold a file together: how one is written, found, made harmless; knows no regions.

API: `MARKER`, `marker`, `word`, `finder`, `first_tag`, `escape`, `unescape`, `escape_own`, `unescape_own`.
"""

from __future__ import annotations

import re
from functools import lru_cache

DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"  # base32 without i l o u: nothing to misread
BOM = b"\xef\xbb\xbf"
MARKER = b"<!-- op:"  # how all of them begin

_DIGIT = rb"[0-9a-hjkmnp-tv-z]"
# at most 64 words: a repeated group costs the matcher memory, and a hostile line may have millions
_REST = rb" (/?[a-z][0-9a-z]{0,15})((?: [!-=?-~]+){0,64}) -->[ \t]*(?=\r?(?:\n|\Z))"
_ANY = re.compile(rb"\n<!-- op:(" + _DIGIT + rb"{4})" + _REST)

# what an agent writes: any depth of quoting and indentation, so that no editor's re-indenting makes a marker of it
_ESCAPE = re.compile(r"^([ \t>]*<!--)(\\*)(?=[ \t]*op:)", re.M)
_UNESCAPE = re.compile(r"^([ \t>]*<!--)\\(\\*)(?=[ \t]*op:)", re.M)


@lru_cache(maxsize=64)
def finder(tag: str) -> re.Pattern[bytes]:
    """Matches the line end before a marker of this conversation and the marker; groups: word (`u3f9k`, `/a8c2d`), the rest.

    It begins with a literal, so that `finditer` runs over what holds no marker at the speed of memory.
    """
    return re.compile(rb"\n<!-- op:" + re.escape(tag.encode()) + _REST)


def first_tag(content: bytes) -> str:
    """The tag of the first marker of any conversation, or empty."""
    start = len(BOM) if content.startswith(BOM) else 0
    found = _ANY.match(b"\n" + content[start : start + 4096]) or _ANY.search(content)
    return found[1].decode() if found else ""


def marker(tag: str, *words: str) -> str:
    """One marker line with its LF. Words that are empty are left out; `word` makes any text fit."""
    return f"<!-- op:{' '.join((tag, *filter(None, words)))} -->\n"


def word(value: str) -> str:
    """A text as one word of a marker: every byte outside a small safe set as %XX, never `--`, never `>`."""
    quoted = re.sub(r"[^A-Za-z0-9._:+@/=-]", lambda found: _percent(found.group()), value)
    return re.sub(r"-(?=-)", "%2D", quoted)


def _percent(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "replace"))


def escape(text: str) -> str:
    """One more backslash in all that looks like a marker of any conversation. `unescape(escape(text)) == text`."""
    return _ESCAPE.sub(r"\1\\\2", text) if _may_hold(text) else text


def unescape(text: str) -> str:
    return _UNESCAPE.sub(r"\1\2", text) if _may_hold(text) else text


def _may_hold(text: str) -> bool:
    return "<" in text and "op:" in text  # one character is looked for ten times as fast


def escape_own(text: str, tag: str) -> str:
    """For a person's text: only markers of this conversation, everything else stays as typed."""
    return re.sub(rf"^(<!--)(\\*)(?= op:{tag} )", r"\1\\\2", text, flags=re.M)


def unescape_own(text: str, tag: str) -> str:
    return re.sub(rf"^(<!--)\\(\\*)(?= op:{tag} )", r"\1\2", text, flags=re.M)
