"""A daemon that misbehaves on demand: speaks control.py over the Unix socket, with faults that the real one must not have.

FAKE_MODE: ok, old, newest, foreign, garbage, silent, endless (a line without an end), lagging, dying (leaves after each
second event), dropping (leaves at the first turn/start and at each conversation/create), refuses (does not start). A turn
whose text is `ask` asks, `crash` fails, all else is echoed word by word. Events and `starts`, one pid a line, outlive it. Every link leads to the socket FAKE_FAR (`far_daemon.py`).
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import socket
import sys
import threading
import time
from typing import Any

from opagent import control, files, paths
from opagent.errors import NotFound

MODE = os.environ.get("FAKE_MODE", "ok")
PROTOCOLS = {"old": [control.PROTOCOL - 3, control.PROTOCOL - 2], "newest": [control.PROTOCOL + 1, control.PROTOCOL + 2]}
CONVERSATION = {"id": "k7q2-m4x8p3", "workspace": "/w", "path": "/w/conversations/a.md", "agent": "echo", "state": "open"}
APPROVAL = {"id": "p5t2w", "kind": "edit", "subject": "write INDEX.md", "conversation": CONVERSATION["id"], "state": "pending"}


class Daemon:
    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.store = paths.state() / "fake-events.jsonl"
        self.events = [json.loads(line) for line in self.store.read_text().splitlines()] if self.store.exists() else []
        self.subscribers: dict[socket.socket, dict[str, int]] = {}
        self.answered = threading.Event()
        self.sent = 0

    def emit(self, kind: str, turn: str | None, body: dict[str, Any]) -> None:
        with self.lock:
            number = len(self.events) + 1
            event = {"conversation": CONVERSATION["id"], "seq": number, "journal": number, "turn": turn, "kind": kind}
            event |= {"at": "2026-11-20T09:00:00.000Z", "body": body}
            self.events.append(event)
            with self.store.open("a") as file:
                file.write(json.dumps(event) + "\n")
            for stream in list(self.subscribers):
                self.catch_up(stream)

    def catch_up(self, stream: socket.socket) -> None:
        for topic, after in list(self.subscribers.get(stream, {}).items()):
            for event in self.events[after:]:
                if MODE == "lagging" and self.sent == 2:
                    self.sent += 1
                    del self.subscribers[stream][topic]
                    send(stream, {"method": "lagging", "params": {"conversation": topic, "seq": 2}})
                    return
                send(stream, {"method": "event", "params": event})
                self.subscribers[stream][topic] = event["seq"]
                self.sent += 1
                if MODE == "dying" and self.sent >= 2:
                    os._exit(1)

    def serve(self, stream: socket.socket) -> None:
        low_high = PROTOCOLS.get(MODE, [control.OLDEST, control.NEWEST])
        hello = {"opagent": {"version": "0", "protocol": low_high, "host": "fake", "daemon": os.getpid(), "boot": "b"}}
        if MODE == "silent":
            time.sleep(60)
        if MODE == "endless":
            stream.sendall(b"x" * (control.FRAME_LIMIT + 2**20))
        if MODE == "garbage":
            stream.sendall(b"220 mail.example.com ESMTP\n")
        else:
            send(stream, {"hello": "world"} if MODE == "foreign" else hello)
        for line in stream.makefile("rb"):
            message = json.loads(line)
            try:
                method = getattr(self, message["method"].replace("/", "_"), None)
                if method is None:
                    raise NotFound(f"the fake does not know {message['method']}")
                result = method(stream, message["params"])
                send(stream, {"id": message["id"], "result": result})
            except NotFound as error:
                send(stream, {"id": message["id"], "error": control.error_json(error)})
            if message["method"] == "events/subscribe":
                with self.lock:
                    self.catch_up(stream)
            if message["method"] == "daemon/stop":
                os._exit(0)

    def hello(self, stream: socket.socket, params: dict[str, Any]) -> dict[str, Any]:
        return {"protocol": params["protocol"], "daemon": os.getpid(), "boot": "b", "host": "fake"}

    def link_open(self, stream: socket.socket, params: dict[str, Any]) -> dict[str, Any]:
        return {"machine": params["machine"], "socket": os.environ["FAKE_FAR"], "state": "connected", "since": ""}

    def daemon_status(self, stream: socket.socket, params: dict[str, Any]) -> dict[str, Any]:
        return {"pid": os.getpid()}

    def daemon_stop(self, stream: socket.socket, params: dict[str, Any]) -> dict[str, Any]:
        return {"stopping": True}

    def process_list(self, stream: socket.socket, params: dict[str, Any]) -> dict[str, Any]:
        process = {"id": "x1", "agent": "echo", "state": "ready", "uptime": 90, "memory": 3_400_000, "workspace": "/w"}
        return {"processes": [process]}

    def workspace_open(self, stream: socket.socket, params: dict[str, Any]) -> dict[str, Any]:
        return {"workspace": params["path"], "agent": "echo", "notices": ["no sandbox \x1b[31m"]}

    def conversation_create(self, stream: socket.socket, params: dict[str, Any]) -> dict[str, Any]:
        self.note("creates")
        if MODE == "dropping":
            os._exit(1)
        return CONVERSATION

    def conversation_list(self, stream: socket.socket, params: dict[str, Any]) -> dict[str, Any]:
        return {"conversations": [CONVERSATION]}

    def conversation_show(self, stream: socket.socket, params: dict[str, Any]) -> dict[str, Any]:
        return {"conversation": CONVERSATION, "turns": [], "events": []}

    def queue_list(self, stream: socket.socket, params: dict[str, Any]) -> dict[str, Any]:
        return {"turns": []}

    def events_subscribe(self, stream: socket.socket, params: dict[str, Any]) -> dict[str, Any]:
        with self.lock:
            after = len(self.events) if params["after"] is None else params["after"]
            self.subscribers.setdefault(stream, {})[params["conversation"]] = after
            return {"after": len(self.events)}

    def approval_list(self, stream: socket.socket, params: dict[str, Any]) -> dict[str, Any]:
        return {"approvals": []}

    def approval_answer(self, stream: socket.socket, params: dict[str, Any]) -> dict[str, Any]:
        self.answered.set()
        return APPROVAL | {"state": "allowed" if params["allow"] else "denied"}

    def daemon_doctor(self, stream: socket.socket, params: dict[str, Any]) -> dict[str, Any]:
        time.sleep(1)
        return {"checks": []}

    def note(self, name: str) -> int:
        """One more line in a file; how many there are now."""
        path = paths.state() / name
        with path.open("a") as file:
            file.write(f"{os.getpid()}\n")
        return len(path.read_text().splitlines())

    def turn_start(self, stream: socket.socket, params: dict[str, Any]) -> dict[str, Any]:
        if self.note("turns") == 1 and MODE == "dropping":
            os._exit(1)
        threading.Thread(target=self.turn, args=("a0001", params["text"]), daemon=True).start()
        return {"turn": {"id": "a0001"}, "place": 0}

    def workspace_join(self, stream: socket.socket, params: dict[str, Any]) -> dict[str, Any]:
        shown = {"workspace": self.workspace_open(stream, params), "conversation": CONVERSATION}
        if params.get("which") == "new" and "conversation" not in params:
            self.conversation_create(stream, params)
        if params.get("follow"):
            shown |= self.events_subscribe(stream, {"conversation": CONVERSATION["id"], "after": None})
        return shown | (self.turn_start(stream, params) if params.get("text") else {})

    def turn(self, ident: str, text: str) -> None:
        self.emit("turn_state", ident, {"state": "running"})
        self.emit("tool_call", ident, {"id": "t", "title": "read \x1b]0;x\x07 notes", "status": "completed"})
        if text == "ask":
            self.emit("approval_asked", ident, APPROVAL)
            self.answered.wait(60)
            self.emit("approval_answered", ident, {"id": APPROVAL["id"], "state": "allowed"})
        for word in text.split():
            self.emit("text", ident, {"text": word + " "})
        state = {"state": "interrupted", "reason": "crashed", "sentence": "echo ended"} if text == "crash" else {"state": "done"}
        self.emit("turn_state", ident, state)


def send(stream: socket.socket, message: dict[str, Any]) -> None:
    try:
        stream.sendall(json.dumps({"jsonrpc": "2.0", **message} if "opagent" not in message else message).encode() + b"\n")
    except OSError:
        pass


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--ready-fd", type=int)
    ready = parser.parse_args().ready_fd
    if MODE == "refuses":
        sys.exit("the disk is on holiday")
    files.private_directory(paths.run())
    only = os.open(paths.run() / "daemon.pid", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(only, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit("a daemon is already running")
    paths.socket().unlink(missing_ok=True)
    daemon = Daemon()
    daemon.note("starts")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(paths.socket()))
        listening.listen(64)
        os.write(ready, b"!")
        os.close(ready)
        while True:
            stream, _ = listening.accept()
            threading.Thread(target=daemon.serve, args=(stream,), daemon=True).start()


if __name__ == "__main__":
    main()
