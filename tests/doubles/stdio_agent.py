"""A small ACP client for tests: starts an argv, sends lines, reads lines with a deadline, and leaves no process behind."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.doubles.patience import PATIENCE


class StdioAgent:
    """One agent process. `messages` holds what was parsed, `noise` the lines that were no JSON object, both in wire order."""

    def __init__(self, argv: Sequence[str], cwd: Path, env: Mapping[str, str] | None = None) -> None:
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(argv, cwd=cwd, env=env, stdin=pipe, stdout=pipe, stderr=pipe, process_group=0)
        self.messages: list[dict[str, Any]] = []
        self.noise: list[bytes] = []
        self.errors = b""
        self.session = ""
        self._rest: list[bytes] = []  # pieces of the line that is not complete yet
        self._next_id = 1
        self._drain = threading.Thread(target=self._read_errors, daemon=True)
        self._drain.start()

    def send(self, message: Mapping[str, Any]) -> None:
        self.send_bytes(json.dumps(message).encode() + b"\n")

    def send_bytes(self, data: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def post(self, method: str, **params: Any) -> int:
        """Send a request and do not wait; its id."""
        identity, self._next_id = self._next_id, self._next_id + 1
        self.send({"jsonrpc": "2.0", "id": identity, "method": method, "params": params})
        return identity

    def notify(self, method: str, **params: Any) -> None:
        self.send({"jsonrpc": "2.0", "method": method, "params": params})

    def call(self, method: str, **params: Any) -> Any:
        """The result of a request; an error response fails the test."""
        answer = self.answer_to(self.post(method, **params))
        assert "result" in answer, answer
        return answer["result"]

    def answer_to(self, identity: int, timeout: float = PATIENCE) -> dict[str, Any]:
        """The first response with this id."""
        return self.until(lambda m: "method" not in m and m.get("id") == identity and m["id"] is not True, timeout)

    def requested(self, method: str, timeout: float = PATIENCE) -> dict[str, Any]:
        """The newest request of the agent with this method; waits for it."""
        return self.until(lambda message: message.get("method") == method and "id" in message, timeout)

    def until(self, wanted: Any, timeout: float = PATIENCE, after: int = 0) -> dict[str, Any]:
        """The first message from `after` on for which `wanted` is true; waits for it at most `timeout` seconds."""
        deadline = time.monotonic() + timeout
        seen = after
        while True:
            for message in self.messages[seen:]:
                if wanted(message):
                    return message
            seen = len(self.messages)
            left = deadline - time.monotonic()
            assert left > 0, f"nothing came in {timeout} s; last: {self.messages[-2:]}, stderr: {self.errors[-500:]!r}"
            assert self.pump(left) is not False, f"stdout ended; last: {self.messages[-2:]}, stderr: {self.errors[-500:]!r}"

    def pump(self, seconds: float) -> bool | None:
        """Take what arrives within `seconds`: True when something did, None when nothing, False at the end of the stream."""
        assert self.process.stdout is not None
        fd = self.process.stdout.fileno()
        if not select.select([fd], [], [], seconds)[0]:
            return None
        data = os.read(fd, 1 << 20)
        if not data:
            return False
        *lines, rest = data.split(b"\n")
        for line in lines:
            self._take(b"".join([*self._rest, line]))
            self._rest = []
        self._rest.append(rest)
        return True

    def _take(self, line: bytes) -> None:
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            self.noise.append(line)
            return
        if isinstance(message, dict):
            self.messages.append(message)
        else:
            self.noise.append(line)

    def begin(self, cwd: Path, **params: Any) -> str:
        """initialize and session/new; the session's id."""
        self.initialize()
        self.session = str(self.call("session/new", cwd=str(cwd), mcpServers=[], **params)["sessionId"])
        return self.session

    def initialize(self) -> Any:
        return self.call("initialize", protocolVersion=1, clientCapabilities={})

    def ask(self, text: str) -> int:
        """Post a prompt of one text block; the request's id."""
        return self.post("session/prompt", sessionId=self.session, prompt=[{"type": "text", "text": text}])

    def prompt(self, text: str) -> tuple[str, Any]:
        """One whole turn: the text of its chunks and the result."""
        start = len(self.messages)
        answer = self.answer_to(self.ask(text))
        assert "result" in answer, answer
        return self.text(start, self.messages.index(answer)), answer["result"]

    def updates(self, start: int = 0, end: int | None = None) -> list[dict[str, Any]]:
        """The bodies of the session updates among the messages from `start` to `end`."""
        return [m["params"]["update"] for m in self.messages[start:end] if m.get("method") == "session/update"]

    def text(self, start: int = 0, end: int | None = None) -> str:
        chunks = [u for u in self.updates(start, end) if u["sessionUpdate"] == "agent_message_chunk"]
        return "".join(chunk["content"].get("text", "") for chunk in chunks)

    def ended(self, timeout: float = PATIENCE) -> int:
        """The exit status, or minus the signal; what is left on stdout is read first."""
        deadline = time.monotonic() + timeout
        while self.pump(max(0.0, deadline - time.monotonic())):
            pass
        status = self.process.wait(max(0.1, deadline - time.monotonic()))
        self._drain.join(timeout)
        return status

    def close_input(self) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()

    def kill(self) -> None:
        """End the whole process group and close every pipe."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(PATIENCE)
        self._drain.join(PATIENCE)
        self.close_input()
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        while data := os.read(self.process.stderr.fileno(), 1 << 16):
            self.errors += data


@contextlib.contextmanager
def running(argv: Sequence[str], cwd: Path, env: Mapping[str, str] | None = None) -> Iterator[StdioAgent]:
    """An agent process for the length of a `with` block."""
    agent = StdioAgent(argv, cwd, env)
    try:
        yield agent
    finally:
        agent.kill()
