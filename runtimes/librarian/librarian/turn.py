"""One turn of one session: what it says, the tools it shows, the questions it asks, and when it must stop."""

import os
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass

from librarian.walk import Scope
from librarian.wire import Message, Writer


class Cancelled(Exception):
    """The client ended the turn; nothing more is said in it."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the person sent. `favoured`: the path of a mentioned file, relative to the workspace, or empty."""

    text: str
    favoured: str


class Turn:
    """Handed to a command; used by its one thread, cancelled from another."""

    def __init__(self, session: str, scope: Scope, writer: Writer, number: Callable[[], int]) -> None:
        self.scope = scope
        self._session = session
        self._writer = writer
        self._number = number
        self._stop = threading.Event()
        self._answers: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._open: int | None = None

    # -- called by the reader of the connection

    def cancel(self) -> None:
        self._stop.set()
        self._answers.put(None)

    def answer(self, message: Message) -> None:
        """The client's reply to a request of ours; one that nobody waits for is dropped."""
        if message.get("id") == self._open:
            self._answers.put(message)

    # -- called by the command

    def check(self) -> None:
        """Raises Cancelled once the client wants no more of this turn."""
        if self._stop.is_set():
            raise Cancelled

    def update(self, kind: str, body: Message) -> None:
        params = {"sessionId": self._session, "update": {"sessionUpdate": kind, **body}}
        self._writer.notify("session/update", params)

    def say(self, markdown: str) -> None:
        self.check()
        if markdown:
            self.update("agent_message_chunk", {"content": {"type": "text", "text": markdown}})

    def tool(self, kind: str, title: str, **more: object) -> "Tool":
        """Shows a tool call that has begun. `kind`: search, read or edit."""
        tool = Tool(self, f"call-{self._number()}", kind, title)
        self.update("tool_call", {**tool.description(), "status": "in_progress", **more})
        return tool

    def location(self, path: str, line: int | None = None) -> Message:
        place: Message = {"path": os.path.join(self.scope.root, path)}
        return place if line is None else {**place, "line": line}

    def permission(self, tool: "Tool", content: list[Message], path: str) -> bool:
        """Asks whether an edit may be made. Raises Cancelled also where the client answers with that outcome."""
        self._open = self._number()
        options = [
            {"optionId": "allow", "name": "Write it", "kind": "allow_once"},
            {"optionId": "reject", "name": "Leave it", "kind": "reject_once"},
        ]
        call = {**tool.description(), "status": "pending", "content": content, "locations": [self.location(path)]}
        params = {"sessionId": self._session, "toolCall": call, "options": options}
        self._writer.send({"id": self._open, "method": "session/request_permission", "params": params})
        reply = self._answers.get()
        self._open = None
        self.check()
        result = reply.get("result") if reply else None
        outcome = result.get("outcome") if isinstance(result, dict) else None
        return isinstance(outcome, dict) and (outcome.get("outcome"), outcome.get("optionId")) == ("selected", "allow")


@dataclass(slots=True)
class Tool:
    """A tool call that the client shows."""

    turn: Turn
    call: str
    kind: str
    title: str

    def description(self) -> Message:
        return {"toolCallId": self.call, "kind": self.kind, "title": self.title}

    def progress(self, title: str) -> None:
        self.title = title
        self.turn.update("tool_call_update", {"toolCallId": self.call, "status": "in_progress", "title": title})

    def done(self, title: str, **more: object) -> None:
        body = {"toolCallId": self.call, "status": "completed", "title": title, **more}
        self.turn.update("tool_call_update", body)

    def failed(self, title: str) -> None:
        self.turn.update("tool_call_update", {"toolCallId": self.call, "status": "failed", "title": title})


def content_text(text: str) -> list[Message]:
    return [{"type": "content", "content": {"type": "text", "text": text}}]
