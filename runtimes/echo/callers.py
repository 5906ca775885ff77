"""Modes that use the MCP servers of the session: calls of other agents, notes, questions, any tool by name."""

from __future__ import annotations

import json
import queue
import subprocess
import threading

from modes import Mode, Steps, Turn
from wire import Cancelled, Message, encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator

_LOOK = 0.002  # seconds between two looks for an answer


class Server:
    """An MCP server of the session over stdio. One request may be open many times."""

    def __init__(self, entry: Message) -> None:
        env = {str(each["name"]): str(each["value"]) for each in entry.get("env") or []}
        words = [str(entry["command"]), *map(str, entry.get("args") or [])]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, env=env or None)
        self._lines: queue.Queue[Message | None] = queue.Queue()
        self._answers: dict[int, Message] = {}
        self._number = 0
        self.ended = False
        threading.Thread(target=self._read, daemon=True).start()
        info = {"name": "echo", "version": "1"}
        self.ask("initialize", {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": info})
        self._send({"method": "notifications/initialized"})

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(json.loads(line))
        self._lines.put(None)

    def _send(self, body: Message) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(encode({"jsonrpc": "2.0", **body}))
        self._process.stdin.flush()

    def ask(self, method: str, params: Message) -> int:
        self._number += 1
        self._send({"id": self._number, "method": method, "params": params})
        return self._number

    def cancel(self, number: int) -> None:
        self._send({"method": "notifications/cancelled", "params": {"requestId": number, "reason": "cancelled"}})

    def answer(self, number: int) -> Message | None:
        """What came for a request, if it did."""
        while not self._lines.empty():
            message = self._lines.get()
            if message is None:
                self.ended = True
            elif "id" in message:
                self._answers[int(message["id"])] = message
        if self.ended and number not in self._answers:
            return {"error": {"message": "the server ended"}}
        return self._answers.pop(number, None)


_servers: dict[str, Server] = {}


def server(turn: Turn, name: str) -> Server:
    """The session's server of that name, started once."""
    if name not in _servers or _servers[name].ended:
        entry = next((each for each in turn.session.servers if each.get("name") == name), None)
        if entry is None:
            raise ValueError(f"the session has no MCP server {name!r}")
        _servers[name] = Server(entry)
    return _servers[name]


def asked(line: Server, calls: list[Message]) -> Generator[object, object, list[Message]]:
    """Tool calls side by side, and what came back of each; a cancelled turn cancels them."""
    numbers = [line.ask("tools/call", call) for call in calls]
    answers: dict[int, Message] = {}
    try:
        while len(answers) < len(numbers):
            for number in numbers:
                if number not in answers and (found := line.answer(number)) is not None:
                    answers[number] = found
            yield _LOOK
    except Cancelled:
        for number in numbers:
            line.cancel(number)
        raise
    return [answers[number] for number in numbers]


def text_of(answer: Message) -> str:
    if "error" in answer:
        return f"error: {answer['error'].get('message')}"
    result = answer["result"]
    said = "".join(str(part.get("text", "")) for part in result.get("content") or [])
    return f"{'failed: ' if result.get('isError') else ''}{said}"


def mcp(turn: Turn, words: list[str]) -> Steps:
    """`SERVER TOOL [JSON]`: calls a tool of a server of the session and tells what came back, as text and structured."""
    arguments = json.loads(" ".join(words[2:]) or "{}")
    (answer,) = yield from asked(server(turn, words[0]), [{"name": words[1], "arguments": arguments}])
    turn.say(text_of(answer) + "\n" + json.dumps((answer.get("result") or {}).get("structuredContent")) + "\n")


def call(turn: Turn, words: list[str]) -> Steps:
    """`TO PROMPT`: has another agent answer PROMPT (`|` begins a new line of it), and tells its answer."""
    arguments = {"to": words[0], "prompt": " ".join(words[1:]).replace(" | ", "\n")}
    (answer,) = yield from asked(server(turn, "opagent"), [{"name": "agent_call", "arguments": arguments}])
    turn.say(f"[{text_of(answer)}]\n")


def call_many(turn: Turn, words: list[str]) -> Steps:
    """`N TO PROMPT`: N calls side by side; tells how each ended."""
    arguments = {"to": words[1], "prompt": " ".join(words[2:]).replace(" | ", "\n")}
    one: Message = {"name": "agent_call", "arguments": arguments}
    answers = yield from asked(server(turn, "opagent"), [one] * int(words[0]))
    turn.say("\n".join(text_of(answer) for answer in answers) + "\n")


def run(turn: Turn, words: list[str]) -> Steps:
    """`COMMAND ARGUMENT...`: runs a program beside itself, in its own box, and tells its output and exit status."""
    pipe = subprocess.PIPE
    child = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=pipe, stderr=subprocess.STDOUT)
    try:
        while child.poll() is None:
            yield _LOOK
    except Cancelled:
        child.kill()
        raise
    finally:
        output = child.communicate()[0].decode(errors="replace")
    turn.say(f"{output}exit status {child.returncode}\n")


MODES: dict[str, Mode] = {"mcp": mcp, "call": call, "callmany": call_many, "run": run}
