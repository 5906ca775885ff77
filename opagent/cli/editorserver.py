"""`opagent acp`: one loop between an editor and the daemons; reads its requests, keeps its sessions, waits for nobody.

What the requests do is in `cli/editorrequests.py`. Leaving stops nothing: turns go on in the daemon.
"""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from opagent import jsonrpc
from opagent.acp.connection import Asked, Connection, Incoming, Noise, Refusal, Reply, Told, Withdrawn
from opagent.acp.editor import Editor, failure, trust_method
from opagent.acp.messages import REQUEST_CANCELLED, Body, as_text
from opagent.cli.editorsession import Session
from opagent.cli.lines import Line
from opagent.cli.stdio import Stdio
from opagent.errors import AlreadyDecided, Bug, ConversationNotFound, NotTrusted, OpAgentError, Usage

if TYPE_CHECKING:
    from opagent.client import Client

LINE_LIMIT = 64 * 2**20  # bytes; images come in one line
MOST_WAITING = 4 * 2**20  # bytes that the editor has not read; then no more events are taken
_AT_ONCE = 256  # events between two looks at what the editor says
Handler = Callable[["Server", Asked], None]


class Server:
    """`machine` and `path`: the target; without a path each session has the directory that its editor names."""

    def __init__(self, machine: str, path: str, agent: str, stdio: Stdio) -> None:
        self.machine, self.path, self.agent, self.stdio = machine, path, agent, stdio
        self.editor = Editor()
        self.connection = Connection(LINE_LIMIT)
        self.sessions: dict[str, Session] = {}
        self.lines: dict[str, Line] = {}
        self.handlers: dict[str, Handler] = {}
        self.refused = ""  # the directory that was refused last because nobody trusts it
        self._replies: dict[int, Callable[[Body | None], None]] = {}
        self._woken, self._waker = os.pipe()
        os.set_blocking(self._waker, False)

    # ---- speaking (the Speaker of sessions) ----------------------------------------------------------------------------

    def notify(self, method: str, params: Body) -> None:
        self.stdio.write(self.connection.notify(method, params))

    def answer(self, ident: jsonrpc.Id, result: Body) -> None:
        self.stdio.write(self.connection.answer(ident, result))

    def refuse(self, ident: jsonrpc.Id, code: int, message: str, data: Body | None = None) -> None:
        self.connection.refuse(ident, code, message)
        self.stdio.write(jsonrpc.encode(jsonrpc.Failure(ident, code, message, data)))

    def request(self, method: str, params: Body, then: Callable[[Body | None], None]) -> int:
        number, data = self.connection.request(method, params)
        self._replies[number] = then
        self.stdio.write(data)
        return number

    def fail(self, ident: jsonrpc.Id, error: OpAgentError, directory: str = "") -> None:
        """A request that came to nothing. An untrusted directory comes with the way to trust it."""
        ways = [trust_method(directory)] if isinstance(error, NotTrusted) and self.editor.terminals and directory else []
        self.refused = directory if isinstance(error, NotTrusted) else self.refused
        self.refuse(ident, *failure(error, ways))

    def approve(self, session: Session, approval: str, said: Body) -> None:
        """A person at this editor has answered; somebody may have been faster."""

        def work(client: Client) -> None:
            client.request("approval/answer", {"approval": approval, **said})

        def failed(error: OpAgentError) -> None:
            if not isinstance(error, AlreadyDecided):
                session.say(f"{approval} was not answered: {error}", "warning")

        session.line.run(work, failed)

    def where(self, params: Mapping[str, Any], needed: bool = True) -> tuple[str, str]:
        """Machine and directory: the target of the command line, else the directory that the editor names. Raises Usage."""
        if self.path:
            return self.machine, self.path
        cwd = as_text(params.get("cwd"))
        if needed and not cwd.startswith("/"):
            raise Usage("cwd must be an absolute path", "" if cwd else "it is missing")
        return "", cwd

    def known(self, params: Mapping[str, Any]) -> Session:
        """The open session that is meant. Raises ConversationNotFound."""
        ident = as_text(params.get("sessionId"))
        session = self.sessions.get(ident)
        if session is None or session.opening is not None:
            raise ConversationNotFound(f"the session {ident[:80]} is not open", "", "session/load opens it")
        return session

    # ---- lines ---------------------------------------------------------------------------------------------------------

    def line(self, machine: str) -> Line:
        if machine not in self.lines:
            self.lines[machine] = Line(machine, self._wake, lambda text: self._tell(machine, text))
        return self.lines[machine]

    def _wake(self) -> None:
        try:
            os.write(self._waker, b"!")
        except BlockingIOError:
            pass  # it is awake

    def _tell(self, machine: str, text: str) -> None:
        for session in self.sessions.values():
            if session.line.machine == machine:
                session.say(text, "warning")

    def _useless(self, line: Line, error: OpAgentError) -> None:
        """A line that will not come back: whoever waits for it hears why."""
        line.client = None
        for session in [each for each in self.sessions.values() if each.line is line]:
            for ident in session.prompts.values():
                self.fail(ident, error)
            if session.opening is not None:
                self.fail(session.opening.ident, error)
            session.gone()
            del self.sessions[session.id]

    # ---- the loop ------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Until the editor has closed the pipe."""
        while True:
            for line in list(self.lines.values()):
                line.settle()
            more = self._events()
            self.stdio.flush()
            ready = self._wait(0 if more else None)
            if self._woken in ready:
                os.read(self._woken, 4096)
            if self.stdio.incoming in ready:
                data = self.stdio.read()
                for incoming in self.connection.receive(data):
                    self._take(incoming)
                if not data:
                    return

    def _wait(self, timeout: float | None) -> set[int]:
        poll = select.poll()
        for fd in (self.stdio.incoming, self._woken):
            poll.register(fd, select.POLLIN)
        if self.stdio.waiting < MOST_WAITING:
            for line in self.lines.values():
                if (daemon := line.fileno()) is not None:
                    poll.register(daemon, select.POLLIN)
        if self.stdio.waiting:
            poll.register(self.stdio.outgoing, select.POLLOUT)
        return {fd for fd, _ in poll.poll(timeout)}

    def _events(self) -> bool:
        """Take what the daemons say; whether there may be more of it."""
        more = False
        for line in list(self.lines.values()):
            for _ in range(_AT_ONCE):
                if self.stdio.waiting >= MOST_WAITING:
                    return False
                try:
                    event = line.next_event()
                except OpAgentError as error:
                    self._useless(line, error)
                    break
                if event is None:
                    break
                session = self.sessions.get(event.conversation)
                if session is not None and session.line is line:
                    session.take(event)
            else:
                more = True
        return more

    # ---- the editor ----------------------------------------------------------------------------------------------------

    def _take(self, incoming: Incoming) -> None:
        match incoming:
            case Asked(ident, method):
                handler = self.handlers.get(method)
                if handler is None:
                    self.refuse(ident, jsonrpc.METHOD_NOT_FOUND, f"no method {method[:80]!r}")
                else:
                    self._handle(handler, incoming)
            case Reply(number, _, result):
                if then := self._replies.pop(number, None):
                    then(result)
            case Refusal(number):
                if then := self._replies.pop(number, None):
                    then(None)
            case Told("session/cancel", params):
                self.cancel(as_text(params.get("sessionId")))
            case Withdrawn(ident):
                self._withdrawn(ident)
            case Noise(sentence, _, answer):
                if sentence:
                    sys.stderr.write(f"opagent acp: {sentence}\n")
                if answer:
                    self.stdio.write(answer)

    def _handle(self, handler: Handler, asked: Asked) -> None:
        try:
            handler(self, asked)
        except OpAgentError as error:
            self.fail(asked.id, error)
        except (BrokenPipeError, KeyboardInterrupt):
            raise
        except Exception as error:  # the outer edge of a request: the other sessions go on
            sys.stderr.write(f"opagent acp: {asked.method}: {error!r}\n")
            self.fail(asked.id, Bug("something that should not happen happened", f"{type(error).__name__}: {error}"))

    def cancel(self, ident: str, turn: str = "") -> None:
        """`session/cancel`: the turns of this editor's prompts, or the one that runs in the conversation where it has none."""
        session = self.sessions.get(ident)
        if session is None:
            return
        turns = [turn] if turn else list(session.prompts) or ([session.shown.running] if session.shown.running else [])
        session.cancelled |= set(turns) & set(session.prompts)

        def work(client: Client) -> None:
            for each in reversed(turns):  # what waits first: else it would begin
                client.request("turn/cancel", {"conversation": ident, "turn": each})

        session.line.run(work, lambda error: None)  # it has ended meanwhile

    def _withdrawn(self, ident: jsonrpc.Id) -> None:
        """`$/cancel_request`."""
        for session in list(self.sessions.values()):
            for turn, waiting in list(session.prompts.items()):
                if waiting == ident:
                    self.cancel(session.id, turn)
            if session.opening is not None and session.opening.ident == ident:
                self.refuse(ident, REQUEST_CANCELLED, "taken back")
                self.drop(session)

    def drop(self, session: Session) -> None:
        """The session is over for this editor. A conversation that it made and in which nobody said anything goes, too."""
        session.opening = None
        session.gone()
        if self.sessions.get(session.id) is session:
            del self.sessions[session.id]

        def work(client: Client) -> None:
            client.unsubscribe(session.id)
            if session.new:
                client.request("conversation/archive", {"conversation": session.id, "empty": True})

        session.line.run(work, lambda error: None)

    def leave(self) -> None:
        """The editor is gone."""
        for session in list(self.sessions.values()):
            if session.new and session.line.fileno() is not None:
                self.drop(session)
        for line in self.lines.values():
            line.close()
