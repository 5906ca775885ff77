"""Beside an agent, in its box: `mcp` joins its MCP client to the daemon, other words are commands. Standard library only.

    python -I -S toolbox.py DIRECTORY mcp [SERVER]
    python -I -S toolbox.py DIRECTORY call TO PROMPT

DIRECTORY holds the agent's own socket and the token that says who speaks. Nothing here understands MCP: bytes go to and fro.
"""

import os
import socket
import sys
import threading

SOCKET, TOKEN = "tools.sock", "token"


def main(directory: str, words: list[str]) -> int:
    if words[:1] == ["mcp"]:
        return mcp(directory, *words[1:2])
    return command(directory, words)


def dial(directory: str, speaks: str) -> socket.socket:
    """A connection that has said who it is."""
    with open(os.path.join(directory, TOKEN), encoding="ascii") as file:
        token = file.read().strip()
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


def _upwards(line: socket.socket) -> None:
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


def command(directory: str, words: list[str]) -> int:
    sys.stderr.write(f"opagent: no such command here: {' '.join(words)[:100]}\n")
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
