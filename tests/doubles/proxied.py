"""The proxy as a real process with the daemon's part played by the test: `allow` decides, `said` keeps what it told.

Run as a program it is the proxy with a name server that lies: OPAGENT_TEST_NAMES is JSON, a name -> the answers, one list after
the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from opagent.process import network
from opagent.process.forward import look_up
from tests.doubles.patience import until

Said = dict[str, Any]
TOKEN = "opagent-0123456789abcdef"


class Proxied:
    def __init__(self, process: subprocess.Popen[bytes], folder: Path) -> None:
        self.process, self.folder = process, folder
        self.said: list[Said] = []
        self.allow: Callable[[Said], Said | None] = lambda asked: {"allow": True, "why": "", "named": ["*"]}
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            said = json.loads(line)
            self.said.append(said)
            if said["op"] == "may" and (verdict := self.allow(said)) is not None:
                self.send(op="verdict", id=said["id"], **verdict)

    def send(self, **said: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(said).encode() + b"\n")
        self.process.stdin.flush()

    def told(self, op: str, **facts: Any) -> Said:
        """What it said of this kind, once it has."""
        return until(lambda: next((each for each in self.said if each["op"] == op and facts.items() <= each.items()), None))

    @property
    def port(self) -> int:
        return int(self.told("ready")["port"])

    def agent(self, ident: str = "x1", token: str = TOKEN, services: Said | None = None) -> str:
        """The path of its socket."""
        path = str(self.folder / f"{ident}.sock")
        self.send(op="open", agent=ident, path=path, token=token, refused="", services=services or {})
        self.told("opened", agent=ident)
        return path


@contextlib.contextmanager
def running(folder: Path, names: dict[str, list[list[str]]] | None = None, **environment: str) -> Iterator[Proxied]:
    env = {**os.environ, "OPAGENT_TEST_NAMES": json.dumps(names or {}), **environment}
    argv = [sys.executable, "-m", "tests.doubles.proxied"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env) as process:
        yield Proxied(process, folder)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait() == 0


def ask(path: str, data: bytes) -> bytes:
    """All that comes back for these bytes, which are all there are."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        client.sendall(data)
        return rest(client)


def rest(client: socket.socket) -> bytes:
    found = b""
    with contextlib.suppress(ConnectionError):
        while data := client.recv(1 << 16):
            found += data
    return found


def main() -> int:
    names: dict[str, list[list[str]]] = json.loads(os.environ["OPAGENT_TEST_NAMES"])

    async def resolve(host: str, port: int) -> list[str]:
        await asyncio.sleep(0)
        if host not in names:
            return await look_up(host, port)
        answers = names[host]
        return answers.pop(0) if len(answers) > 1 else answers[0]

    return network.main(0, resolve)


if __name__ == "__main__":
    sys.exit(main())
