"""One turn of one session: what it says, the tools it shows, the questions it asks, and when it must stop."""

import os
import queue
import threading
from collections.abc import Callable

from proofreader.wire import Message, Writer


class Cancelled(Exception):
    """The client ended the turn; nothing more is said in it."""


class Turn:
    """Used by its one thread, cancelled from another. `root` is the real path of the workspace."""

    def __init__(self, session: str, root: str, conversations: str, writer: Writer, number: Callable[[], int]) -> None:
        self.root, self.conversations = root, conversations
        self._session, self._writer, self._number = session, writer, number
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

    # -- called by the work

    @property
    def stopped(self) -> bool:
        return self._stop.is_set()

    def check(self) -> None:
        """Raises Cancelled once the client wants no more of this turn."""
        if self._stop.is_set():
            raise Cancelled

    def say(self, markdown: str) -> None:
        self.check()
        self._update("agent_message_chunk", {"content": {"type": "text", "text": markdown}})

    def tool(self, kind: str, title: str, **more: object) -> "Tool":
        """Shows a tool call that has begun. `kind`: read or edit."""
        call = {"toolCallId": f"call-{self._number()}", "kind": kind, "title": title, **more}
        self._update("tool_call", {**call, "status": "in_progress"})
        return Tool(self, call)

    def permission(self, call: Message) -> bool:
        """Asks whether an edit may be made. Raises Cancelled also where the client answers with that outcome."""
        self._open = self._number()
        options = [
            {"optionId": "allow", "name": "Correct it", "kind": "allow_once"},
            {"optionId": "reject", "name": "Leave it", "kind": "reject_once"},
        ]
        params = {"sessionId": self._session, "toolCall": {**call, "status": "pending"}, "options": options}
        self._writer.send({"id": self._open, "method": "session/request_permission", "params": params})
        message = self._answers.get()
        self._open = None
        self.check()
        result = (message or {}).get("result")
        outcome = result.get("outcome") if isinstance(result, dict) else None
        if isinstance(outcome, dict) and outcome.get("outcome") == "cancelled":
            raise Cancelled
        return isinstance(outcome, dict) and outcome.get("optionId") == "allow"

    def _update(self, kind: str, body: Message) -> None:
        self._writer.notify("session/update", {"sessionId": self._session, "update": {"sessionUpdate": kind, **body}})

    def place(self, path: str, line: int | None = None) -> Message:
        found: Message = {"path": os.path.join(self.root, path)}
        return found if line is None else {**found, "line": line}


class Tool:
    """A tool call that is shown."""

    def __init__(self, turn: Turn, call: Message) -> None:
        self._turn, self.call = turn, call

    def end(self, status: str, **more: object) -> None:
        """`status`: completed or failed."""
        self._turn._update("tool_call_update", {"toolCallId": self.call["toolCallId"], "status": status, **more})
