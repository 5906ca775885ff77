"""Conversations as the daemon writes them, for pictures and for the tests that look at them: one has ended, one waits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from opagent.document.edit import Document, Opening, new
from opagent.document.render import Look, Reply
from opagent.model import ConversationId, Event, Kind, TurnId

TAG = "k7q2"
_HEADER = {"conversation": f"{TAG}-m4x8p3", "agent": "writer", "title": "Tighten the intro", "created": "2026-11-20T09:12:44Z"}
Happened = tuple[str, str, Mapping[str, Any]]  # HH:MM:SS, kind, body

_BEFORE = "It was a dark and stormy night\n```\nand the rain fell.\nThe lighthouse stood.\n"
_AFTER = "The wind howled around the lighthouse.\nThe lighthouse stood.\n"
_OUTPUT = "\n".join(f"[{number}/32] chapter {number}: ok" for number in range(1, 33))


def _call(ident: str, kind: str, title: str, **more: Any) -> Mapping[str, Any]:
    return {"id": ident, "kind": kind, "title": title, "status": "completed", **more}


def _text(text: str) -> Mapping[str, Any]:
    return {"type": "content", "content": {"type": "text", "text": text}}


_CHANGE = {"type": "diff", "path": "book/intro.md", "oldText": _BEFORE, "newText": _AFTER}
_TABLE = """\
The intro has 311 words. I cut it to what `style.md` asks for:

| | before | after |
|---|---|---|
| words | 311 | **118** |
| adjectives | 41 | ~~12~~ 9 |
"""
_EDITED: tuple[Happened, ...] = (
    ("09:14:06", "tool_call", _call("t1", "read", "Read intro.md", locations=[{"path": "book/intro.md"}])),
    ("09:14:06", "tool_call", _call("t2", "read", "Read style.md", locations=[{"path": "book/style.md"}])),
    ("09:14:07", "text", {"text": _TABLE}),
    ("09:14:08", "plan", {"entries": [{"content": "Cut the second and third paragraph", "status": "in_progress"}]}),
    ("09:14:20", "tool_call", _call("t3", "edit", "Edit intro.md", content=[_CHANGE], seconds=0.2)),
)
_PLANNED = {
    "entries": [{"content": text, "status": "completed"} for text in ("Cut the second and third paragraph", "Build the book")]
}
_QUESTION = {"agent": "writer", "offers": ["once", "conversation", "deny"], "options": [], "in_file": True}
_COMMAND = "pandoc book.md -o build/book.pdf"
_BUILT: tuple[Happened, ...] = (
    ("09:15:10", "approval_asked", {"id": "p5t2w", "kind": "execute", "subject": _COMMAND, "where": "book", **_QUESTION}),
    ("09:16:22", "approval_answered", {"id": "p5t2w", "state": "allowed", "answered_by": "alice", "via": "file"}),
    (
        "09:16:25",
        "tool_call",
        _call("t4", "execute", "Build", rawInput={"command": _COMMAND}, content=[_text(_OUTPUT)], seconds=2.9),
    ),
    ("09:16:29", "plan", _PLANNED),
    ("09:16:30", "text", {"text": "Done: 118 words, and `build/book.pdf` builds."}),
)
_ENDED: Happened = ("09:16:31", "turn_state", {"state": "done"})
_TITLE = {"type": "diff", "path": "book/title.md", "oldText": "The Lighthouse\n2025\n", "newText": "The Lighthouse\n2026\n"}
_WRITE = {"id": "p9d4m", "kind": "edit", "subject": "write book/title.md", "action": "write book/title.md", "content": [_TITLE]}
_ASKED: tuple[Happened, ...] = (
    ("09:20:02", "text", {"text": "The title page needs the new year, too. May I?"}),
    ("09:20:04", "approval_asked", {**_WRITE, **_QUESTION}),
    ("09:20:04", "turn_state", {"state": "waiting"}),
)
_CUT_OFF = "Interrupted: the daemon stopped at 09:21. Send again to go on."
_STOPPED: tuple[Happened, ...] = (
    ("09:21:00", "text", {"text": "I begin with the second"}),
    ("09:21:30", "turn_state", {"state": "interrupted", "reason": "daemon", "sentence": _CUT_OFF}),
)


def _turn(document: Document, number: int, said: str, at: str, happened: Iterable[Happened], look: Look) -> Document:
    message, reply = f"u{number}f9k", f"a{number}c2d"
    made = Reply(TAG, "Writer", look)
    for time, kind, body in happened:
        stamp = f"2026-11-20T{time}Z"
        made.apply(Event(ConversationId(_HEADER["conversation"]), number, number, TurnId(reply), Kind(kind), stamp, body))
    opening = Opening(message, reply, "alice", said, "writer", f"2026-11-20T{at}Z", f"2026-11-20T{at}Z", via="")
    return document.begin(opening).put(reply, made.body(), made.end())


def finished(fold: str = "details") -> str:
    """Two turns that are over, the second of them interrupted."""
    look = Look(fold=fold, blobs="../.opagent/blobs/")
    document = new(_HEADER, "alice")
    document = _turn(document, 3, "The intro of @book/intro.md is too long. Cut it to about 120 words.", "09:14:03",
                     (*_EDITED, *_BUILT, _ENDED), look)  # fmt: skip
    return _turn(document, 4, "Now the second chapter.", "09:20:58", _STOPPED, look).content().decode()


def waiting(fold: str = "details") -> str:
    """The second turn waits for a person."""
    look = Look(fold=fold, blobs="../.opagent/blobs/")
    document = _turn(
        new(_HEADER, "alice"),
        3,
        "Cut the intro of @book/intro.md to about 120 words.",
        "09:14:03",
        (*_EDITED, ("09:14:29", "plan", _PLANNED), _ENDED),
        look,
    )
    return _turn(document, 4, "And the title page?", "09:20:00", _ASKED, look).content().decode()


SAMPLES = {"finished": finished, "waiting": waiting}
