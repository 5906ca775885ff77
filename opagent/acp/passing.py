"""Text on its way from the log to an editor: the bytes of its events go on as they are, neither read nor written as JSON. Pure.

Text behind text of its kind becomes one update: one for all that came together, and for all that came while the editor read::

    passing = Passing()
    line = passing.add("c1", Kind.TEXT, event.encoded)      # of what was said before, if that is another thing
    line = passing.taken()                                  # before anything else is said
"""

from __future__ import annotations

import json

from opagent.model import Kind

TOGETHER = 64 * 1024  # bytes of text in one update, and what came with the last of them
# what passes, as what
KINDS = {Kind.TEXT: "agent_message_chunk", Kind.THOUGHT: "agent_thought_chunk"}
_BEFORE, _AFTER = b'{"text":"', b'"}'  # of the body of such an event


class Passing:
    """`size`: bytes of text that were not taken yet."""

    def __init__(self) -> None:
        self.size = 0
        self._head = b""  # of the update that they will be
        self._texts: list[bytes] = []
        self._of: tuple[str, Kind] | None = None

    def add(self, session: str, kind: Kind, encoded: bytes) -> bytes:
        """`encoded`: the body of an event of text as JSON, nothing in it but that."""
        line = b""
        if self._of != (session, kind) or self.size >= TOGETHER:
            line = self.taken()
        if self._of != (session, kind):
            self._of, self._head = (session, kind), _head(session, kind)
        text = encoded[len(_BEFORE) : -len(_AFTER)]
        self._texts.append(text)
        self.size += len(text)
        return line

    def taken(self) -> bytes:
        """The line of the update, with its newline; empty where nothing was said."""
        if not self.size:
            return b""
        line = b"".join((self._head, *self._texts, b'"}}}}\n'))
        self._texts, self.size = [], 0
        return line


def _head(session: str, kind: Kind) -> bytes:
    update = {"sessionUpdate": KINDS[kind], "content": {"type": "text", "text": ""}}
    message = {"jsonrpc": "2.0", "method": "session/update", "params": {"sessionId": session, "update": update}}
    return json.dumps(message, separators=(",", ":")).encode().removesuffix(b'"}}}}')
