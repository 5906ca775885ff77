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
from opagent.acp.editor import Editor, failure, sign_in_method, trust_method
from opagent.acp.messages import REQUEST_CANCELLED, Body, as_text
from opagent.acp.passing import Passing
from opagent.cli.editorsession import Session
from opagent.cli.lines import Line
from opagent.cli.stdio import Stdio
from opagent.errors import AlreadyDecided, Bug, ConversationNotFound, NotTrusted, OpAgentError, SignInNeeded, Usage

if TYPE_CHECKING:
    from opagent.client import Client
    from opagent.model import Event

LINE_LIMIT = 64 * 2**20  # bytes; images come in one line
MOST_WAITING = 4 * 2**20  # bytes that the editor has not read; then no more events are taken
Handler = Callable[["Server", Asked], None]
_WAYS: dict[type[OpAgentError], Callable[[str], Body]] = {NotTrusted: trust_method, SignInNeeded: sign_in_method}


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
        self._passing = Passing()
        self._poll = select.poll()
        self._watched: dict[int, int] = {}
        self._woken, self._waker = os.pipe()
        os.set_blocking(self._waker, False)

    # ---- speaking (the Speaker of sessions) ----------------------------------------------------------------------------

    def _say(self, line: bytes) -> None:
        """Behind the text that passes."""
        if text := self._passing.taken():
            self.stdio.write(text)
        self.stdio.write(line)

    def stream(self, session: str, event: Event) -> None:
        """An event of text as it is; told with those that follow it at once."""
        if text := self._passing.add(session, event.kind, event.encoded):
            self.stdio.write(text)

    def notify(self, method: str, params: Body) -> None:
        self._say(self.connection.notify(method, params))

    def answer(self, ident: jsonrpc.Id, result: Body) -> None:
        self._say(self.connection.answer(ident, result))

    def refuse(self, ident: jsonrpc.Id, code: int, message: str, data: Body | None = None) -> None:
        self.connection.refuse(ident, code, message)
        self._say(jsonrpc.encode(jsonrpc.Failure(ident, code, message, data)))

    def request(self, method: str, params: Body, then: Callable[[Body | None], None]) -> int:
        number, data = self.connection.request(method, params)
        self._replies[number] = then
        self._say(data)
        return number

    def fail(self, ident: jsonrpc.Id, error: OpAgentError, directory: str = "") -> None:
        """A request that came to nothing. With it comes the way to trust the directory, or to sign in to its agent."""
        made = next((make for kind, make in _WAYS.items() if isinstance(error, kind)), None)
        ways = [made(directory)] if made and self.editor.terminals and directory else []
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
        ready: set[int] = set()
        while True:
            for line in list(self.lines.values()):
                line.settle()
            more = self._events(ready)
            self._flush()
            ready = self._wait(0 if more else None)
            if self._woken in ready:
                os.read(self._woken, 4096)
            if self.stdio.incoming in ready:
                data = self.stdio.read()
                for incoming in self.connection.receive(data):
                    self._take(incoming)
                if not data:
                    return

    def _flush(self) -> None:
        """Text that passes goes where nothing waits before it: what the editor is too slow for becomes one update."""
        self.stdio.flush()
        if not self.stdio.waiting and (text := self._passing.taken()):
            self.stdio.write(text)
            self.stdio.flush()

    def _wait(self, timeout: float | None) -> set[int]:
        wanted = {self.stdio.incoming: select.POLLIN, self._woken: select.POLLIN}
        if self.stdio.waiting < MOST_WAITING:
            wanted |= {daemon: select.POLLIN for line in self.lines.values() if (daemon := line.fileno()) is not None}
        if self.stdio.waiting:
            wanted[self.stdio.outgoing] = select.POLLOUT
        if wanted != self._watched:
            self._watched, self._poll = wanted, select.poll()
            for fd, event in wanted.items():
                self._poll.register(fd, event)
        return {fd for fd, _ in self._poll.poll(timeout)}

    def _events(self, ready: set[int]) -> bool:
        """Take what the daemons say; whether there may be more of it."""
        for line in list(self.lines.values()):
            if self.stdio.waiting >= MOST_WAITING:
                return False
            try:
                events = line.arrived(line.fileno() in ready)
            except OpAgentError as error:
                self._useless(line, error)
                continue
            for event in events:
                session = self.sessions.get(event.conversation)
                if session is not None and session.line is line:
                    session.take(event)
        return any(line.more for line in self.lines.values())

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
                    self._say(answer)

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
        self.stdio.close()
