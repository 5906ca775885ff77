"""The agent's side of ACP version 1: methods, sessions and turns; what a turn does is decided in `modes.py`."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable

import modes
import sessions
from wire import Cancelled, Job, Lines, Loop, Message

VERSION = "1.0.0"


class Fault(Exception):
    """An error response: code, message, data."""

    def __init__(self, code: int, message: str, data: object = None) -> None:
        super().__init__(message)
        self.code = code
        self.data = data

    def body(self) -> Message:
        error: Message = {"code": self.code, "message": str(self)}
        return error if self.data is None else {**error, "data": self.data}


class Agent:
    """One process: its sessions, its running turns and the counters that `/context` shows."""

    def __init__(self, options: dict[str, str]) -> None:
        self.options = options
        self.lines = Lines(0, 1)
        self.loop = Loop(self.lines)
        self.loop.ignore_eof = "ignore-eof" in options
        self.sessions = sessions.Shelf(options.get("state"))
        self.running: dict[str, Job] = {}
        self.calls: dict[str, int] = {}
        self.answered: list[object] = []
        self.client: Message = {}
        self._methods: dict[str, Callable[[Message], Message]] = {
            "initialize": self.initialize,
            "authenticate": lambda _: {},
            "session/new": self.new,
            "session/load": self.load,
            "session/resume": self.resume,
            "session/list": self.list,
            "session/close": self.close,
            "session/delete": self.delete,
            "session/set_mode": self.set_mode,
            "session/set_config_option": self.set_config_option,
        }

    def run(self) -> None:
        self.loop.run(self.receive)

    def receive(self, line: bytes) -> None:
        """Take one line of the client. What is no message gets the answer that JSON-RPC 2.0 section 5.1 prescribes."""
        if not line.strip():
            return
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            self.lines.send({"jsonrpc": "2.0", "id": None, "error": {"code": -32700, "message": "Parse error"}})
            return
        if not isinstance(message, dict) or ("method" not in message and "id" not in message):
            self.lines.send({"jsonrpc": "2.0", "id": None, "error": {"code": -32600, "message": "Invalid request"}})
        elif "method" not in message:
            self.loop.answer(message)
        elif not isinstance(message.get("params") or {}, dict):
            if "id" in message:
                self.fail(message["id"], Fault(-32602, "Invalid params"))
        elif "id" in message:
            self._request(message["id"], str(message["method"]), message.get("params") or {})
        elif message["method"] == "session/cancel":
            self._cancel(message.get("params") or {})

    def respond(self, request: object, result: Message) -> None:
        self.answered.append(request)
        self.lines.send({"jsonrpc": "2.0", "id": request, "result": result})

    def fail(self, request: object, fault: Fault) -> None:
        self.lines.send({"jsonrpc": "2.0", "id": request, "error": fault.body()})

    def update(self, session: str, body: Message) -> None:
        self.lines.send({"jsonrpc": "2.0", "method": "session/update", "params": {"sessionId": session, "update": body}})

    def _request(self, request: object, method: str, params: Message) -> None:
        self.calls[method] = self.calls.get(method, 0) + 1
        try:
            if not self._interfere(method):
                return
            if method == "session/prompt":
                self._prompt(request, params)
            elif method in self._methods:
                self.respond(request, self._methods[method](params))
            else:
                raise Fault(-32601, f"Method not found: {method}")
        except Fault as fault:
            self.fail(request, fault)

    def _interfere(self, method: str) -> bool:
        """Apply `--hang`, `--crash` and `--fail`; False when the request is to stay without an answer."""
        stage = stage_of(method)
        for name in ("hang", "crash", "fail"):
            wanted, _, detail = self.options.get(name, "").partition(":")
            if wanted != stage or not stage:
                continue
            if name == "hang":
                return False
            if name == "fail":
                raise Fault(int(detail or -32603), f"echo was told to fail at {stage}")
            import faults

            faults.die(detail or "70")
        return True

    def _cancel(self, params: Message) -> None:
        job = self.running.get(str(params.get("sessionId")))
        if job is not None:
            self.loop.cancel(job)

    def _session(self, params: Message) -> sessions.Session:
        session = self.sessions.open.get(str(params.get("sessionId")))
        if session is None:
            raise Fault(-32002, "Resource not found", {"sessionId": params.get("sessionId")})
        return session

    def _prompt(self, request: object, params: Message) -> None:
        session = self._session(params)
        blocks = params.get("prompt")
        if session.id in self.running:
            raise Fault(-32600, "A turn is running in this session")
        if not isinstance(blocks, list):
            raise Fault(-32602, "prompt must be a list of content blocks")
        self.running[session.id] = job = self._turn(modes.Turn(self, session, request, blocks))
        self.loop.spawn(job)

    def _turn(self, turn: modes.Turn) -> Job:
        session = turn.session
        try:
            yield from modes.play(turn)
        except Cancelled:
            turn.stop = "cancelled"
        except modes.Failed as failed:
            self.fail(turn.request, Fault(failed.code, str(failed)))
            return
        finally:
            del self.running[session.id]
        session.remember(turn.prompt, turn.said)
        self.sessions.save(session)
        self.respond(turn.request, turn.result())
        if turn.afterwards is not None:
            yield from turn.afterwards(turn)

    def initialize(self, params: Message) -> Message:
        capabilities = params.get("clientCapabilities")
        self.client = capabilities if isinstance(capabilities, dict) else {}
        without = self.options.get("without", "").split(",")
        offered: Message = {name: {} for name in ("list", "resume", "close", "delete") if name not in without}
        return {
            "protocolVersion": 2 if "v2" in self.options else 1,
            "agentCapabilities": {
                "loadSession": "load" not in without,
                "promptCapabilities": {"image": "image" not in without, "audio": True, "embeddedContext": True},
                "mcpCapabilities": {"http": True, "sse": False},
                "sessionCapabilities": offered,
            },
            "agentInfo": {"name": "echo", "title": "Echo", "version": VERSION},
            "authMethods": [],
        }

    def new(self, params: Message) -> Message:
        session = self.sessions.new(params, self.options.get("mode", "echo"))
        if "early" in self.options:
            modes.greet(self, session.id)
        return {"sessionId": session.id, **session.settings()}

    def load(self, params: Message) -> Message:
        session = self._known(params)
        for role, text in session.history:
            self.update(session.id, {"sessionUpdate": f"{role}_message_chunk", "content": modes.text_block(text)})
        return session.settings()

    def resume(self, params: Message) -> Message:
        return self._known(params).settings()

    def _known(self, params: Message) -> sessions.Session:
        session = self.sessions.reopen(params)
        if session is None:
            raise Fault(-32002, "Resource not found", {"sessionId": params.get("sessionId")})
        return session

    def list(self, params: Message) -> Message:
        return {"sessions": self.sessions.listed(params.get("cwd"))}

    def close(self, params: Message) -> Message:
        self._cancel(params)
        self.sessions.open.pop(str(params.get("sessionId")), None)
        return {}

    def delete(self, params: Message) -> Message:
        self._cancel(params)
        self.sessions.delete(str(params.get("sessionId")))
        return {}

    def set_mode(self, params: Message) -> Message:
        if params.get("modeId") not in sessions.MODES:
            raise Fault(-32602, f"Unknown mode: {params.get('modeId')}")
        self._session(params).mode = str(params["modeId"])
        return {}

    def set_config_option(self, params: Message) -> Message:
        session = self._session(params)
        if not session.configure(params.get("configId"), params.get("value")):
            raise Fault(-32602, f"Unknown option or value: {params.get('configId')}")
        return {"configOptions": session.settings()["configOptions"]}


def stage_of(method: str) -> str:
    """The stage that `--hang`, `--crash` and `--fail` name."""
    if method in ("session/new", "session/load", "session/resume"):
        return "session"
    return {"initialize": "initialize", "session/prompt": "prompt"}.get(method, "")


def start(options: dict[str, str]) -> None:
    """Run until the end of the input, after what the options want done before the first message."""
    if "start-delay" in options:
        time.sleep(float(options["start-delay"]))
    if "ignore-term" in options or "garbage" in options:
        import faults

        faults.before_start(options)
    agent = Agent(options)
    agent.run()
    os._exit(0)  # nothing to clean up; a normal exit would spend 3 ms on tearing the interpreter down
