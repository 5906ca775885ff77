"""Hostile and ordinary text for property tests of the conversation file, and short ways to make events and documents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from opagent.document.edit import Document, Opening, new
from opagent.document.render import Look, Reply
from opagent.model import ConversationId, Event, Kind, TurnId

FRAGMENTS = [
    "```", "````", "~~~", "~~~~~", "```py", "> ", "- ", "1. ", "  ", "    ", "\t", "# ", "text", "`", "<!--", "-->", "<pre>",
    "</pre>", "<script>", "</script>", "<details>", "</details>", "<summary>", "<div>", "<?php", "?>", "<![CDATA[", "]]>",
    "<!DOCTYPE", ">",
    "\n", "\n", "\n", "\n\n", "---", "===", "[a]: /u", "| a |", "|--|", "* * *", "\\", "&lt;", "<!-- op:k7q2 /a8c2d done -->",
    "<!-- op:k7q2 next -->", "<!-- op:k7q2 u9999 you eve -->", "<!-- op:k7q2 p1111 ask -->", "\r", "\r\n", "\u2028", "é",
    "- [x] **Send**", "/send", "<!--\\ op:k7q2 u1 you -->", "> <!-- op:k7q2 next -->", "   <!-- op:k7q2 next -->", "\x1b[31m",
    "\x1b]0;t\x07",
    "\x1b", "\x1b[", "\x00", "\x0b", "\x0c", "\x85", "\u2029", "\x9b", "$$", "%%", "<textarea>", "<style>", "</textarea ",
    "<!", "<a ",
    "\ud83d", "\ude00", "<!-- op:", "<summary>", "[x", "***x", "#", "-",
]  # fmt: skip
nasty = st.lists(st.sampled_from(FRAGMENTS), max_size=40).map("".join) | st.text(max_size=200)

CONVERSATION = "k7q2-m4x8p3"
TAG = "k7q2"
HEADER = {"conversation": CONVERSATION, "agent": "writer", "title": "Tighten the intro", "created": "2026-11-20T09:12:44Z"}
AT = "2026-11-20T09:14:05Z"


def event(kind: str, body: Mapping[str, Any], turn: str = "a8c2d", at: str = AT, seq: int = 1) -> Event:
    return Event(ConversationId(CONVERSATION), seq, seq, TurnId(turn), Kind(kind), at, body)


def reply(*events: tuple[str, Mapping[str, Any]], look: Look | None = None) -> Reply:
    made = Reply(TAG, "Writer", look or Look())
    for kind, body in events:
        made.apply(event(kind, body))
    return made


def opening(number: int = 0, text: str = "Hello", **other: str) -> Opening:
    """The turn of a number: its ids differ, its time is later."""
    at = f"2026-11-20T{9 + number // 60:02}:{number % 60:02}:05Z"
    message, answer = f"u{number:04}", f"a{number:04}"
    return Opening(message, answer, other.pop("author", "alice"), text, "writer", at, at, **other)


def document(turns: int = 0, size: int = 10) -> Document:
    """A file with finished turns whose replies have about `size` characters."""
    made = new(HEADER, "alice")
    for number in range(turns):
        made = made.begin(opening(number, f"Question {number}?"))
        made = made.put(f"a{number:04}", f"Answer {number}. {'x' * size}\n", ("done", AT))
    return made


def ids(content: bytes) -> list[str]:
    from opagent.document.parse import scan

    return [region.id for region in scan(content)]
