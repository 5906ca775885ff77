"""Beside an agent, in its box: `mcp` joins its MCP client to the daemon, other words are commands. Standard library only.

    python -I -S toolbox.py DIRECTORY mcp [SERVER]
    python -I -S toolbox.py DIRECTORY call TO PROMPT

DIRECTORY holds the agent's own socket and the token that says who speaks. Nothing here understands MCP: bytes go to and fro.
"""

from __future__ import annotations

import os
import socket
import sys
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SOCKET, TOKEN, HELLO = "tools.sock", "token", "hello"


def main(directory: str, words: list[str]) -> int:
    if words[:1] == ["mcp"]:
        return mcp(directory, *words[1:2])
    return command(directory, words)


class Pipes:
    """Two named pipes, where no socket may be made; what a socket is asked to do here, these can do as well."""

    def __init__(self, directory: str) -> None:
        up, down = (f"{way}-{os.getpid()}-{os.urandom(6).hex()}" for way in ("up", "down"))
        for name in (up, down):
            os.mkfifo(os.path.join(directory, name), 0o600)
        self._up = os.open(os.path.join(directory, up), os.O_RDWR)  # to read, too: else it waits until somebody else does
        self._down = os.open(os.path.join(directory, down), os.O_RDONLY | os.O_NONBLOCK)
        hello = os.open(os.path.join(directory, HELLO), os.O_WRONLY | os.O_NONBLOCK)
        os.write(hello, f"{up} {down}\n".encode())
        os.close(hello)

    def recv(self, size: int) -> bytes:
        import select

        poll = select.poll()
        poll.register(self._down, select.POLLIN)
        while True:
            poll.poll()
            try:
                return os.read(self._down, size)
            except BlockingIOError:
                continue

    def sendall(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._up, view) :]

    def shutdown(self, how: int) -> None:
        os.close(self._up)

    def makefile(self, mode: str) -> Any:
        import io

        class Down(io.RawIOBase):
            def readable(_) -> bool:
                return True

            def readinto(_, buffer: Any) -> int:
                data = self.recv(len(buffer))
                buffer[: len(data)] = data
                return len(data)

        return io.BufferedReader(Down())


def dial(directory: str, speaks: str) -> Any:
    """A connection that has said who it is."""
    with open(os.path.join(directory, TOKEN), encoding="ascii") as file:
        token = file.read().strip()
    if os.path.exists(os.path.join(directory, HELLO)):
        line: Any = Pipes(directory)
    else:
        line = socket.socket(socket.AF_UNIX)
        line.connect(os.path.join(directory, SOCKET))
    line.sendall(f'{{"token":"{token}","speaks":"{speaks}"}}\n'.encode())
    return line


def mcp(directory: str, server: str = "") -> int:
    """Ours, or one that the binding names."""
    try:
        line = dial(directory, f"server/{server}" if server else "mcp")
    except OSError as error:
        sys.stderr.write(f"opagent mcp: the daemon cannot be reached: {error.strerror}\n")
        return 1
    threading.Thread(target=_upwards, args=(line,), daemon=True).start()
    try:
        while data := line.recv(1 << 16):
            _write(data)
    except OSError:
        pass  # one of the two is gone: so is the reason to be here
    os._exit(0)


def _upwards(line: Any) -> None:
    try:
        while data := os.read(0, 1 << 16):
            line.sendall(data)
        line.shutdown(socket.SHUT_WR)
    except OSError:
        os._exit(0)


def _write(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(1, view) :]


USAGE = """usage: opagent call [--json] [--no-wait] [--timeout SECONDS] TO PROMPT
       opagent call [--json] result CALL
       opagent agents
       opagent notes read [NAME] | notes write NAME [TEXT]
       opagent ask QUESTION [OPTION...]
       opagent status TEXT
       opagent mcp
"""
# how a call ended -> exit status, as of the command line
EXITS = {"answer": 0, "running": 0, "refused": 5, "failed": 10, "timed_out": 3, "budget": 8}


def command(directory: str, words: list[str]) -> int:
    """One request of the agent's own connection, and its answer in words."""
    import json

    options, words = _options(words)
    try:
        asked = _asked(words, options)
    except (IndexError, ValueError):
        sys.stderr.write(USAGE)
        return 2
    try:
        result = _result(directory, asked, "no-wait" in options)
    except OSError as error:
        sys.stderr.write(f"error: the daemon cannot be reached: {error.strerror or error}\n")
        return 1
    if "error" in result:
        detail = result["error"].get("data") or {}
        hint = f"\n  try: {detail['hint']}" if detail.get("hint") else ""
        sys.stderr.write(f"error: {result['error']['message']}{hint}\n")
        return int(detail.get("exit", 2))
    found = result["result"]
    sys.stdout.write(json.dumps(found) + "\n" if "json" in options else _words(found))
    return EXITS.get(found["outcome"], 1) if "outcome" in found else int(found.get("answered") is False)


def _options(words: list[str]) -> tuple[dict[str, str], list[str]]:
    """Those before the first word that is none, behind the command's name."""
    options: dict[str, str] = {}
    head, rest = words[:1], words[1:]
    while rest and rest[0].startswith("--") and rest[0] != "--":
        name, rest = rest[0][2:], rest[1:]
        options[name] = rest.pop(0) if name == "timeout" and rest else ""
    return options, head + (rest[1:] if rest[:1] == ["--"] else rest)


def _asked(words: list[str], options: dict[str, str]) -> tuple[str, dict[str, object]]:
    """The method and its parameters. Raises IndexError and ValueError for what is no command."""
    match words:
        case ["call", "result", ident]:
            return "call/result", {"call": ident}
        case ["call", to, prompt]:
            more = {"timeout": float(options["timeout"])} if options.get("timeout") else {}
            return "call/start", {"to": to, "prompt": _text(prompt), **more}
        case ["agents"]:
            return "agent/list", {}
        case ["notes"] | ["notes", "read"]:
            return "notes/read", {}
        case ["notes", "read", name]:
            return "notes/read", {"path": name}
        case ["notes", "write", name, *text]:
            return "notes/write", {"path": name, "text": _text(text[0] if text else "-")}
        case ["ask", question, *offered]:
            return "ask/person", {"question": question, "options": offered}
        case ["status", *text]:
            return "turn/status", {"text": " ".join(text)}
    raise ValueError(words)


def _text(word: str) -> str:
    return sys.stdin.read() if word == "-" else word


def _result(directory: str, asked: tuple[str, dict[str, object]], leave: bool) -> dict[str, Any]:
    """The answer; of a call its outcome, unless nobody waits for it. An interrupt ends the call: its connection ends."""
    line = dial(directory, "calls")
    answers = line.makefile("rb")
    found = _ask(line, answers, *asked)
    if asked[0] == "call/start" and "result" in found and not leave:
        found = _ask(line, answers, "call/result", {"call": found["result"]["call"]})
    return found


def _ask(line: Any, answers: Any, method: str, params: dict[str, object]) -> dict[str, Any]:
    import json

    line.sendall(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode() + b"\n")
    answer = answers.readline()
    if not answer:
        raise ConnectionResetError("the daemon closed the connection")
    found: dict[str, Any] = json.loads(answer)
    return found


def _words(found: dict[str, Any]) -> str:
    if found.get("outcome") == "running":
        return f"{found['call']}\n"
    if "outcome" in found:
        how = "" if found["outcome"] == "answer" else f"{found['outcome'].replace('_', ' ')}: "
        return f"{how}{found.get('text', '')}\n"
    if "agents" in found:
        return "".join(f"{each['to']}\t{each['effect']}\t{each['about']}\n" for each in found["agents"])
    if "notes" in found:
        return "".join(f"{each['path']}\t{each['size']}\t{each['directory']}\n" for each in found["notes"])
    said = found.get("text", found.get("answer", found.get("why", found.get("shown", found.get("path", "")))))
    return str(said).rstrip("\n") + "\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
