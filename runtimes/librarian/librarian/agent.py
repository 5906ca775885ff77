"""The agent's side of ACP v1: which request does what. One thread reads, each turn has a thread of its own."""

import itertools
import os
import secrets
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit

from librarian import wire
from librarian.commands import available, run
from librarian.globs import BadRules, parse_rules
from librarian.turn import Cancelled, Prompt, Turn
from librarian.walk import Scope
from librarian.wire import Message, Refused, Writer

PROTOCOL = 1
VERSION = "0.1.0"
SESSIONS = 256  # kept in memory; the oldest idle one is forgotten first
LEAVE = 2.0  # seconds that running turns get to end after stdin has ended

CAPABILITIES = {
    "loadSession": True,
    "promptCapabilities": {"image": False, "audio": False, "embeddedContext": True},
    "mcpCapabilities": {"http": False, "sse": False},
}


class Agent:
    """All sessions of one connection."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._sessions: dict[str, Scope] = {}
        self._turns: dict[str, tuple[Turn, threading.Thread]] = {}
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._methods: dict[str, Callable[[Message], Message]] = {
            "initialize": self._initialize,
            "authenticate": lambda params: {},
            "session/new": self._new,
            "session/load": self._load,
        }

    def receive(self, message: Message) -> None:
        """One message of the client. Raises OSError when the client is gone."""
        method = message.get("method")
        if not isinstance(method, str):
            for turn, _ in self._running():
                turn.answer(message)
            return
        params = message.get("params")
        params = params if isinstance(params, dict) else {}
        if "id" not in message:
            if method == "session/cancel":
                self._cancel(params)
            return
        try:
            if method == "session/prompt":
                self._prompt(message["id"], params)
                return
            if method not in self._methods:
                raise Refused(wire.UNKNOWN_METHOD, f"unknown method: {method[:200]}")
            result = self._methods[method](params)
        except Refused as error:
            self._writer.error(message["id"], error.code, str(error))
            return
        self._writer.result(message["id"], result)
        if method in ("session/new", "session/load"):
            self._announce(result.get("sessionId") or params["sessionId"])

    def leave(self) -> None:
        """stdin has ended: running turns are cancelled and get a moment to say so."""
        for turn, thread in self._running():
            turn.cancel()
            thread.join(LEAVE)

    def _running(self) -> list[tuple[Turn, threading.Thread]]:
        with self._lock:
            return list(self._turns.values())

    # -- methods

    def _initialize(self, params: Message) -> Message:
        return {
            "protocolVersion": PROTOCOL,
            "agentCapabilities": CAPABILITIES,
            "agentInfo": {"name": "librarian", "title": "Librarian", "version": VERSION},
            "authMethods": [],
        }

    def _new(self, params: Message) -> Message:
        session = f"library-{secrets.token_hex(8)}"
        self._keep(session, scope_of(params))
        return {"sessionId": session}

    def _load(self, params: Message) -> Message:
        session = params.get("sessionId")
        if not isinstance(session, str) or not session or len(session) > 200:
            raise Refused(wire.INVALID_PARAMS, "session/load needs a sessionId")
        self._keep(session, scope_of(params))
        return {}

    def _keep(self, session: str, scope: Scope) -> None:
        with self._lock:
            self._sessions[session] = scope
            if len(self._sessions) > SESSIONS:
                idle = next((name for name in self._sessions if name not in self._turns), session)
                del self._sessions[idle]

    def _announce(self, session: str) -> None:
        update = {"sessionUpdate": "available_commands_update", "availableCommands": available()}
        self._writer.notify("session/update", {"sessionId": session, "update": update})

    def _cancel(self, params: Message) -> None:
        with self._lock:
            running = self._turns.get(str(params.get("sessionId")))
        if running:
            running[0].cancel()

    def _prompt(self, request: object, params: Message) -> None:
        session = params.get("sessionId")
        with self._lock:
            scope = self._sessions.get(session) if isinstance(session, str) else None
            if scope is None or not isinstance(session, str):
                raise Refused(wire.INVALID_PARAMS, "unknown session")
            if session in self._turns:
                raise Refused(wire.INVALID_REQUEST, "a turn of this session is running")
            prompt = prompt_of(params.get("prompt"), scope)
            turn = Turn(session, scope, self._writer, self._numbers.__next__)
            work = (session, request, turn, prompt)
            thread = threading.Thread(target=self._work, args=work, name=f"turn of {session}", daemon=True)
            self._turns[session] = (turn, thread)
        thread.start()

    def _work(self, session: str, request: object, turn: Turn, prompt: Prompt) -> None:
        """The thread of one turn."""
        error = ""
        reason = "end_turn"
        try:
            run(turn, prompt)
        except Cancelled:
            reason = "cancelled"
        except OSError as failure:
            error = f"{failure.strerror or failure}: {failure.filename or turn.scope.root}"
        except Exception as failure:  # the outer edge of a turn: the next one must still work
            wire.log(f"turn failed: {failure!r}")
            error = f"the librarian failed: {failure}"
        with self._lock:
            del self._turns[session]
        try:
            if error:
                self._writer.error(request, wire.INTERNAL, error)
            else:
                self._writer.result(request, {"stopReason": reason})
        except OSError:
            wire.log("the client is gone")


def scope_of(params: Message) -> Scope:
    """The workspace and its rules, from the parameters of session/new and session/load. Raises Refused."""
    cwd = params.get("cwd")
    if not isinstance(cwd, str) or not cwd.startswith("/") or "\0" in cwd or not os.path.isdir(cwd):
        raise Refused(wire.INVALID_PARAMS, "cwd is not the absolute path of a directory")
    root = os.path.realpath(cwd)
    ours = _dictionary(_dictionary(params.get("_meta")).get("opagent"))
    try:
        rules = parse_rules(ours.get("read"))
    except BadRules as error:
        raise Refused(wire.INVALID_PARAMS, f"read rules: {error}") from error
    where = ours.get("conversations", "conversations")
    if not isinstance(where, str):
        raise Refused(wire.INVALID_PARAMS, "conversations is not a path")
    file = ours.get("conversation")
    base = os.path.dirname(file) if isinstance(file, str) else where
    return Scope(root, rules, beneath(root, where), beneath(root, base))


def beneath(root: str, path: str) -> str:
    """A path relative to the workspace, without `.` and `..`; empty for the workspace itself and all outside it."""
    relative = os.path.relpath(os.path.join(root, path), root)
    return "" if relative == "." or relative.split("/")[0] == ".." else relative


def _dictionary(value: object) -> Message:
    return value if isinstance(value, dict) else {}


def prompt_of(blocks: Any, scope: Scope) -> Prompt:
    """Text blocks are the question; a mentioned file is where its answer is looked for first. Raises Refused."""
    if not isinstance(blocks, list):
        raise Refused(wire.INVALID_PARAMS, "prompt is not a list of content blocks")
    texts, favoured = [], ""
    for block in map(_dictionary, blocks):
        if isinstance(block.get("text"), str):
            texts.append(block["text"])
        uri = block.get("uri") or _dictionary(block.get("resource")).get("uri")
        if isinstance(uri, str) and uri.startswith("file://") and "\0" not in uri:
            favoured = favoured or beneath(scope.root, unquote(urlsplit(uri).path))
    return Prompt("\n".join(texts), favoured)


def main() -> int:
    """Speaks ACP until stdin ends or the client is gone; exit status 0 for both."""
    agent = Agent(Writer(1))
    try:
        for line in wire.lines(0):
            message = wire.parse(line)
            if message is not None:
                agent.receive(message)
    except OSError as error:
        wire.log(f"the client is gone: {error.strerror}")
    agent.leave()
    return 0
