"""Front matter found, read and edited by line; never parsed as YAML and never dumped, so that all of the person's stays.

API: `end`, `text`, `get`, `put`, `drop`, `conversation_id`, `is_id`, `is_conversation`, `new`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from opagent.document.markers import BOM

FORMAT = 1
_LIMIT = 65536  # bytes in which the front matter must end
_CLOSE = re.compile(rb"^(?:---|\.\.\.)[ \t]*\r?(?:\n|\Z)", re.M)
_ID = re.compile(r"[0-9a-hjkmnp-tv-z]{4}-[0-9a-hjkmnp-tv-z]{1,16}")
_PLAIN = re.compile(r"[A-Za-z][\w./@+-]*(?: [\w./@+-]+)*|\d{4}-\d\d-\d\dT[\d:]+Z|[0-9a-z]{4}-[0-9a-z]+")
_NOT_TEXT = {"true", "false", "yes", "no", "on", "off", "null", "y", "n"}
_NUMBERS = {"opagent", "part", "archived"}  # keys whose value stands as it is


def _span(content: bytes) -> tuple[int, int, int] | None:
    """Where the keys begin, where they end, and where the closing line ends; None without front matter."""
    start = len(BOM) if content.startswith(BOM) else 0
    opening = re.compile(rb"---[ \t]*\r?\n").match(content, start)
    if not opening:
        return None
    closing = _CLOSE.search(content, opening.end(), _LIMIT)
    return (opening.end(), closing.start(), closing.end()) if closing else None


def end(content: bytes) -> int:
    """The offset behind the front matter (behind a BOM where there is none)."""
    span = _span(content)
    return span[2] if span else len(BOM) if content.startswith(BOM) else 0


def text(content: bytes) -> bytes:
    """The lines between the two that enclose it; empty where there is none."""
    span = _span(content)
    return content[span[0] : span[1]] if span else b""


def _entry(key: str) -> re.Pattern[bytes]:
    """A top-level key's line, and the indented lines that belong to its value."""
    return re.compile(
        rb"^(" + re.escape(key.encode()) + rb"[ \t]*:)([^\r\n]*)(\r?\n)((?:[ \t]+[^\r\n]*\r?\n)*)",
        re.M,
    )


_QUOTED = re.compile(r"""[ \t]*("(?:[^"\\]|\\.)*"|'(?:[^']|'')*')""")


def _parts(rest: str) -> tuple[str, str]:
    """What follows the colon -> the value as it is written, and the blanks and comment behind it."""
    quoted = _QUOTED.match(rest)
    if quoted:
        return quoted[1], rest[quoted.end() :]
    comment = min((place for place in (rest.find(" #"), rest.find("\t#")) if place >= 0), default=len(rest))
    value = rest[:comment].rstrip()
    return value.strip(), rest[len(value) :]


def get(content: bytes, key: str) -> str:
    """The value of a flat key, unquoted; empty where there is none or it is no plain text."""
    span = _span(content)
    found = _entry(key).search(content, span[0], span[1]) if span else None
    if not found:
        return ""
    value, _ = _parts(found[2].decode("utf-8", "replace"))
    if value.startswith('"'):
        try:
            return str(json.loads(value))
        except ValueError:
            return value.strip('"')
    if value.startswith("'"):
        return value[1:-1].replace("''", "'")
    return "" if value.startswith(("#", "|", ">", "[", "{", "&", "*")) else value


def _written(key: str, value: str) -> str:
    plain = key in _NUMBERS or (_PLAIN.fullmatch(value) and value.lower() not in _NOT_TEXT)
    return value if plain else json.dumps(value, ensure_ascii=False)


def put(content: bytes, key: str, value: str) -> bytes:
    """One key set: its line changes and no other; a new key becomes the last line; a file without front matter gets one."""
    span = _span(content)
    eol = b"\r\n" if content.count(b"\r\n") * 2 > content.count(b"\n") else b"\n"
    text = _written(key, value).encode("utf-8", "replace")
    if span is None:
        start = len(BOM) if content.startswith(BOM) else 0
        block = b"---" + eol + key.encode() + b": " + text + eol + b"---" + eol
        return content[:start] + block + (eol if content[start:] else b"") + content[start:]
    found = _entry(key).search(content, span[0], span[1])
    if not found:
        return content[: span[1]] + key.encode() + b": " + text + eol + content[span[1] :]
    _, comment = _parts(found[2].decode("utf-8", "surrogateescape"))
    line = found[1] + b" " + text + comment.rstrip().encode("utf-8", "surrogateescape") + found[3]
    return content[: found.start()] + line + content[found.end() :]


def drop(content: bytes, key: str) -> bytes:
    """One key taken away with its line."""
    span = _span(content)
    found = _entry(key).search(content, span[0], span[1]) if span else None
    return content[: found.start()] + content[found.end() :] if found else content


def conversation_id(content: bytes) -> str:
    """`TAG-REST`, or empty. By pattern, so that broken YAML does not hide it."""
    value = get(content, "conversation")
    return value if _ID.fullmatch(value) else ""


def is_id(value: str) -> bool:
    """Whether a text has the form of a conversation's id."""
    return bool(_ID.fullmatch(value))


def is_conversation(content: bytes) -> bool:
    """Whether `opagent:` stands in the front matter."""
    span = _span(content)
    return bool(span and _entry("opagent").search(content, span[0], span[1]))


def new(values: Mapping[str, str]) -> str:
    """Front matter of a new file, LF line ends; values that are empty are left out."""
    lines = [f"{key}: {_written(key, value)}" for key, value in values.items() if value]
    return "\n".join(("---", *lines, "---", ""))
