"""The agent's side of ACP v1: which request does what. One thread reads, each turn has a thread of its own."""

import itertools
import os
import secrets
import threading
from typing import Any

from proofreader import wire
from proofreader.request import COMMANDS, inside, read
from proofreader.turn import Cancelled, Turn
from proofreader.wire import Message, Refused, Writer
from proofreader.work import run

VERSION = "0.1.0"
SESSIONS = 256  # kept in memory; the oldest is forgotten first
LEAVE = 2.0  # seconds that running turns get after stdin has ended
CAPABILITIES = {
    "loadSession": True,
    "promptCapabilities": {"image": False, "audio": False, "embeddedContext": True},
    "mcpCapabilities": {"http": False, "sse": False},
}


class Agent:
    """All sessions of one connection."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._sessions: dict[str, tuple[str, str]] = {}  # id -> workspace, directory of conversations in it
        self._turns: dict[str, tuple[Turn, threading.Thread]] = {}
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)

    def receive(self, message: Message) -> None:
        """One message of the client. Raises OSError when the client is gone."""
        method, params = message.get("method"), message.get("params")
        params = params if isinstance(params, dict) else {}
        if not isinstance(method, str):
            for turn, _ in self._running():
                turn.answer(message)
        elif "id" not in message:
            if method == "session/cancel":
                self._cancel(str(params.get("sessionId")))
        else:
            try:
                self._request(message["id"], method, params)
            except Refused as error:
                self._writer.error(message["id"], error.code, str(error))

    def _request(self, ident: object, method: str, params: Message) -> None:
        match method:
            case "initialize":
                info = {"name": "proofreader", "title": "Proofreader", "version": VERSION}
                self._writer.result(
                    ident, {"protocolVersion": 1, "agentCapabilities": CAPABILITIES, "agentInfo": info, "authMethods": []}
                )
            case "authenticate":
                self._writer.result(ident, {})
            case "session/new" | "session/load":
                new = method == "session/new"
                session = f"proof-{secrets.token_hex(8)}" if new else params.get("sessionId")
                if not isinstance(session, str) or not 0 < len(session) <= 200:
                    raise Refused(wire.INVALID_PARAMS, "session/load needs a sessionId")
                self._keep(session, params)
                self._writer.result(ident, {"sessionId": session} if new else {})
                update = {"sessionUpdate": "available_commands_update", "availableCommands": list(COMMANDS)}
                self._writer.notify("session/update", {"sessionId": session, "update": update})
            case "session/prompt":
                self._prompt(ident, params)
            case _:
                raise Refused(wire.UNKNOWN_METHOD, f"unknown method: {method[:200]}")

    def leave(self) -> None:
        """stdin has ended: running turns are cancelled and get a moment to say so."""
        for turn, thread in self._running():
            turn.cancel()
            thread.join(LEAVE)

    def _running(self) -> list[tuple[Turn, threading.Thread]]:
        with self._lock:
            return list(self._turns.values())

    def _keep(self, session: str, params: Message) -> None:
        cwd = params.get("cwd")
        if not isinstance(cwd, str) or not cwd.startswith("/") or "\0" in cwd or not os.path.isdir(cwd):
            raise Refused(wire.INVALID_PARAMS, "cwd is not the absolute path of a directory")
        root = os.path.realpath(cwd)
        ours: Any = params.get("_meta")
        ours = ours.get("opagent") if isinstance(ours, dict) else {}
        ours = ours if isinstance(ours, dict) else {}
        file, where = ours.get("conversation"), ours.get("conversations")
        where = os.path.dirname(file) if isinstance(file, str) else where if isinstance(where, str) else "conversations"
        with self._lock:
            self._sessions[session] = root, inside(root, where) or ""
            if len(self._sessions) > SESSIONS:
                del self._sessions[next(name for name in self._sessions if name not in self._turns)]

    def _cancel(self, session: str) -> None:
        with self._lock:
            running = self._turns.get(session)
        if running:
            running[0].cancel()

    def _prompt(self, ident: object, params: Message) -> None:
        session = params.get("sessionId")
        with self._lock:
            if not isinstance(session, str) or session not in self._sessions:
                raise Refused(wire.INVALID_PARAMS, "unknown session")
            if session in self._turns:
                raise Refused(wire.INVALID_REQUEST, "a turn of this session is running")
            turn = Turn(session, *self._sessions[session], self._writer, self._numbers.__next__)
            work = (session, ident, turn, params.get("prompt"))
            thread = threading.Thread(target=self._work, args=work, name=f"turn of {session}", daemon=True)
            self._turns[session] = (turn, thread)
        thread.start()

    def _work(self, session: str, ident: object, turn: Turn, blocks: Any) -> None:
        """The thread of one turn."""
        error, reason = "", "end_turn"
        try:
            run(turn, read(blocks, turn.root))
        except Cancelled:
            reason = "cancelled"
        except OSError as failure:
            error = f"{failure.strerror or failure}: {failure.filename or turn.root}"
        except Exception as failure:  # the outer edge of a turn: the next one must still work
            wire.log(f"turn failed: {failure!r}")
            error = f"the proofreader failed: {failure}"
        with self._lock:
            del self._turns[session]
        try:
            if error:
                self._writer.error(ident, wire.INTERNAL, error)
            else:
                self._writer.result(ident, {"stopReason": reason})
        except OSError:
            wire.log("the client is gone")


def main() -> int:
    """Speaks ACP until stdin ends or the client is gone; exit status 0 for both."""
    agent = Agent(Writer(1))
    try:
        for message in wire.messages(0):
            agent.receive(message)
    except OSError as error:
        wire.log(f"the client is gone: {error.strerror}")
    agent.leave()
    return 0
