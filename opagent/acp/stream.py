"""Text that streams: lines that differ from one before them only in their text are read without parsing all of each again.

Nearly all lines of an agent are of this kind, and the parser is most of what they cost. What comes out is what the long way
would give, the texts of lines that follow each other in one::

    stream = Stream()
    stream.learn(line)              # a `session/update` that was read the long way
    stream.take(line)               # False: not like it
    session, update = stream.said() # of all that were taken since
"""

from __future__ import annotations

import re
from typing import Any

from opagent import jsonrpc

LONGEST = 64 * 1024  # bytes of a line that is worth learning
_TEXT = re.compile(rb'"text"\s*:\s*"((?:[^"\\]+|\\.)*)"')
_CHUNKS = ("agent_message_chunk", "agent_thought_chunk")
_PROBE = "?"


class Stream:
    """The last line that was learnt, as what stands before and after its text, and what it meant; the texts taken since."""

    def __init__(self) -> None:
        self.size = 0  # characters taken
        self._before = self._after = b""
        self._session = ""
        self._update: dict[str, Any] = {}
        self._content: dict[str, Any] = {}
        self._texts: list[str] = []

    def take(self, line: bytes) -> bool:
        """Whether the line is like the one learnt; its text is kept."""
        before, after = self._before, self._after
        if not (before and line.startswith(before) and line.endswith(after) and len(line) >= len(before) + len(after)):
            return False
        text = jsonrpc.decode_text(line[len(before) : -len(after)])
        if text is None:
            return False
        self._texts.append(text)
        self.size += len(text)
        return True

    def said(self) -> tuple[str, dict[str, Any]] | None:
        """The session and the update that says all that was taken; None where that is no line."""
        if not self._texts:
            return None
        text = "".join(self._texts)
        self._texts, self.size = [], 0
        return self._session, {**self._update, "content": {**self._content, "text": text}}

    def learn(self, line: bytes) -> None:
        """Only where the one text in the line is that of its content: another text in its place must mean just that."""
        found = list(_TEXT.finditer(line)) if len(line) <= LONGEST else []
        if len(found) != 1:
            return
        before, after = line[: found[0].start(1)], line[found[0].end(1) :]
        match jsonrpc.decode(before + _PROBE.encode() + after):
            case jsonrpc.Notification(
                "session/update", {"sessionId": str(session), "update": {"content": dict(content)} as update}
            ):
                if update.get("sessionUpdate") in _CHUNKS and content.get("type") == "text" and content.get("text") == _PROBE:
                    self._before, self._after = before, after
                    self._session, self._update, self._content = session, update, content
