"""The world outside for the probes: a decoy home with what nobody may touch, a process of the same user, sockets that answer.

with World.made(folder) as world:       # folder/home/work is the workspace
    ...
    world.changed("other/new")          # below the home: is it another now than at the beginning?
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import resource
import secrets
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from opagent.process.profile import Limits

LIMITS = Limits(processes=40, memory=256 << 20, file=8 << 20, files=128, tmp=16 << 20)
VICTIM = """
import ctypes, os, signal, struct, sys, time
ctypes.CDLL(None).capset(struct.pack("Ii", 0x20080522, 0), bytes(24))  # as one of a plain user has
canary, key, marker = os.environ["SECRET"], sys.argv[2], sys.argv[3]
signal.signal(signal.SIGUSR1, lambda *_: open(marker, "w").close())
buffer = ctypes.create_string_buffer(canary.encode())
fd = os.open(key, os.O_RDONLY)
print(ctypes.addressof(buffer), fd, flush=True)
while True: time.sleep(600)
"""
WATCHED = (
    ".bashrc", "other/new", "other/mode", "other/linked", "other/moved", "other/long", "other/hard", "other/signalled", "package/program.py",
    "work/.agent.yaml", "work/sub/.agent.yaml", "work/conversations/a.md", "work/.envrc", "work/.vscode/tasks.json",
    "work/.git/hooks/pre-commit", "work/.git/config", "work/.git/commondir", "work/.git/index",
)  # fmt: skip


@dataclass(slots=True)
class World:
    """`facts` are what the attempts are told."""

    folder: Path
    canary: str
    facts: dict[str, Any]
    victim: subprocess.Popen[str]
    terminal: int
    limits: Limits = LIMITS
    before: dict[str, str] = field(default_factory=dict)

    @classmethod
    @contextlib.contextmanager
    def made(cls, folder: Path) -> Iterator[World]:
        canary = f"canary-{secrets.token_hex(8)}"
        home = folder / "home"
        _files(home, canary)
        with contextlib.ExitStack() as stack:
            answers = _listeners(stack, home, canary)
            victim = stack.enter_context(_victim(home, canary))
            assert victim.stdout is not None
            address, descriptor = map(int, victim.stdout.readline().split())
            master, slave = os.openpty()
            stack.callback(os.close, master)
            stack.callback(os.close, slave)
            os.set_blocking(master, False)
            facts = answers | {
                "canary": canary, "home": str(home), "workspace": str(home / "work"), "key": str(home / ".ssh/id_rsa"),
                "package": str(home / "package"), "victim": victim.pid, "address": address, "descriptor": descriptor,
                "terminal": os.ttyname(slave), "shared": _shared_memory(stack, canary),
                "limits": {name: getattr(LIMITS, name) for name in ("processes", "memory", "file", "files", "tmp")},
            }  # fmt: skip
            world = cls(folder, canary, facts, victim, master)
            world.before = {path: world._state(path) for path in WATCHED}
            yield world

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def workspace(self) -> Path:
        return self.home / "work"

    def changed(self, path: str) -> bool:
        return self._state(path) != self.before[path]

    def _state(self, path: str) -> str:
        place = self.home / path
        try:
            found = place.lstat()
            content = place.read_bytes() if place.is_file() else b""
        except OSError:
            return "none"
        return f"{found.st_mode:o} {found.st_uid} {hashlib.sha256(content).hexdigest()}"

    def set_id_files(self) -> list[str]:
        return [path.name for path in self.workspace.glob("set-id-*") if path.stat().st_mode & 0o6000]

    def victim_limit(self) -> tuple[int, int]:
        return resource.prlimit(self.victim.pid, resource.RLIMIT_NOFILE)

    def victim_priority(self) -> int:
        return os.getpriority(os.PRIO_PROCESS, self.victim.pid)

    def terminal_said(self) -> bool:
        with contextlib.suppress(BlockingIOError):
            return b"escaped" in os.read(self.terminal, 100)
        return False


def _files(home: Path, canary: str) -> None:
    work = home / "work"
    for path, text in {
        ".ssh/id_rsa": canary, f".ssh/{canary}": "", ".bashrc": "# mine\n", "other/mode": "x\n", "other/long": "long\n", "other/hard": "x\n",
        ".local/state/opagent/opagent.db": canary, "package/program.py": "# a program\n", "work/movable": "x\n",
        "work/.agent.yaml": "agent: echo\n", "work/sub/.agent.yaml": "agent: echo\n", "work/conversations/a.md": "# a\n",
        "work/.envrc": "# mine\n", "work/.vscode/tasks.json": "{}\n", "work/private/canary": canary, "work/file": "x\n",
    }.items():  # fmt: skip
        place = home / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
        place.chmod(0o600)
    (work / "keys").symlink_to(home / ".ssh")
    (work / "elsewhere").symlink_to(home / "other")
    (work / "linked").hardlink_to(home / "other/hard")
    git = ["git", "-C", str(work), "-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "init.defaultBranch=main"]
    for words in (["init", "-q"], ["add", "file"], ["commit", "-qm", "one"]):
        subprocess.run([*git, *words], check=True, env={**os.environ, "GIT_CONFIG_GLOBAL": os.devnull})


def _victim(home: Path, canary: str) -> contextlib.AbstractContextManager[subprocess.Popen[str]]:
    argv = [sys.executable, "-I", "-S", "-c", VICTIM, canary, str(home / ".ssh/id_rsa"), str(home / "other/signalled")]
    process = subprocess.Popen(argv, env={"SECRET": canary}, stdout=subprocess.PIPE, text=True)

    @contextlib.contextmanager
    def ended() -> Iterator[subprocess.Popen[str]]:
        with process:
            yield process
            process.kill()

    return ended()


def _listeners(stack: contextlib.ExitStack, home: Path, canary: str) -> dict[str, Any]:
    """Each answers with the canary to whoever gives it."""
    (home / "run").mkdir()
    paths = {"docker": str(home / "run/docker.sock"), "control": str(home / ".local/state/opagent/daemon.sock")}
    abstract = f"opagent-probe-{secrets.token_hex(4)}"
    streams = []
    for address in (*paths.values(), f"\0{abstract}"):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(address)
        streams.append(listener)
    tcp = socket.socket()
    tcp.bind(("127.0.0.1", 0))
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", 0))
    for listener in (*streams, tcp):
        listener.listen()
        _answering(stack, listener, _accepted(listener, canary))
    _answering(stack, udp, _echoed(udp, canary))
    return {**paths, "abstract": abstract, "tcp": tcp.getsockname()[1], "udp": udp.getsockname()[1]}


def _answering(stack: contextlib.ExitStack, listener: socket.socket, serve: Any) -> None:
    thread = threading.Thread(target=serve)
    thread.start()

    def end() -> None:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        if listener.type == socket.SOCK_DGRAM:  # a shut datagram socket wakes nobody by itself
            with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as waker:
                waker.sendto(b"end", listener.getsockname())
        thread.join()
        listener.close()

    stack.callback(end)


def _accepted(listener: socket.socket, canary: str) -> Any:
    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                with listener.accept()[0] as stream:
                    if canary.encode() in stream.recv(100):
                        stream.send(canary.encode())

    return serve


def _echoed(listener: socket.socket, canary: str) -> Any:
    def serve() -> None:
        with contextlib.suppress(OSError):
            while (said := listener.recvfrom(100))[0] not in (b"end", b""):
                listener.sendto(canary.encode(), said[1])

    return serve


def _shared_memory(stack: contextlib.ExitStack, canary: str) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.shmat.restype = ctypes.c_void_p
    number = libc.shmget(0, 4096, 0o1666)  # IPC_PRIVATE, IPC_CREAT
    if number < 0:
        return -1
    address = ctypes.c_void_p(libc.shmat(number, None, 0))
    ctypes.memmove(address, canary.encode() + b"\0", len(canary) + 1)
    stack.callback(libc.shmctl, number, 0, None)  # IPC_RMID
    stack.callback(libc.shmdt, address)
    return int(number)
