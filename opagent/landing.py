"""Our first step on another machine, out of the unpacked package: finds or starts the daemon there, then carries its streams.

Called by `remote/stage1.py` on the channel it was started on: one line says what there is, after that both sides speak
`remote/mux.py`. It ends with its standard input; the daemon stays.
"""

from __future__ import annotations

import functools
import json
import os
import platform
import pwd
import select
import socket
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from opagent import files, launch, paths
from opagent.errors import DaemonUnavailable, OpAgentError
from opagent.remote import mux, stage1
from opagent.version import VERSION

OUTPUT_LIMIT = 1 << 20  # bytes that wait for the other side before nothing more is read for it
STARTS_WITHIN = 60.0  # seconds: for the first time it has no bytecode, and may lie on a slow disk
_BLOCK = 32 * 1024


def land(nonce: str, verb: str, base: str, digest: str) -> None:
    """Do what was asked and return when the other side is done. `verb`: a key of VERBS."""
    os.chdir("/")
    try:
        _settle(base)
        VERBS[verb](nonce, base, digest)
    except OpAgentError as error:
        say(nonce, {"failed": "daemon", **error.as_json()})
    except OSError as error:  # the outer edge: what it was is told on the machine where somebody can read it
        say(nonce, {"failed": "daemon", "message": "the daemon cannot be started", "why": str(error)})


def say(nonce: str, body: dict[str, Any]) -> None:
    files.write_all(1, f"\n\x1eOPA1 {nonce} {json.dumps(body)}\n".encode())


def _settle(base: str) -> None:
    """A home, and a place for our state also where there is none that can be written. Raises NotPrivate."""
    if not os.environ.get("HOME", "").startswith("/"):
        os.environ["HOME"] = _account().pw_dir
    try:
        usable = os.access(files.private_directory(paths.state()), os.W_OK)
    except OSError:
        usable = False
    if not usable and "OPAGENT_STATE_DIR" not in os.environ:
        os.environ["OPAGENT_STATE_DIR"] = os.path.join(base, "state")


def _account() -> pwd.struct_passwd:
    try:
        return pwd.getpwuid(os.getuid())
    except KeyError:  # a container that runs as a number
        return pwd.struct_passwd((str(os.getuid()), "x", os.getuid(), os.getgid(), "", "/", "/bin/sh"))


def _open(nonce: str, base: str, digest: str) -> None:
    started = False
    if paths.socket().exists() and not _runs(digest):
        from opagent import upkeep  # slow to import, and seldom needed

        upkeep.make_way(digest)
    try:
        stream = launch.connect(start=False, end=time.monotonic() + launch.DEADLINE)
    except DaemonUnavailable:
        say(nonce, {"starting": True})
        stream, started = launch.connect(start=True, end=time.monotonic() + STARTS_WITHIN), True
    _touch(Path(base) / "rt" / digest / ".ok")
    say(nonce, {"ok": _facts(base, digest, started)})
    _Proxy(stream).run()


def _runs(digest: str) -> bool:
    """Whether the daemon that was started last runs this very code."""
    try:
        return paths.daemon_code().read_text().split()[0] == digest
    except (OSError, IndexError):
        return False


def _facts(base: str, digest: str, started: bool) -> dict[str, Any]:
    return {
        "home": os.environ["HOME"],
        "uid": os.getuid(),
        "user": _account().pw_name,
        "socket": str(paths.socket()),
        "python": sys.executable,
        "python_version": platform.python_version(),
        "version": VERSION,
        "digest": digest,
        "base": base,
        "started": started,
        "platform": f"{sys.platform} {os.uname().machine}",
        "host_name": socket.gethostname(),
    }


def _reports(work: Callable[[str, str], Any]) -> Callable[[str, str, str], None]:
    """A verb that answers once and is done."""

    def verb(nonce: str, base: str, digest: str) -> None:
        report = work(base, digest)
        say(nonce, {"ok": _facts(base, digest, False), "report": report})

    return verb


def _touch(path: Path) -> None:
    """When it was used last: old code is removed by that."""
    try:
        os.utime(path)
    except OSError:
        pass


class _Proxy:
    """Standard input and output as the multiplexed stream, one socket to the daemon a channel."""

    def __init__(self, first: socket.socket) -> None:
        self._mux = mux.Mux(dialled=False)
        self._sockets: dict[int, socket.socket] = {}
        self._pending: dict[int, deque[bytes]] = {}  # received, not yet written to the socket
        self._ended: set[int] = set()  # no more comes for these
        self._output = memoryview(b"")
        self._add(mux.FIRST, first)

    def run(self) -> None:
        os.set_blocking(1, False)
        try:
            while self._turn():
                pass
        except (OSError, OpAgentError):
            pass  # the other side is gone, or it is not one that we understand
        finally:
            for stream in self._sockets.values():
                stream.close()

    def _turn(self) -> bool:
        """Wait for one thing and do it. False at the end of the standard input."""
        full = len(self._output) + self._mux.waiting > OUTPUT_LIMIT
        by_fd = {stream.fileno(): channel for channel, stream in self._sockets.items()}
        readable = [fd for fd, channel in by_fd.items() if not full and self._mux.room(channel)]
        writable = [fd for fd, channel in by_fd.items() if self._pending[channel]]
        if self._output or self._mux.waiting:
            writable.append(1)
        can_read, can_write = _wait([0, *readable], writable)
        for fd in can_write - {1}:
            self._write(by_fd[fd])
        for fd in can_read - {0}:
            self._read(by_fd[fd])
        if 0 in can_read:
            try:
                data = os.read(0, _BLOCK)
            except BlockingIOError:  # it may be the same socket as the standard output
                return True
            if not data:
                return False
            for event in self._mux.feed(data):
                self._came(event)
        self._flush()
        return True

    def _flush(self) -> None:
        if not self._output:
            self._output = memoryview(self._mux.outgoing())
        if self._output:
            try:
                self._output = self._output[os.write(1, self._output) :]
            except BlockingIOError:
                pass

    def _came(self, event: mux.Event) -> None:
        if isinstance(event, mux.Opened):
            try:
                self._add(event.channel, launch.connect(start=True, end=time.monotonic() + launch.DEADLINE))
            except (OpAgentError, OSError) as error:
                self._mux.close(event.channel, str(error))
        elif isinstance(event, mux.Received) and event.channel in self._sockets:
            self._pending[event.channel].append(event.data)
            self._write(event.channel)
        elif isinstance(event, mux.Ended) and event.channel in self._sockets:
            self._ended.add(event.channel)
            self._write(event.channel)
        elif isinstance(event, mux.Closed):
            self._drop(event.channel)

    def _add(self, channel: int, stream: socket.socket) -> None:
        stream.setblocking(False)
        self._sockets[channel] = stream
        self._pending[channel] = deque()

    def _drop(self, channel: int) -> None:
        stream = self._sockets.pop(channel, None)
        if stream is not None:
            stream.close()
        self._pending.pop(channel, None)
        self._ended.discard(channel)

    def _read(self, channel: int) -> None:
        if channel not in self._sockets:
            return
        try:
            data = self._sockets[channel].recv(min(_BLOCK, self._mux.room(channel)))
        except BlockingIOError:
            return
        except OSError as error:
            self._mux.close(channel, error.strerror or str(error))
            self._drop(channel)
            return
        if data:
            self._mux.send(channel, data)
        else:  # the daemon has no half-open connections: its end is the end
            self._mux.close(channel, "the daemon closed the connection")
            self._drop(channel)

    def _write(self, channel: int) -> None:
        if channel not in self._sockets:
            return
        stream, pending = self._sockets[channel], self._pending[channel]
        try:
            while pending:
                count = stream.send(pending[0])
                self._mux.taken(channel, count)
                if count == len(pending[0]):
                    pending.popleft()
                else:
                    pending[0] = pending[0][count:]
            if channel in self._ended:
                stream.shutdown(socket.SHUT_WR)
                self._ended.discard(channel)
        except BlockingIOError:
            return
        except OSError as error:
            self._mux.close(channel, error.strerror or str(error))
            self._drop(channel)


def _wait(readable: list[int], writable: list[int]) -> tuple[set[int], set[int]]:
    """select() for any number of descriptors."""
    poll = select.poll()
    wanted: dict[int, int] = {}
    for fd in readable:
        wanted[fd] = select.POLLIN
    for fd in writable:
        wanted[fd] = wanted.get(fd, 0) | select.POLLOUT
    for fd, mask in wanted.items():
        poll.register(fd, mask)
    gone = select.POLLHUP | select.POLLERR | select.POLLNVAL
    can_read, can_write = set(), set()
    for fd, what in poll.poll():
        if what & (select.POLLIN | gone) and wanted[fd] & select.POLLIN:
            can_read.add(fd)
        if what & (select.POLLOUT | gone) and wanted[fd] & select.POLLOUT:
            can_write.add(fd)
    return can_read, can_write


def _check(nonce: str, base: str, digest: str) -> None:
    """The report. Then the way here can be tried: what comes is sent back, and there is a socket; until the other side leaves."""
    from opagent import checks

    steps = checks.check(base)
    with socket.socket(socket.AF_UNIX) as tried:
        path = paths.run() / f"try-{os.getpid()}"
        try:
            tried.bind(str(path))
            tried.listen()
        except OSError:  # a step has said why
            path = Path()
        try:
            report = {"steps": steps, "at": time.time(), "socket": str(path) if path.name else ""}
            say(nonce, {"ok": _facts(base, digest, False), "report": report})
            while data := os.read(0, _BLOCK):
                files.write_all(1, data)
        finally:
            path.unlink() if path.name else None


def _upgrade(base: str, digest: str, force: bool = False) -> Any:
    from opagent import upkeep

    return upkeep.upgrade(digest, force)


def _purge(base: str, digest: str, force: bool = False) -> Any:
    from opagent import upkeep

    return upkeep.purge([Path(each) for each in stage1.bases()], force)


VERBS: dict[str, Callable[[str, str, str], None]] = {
    "open": _open,
    "check": _check,
    "upgrade": _reports(_upgrade),
    "upgrade-now": _reports(functools.partial(_upgrade, force=True)),
    "purge": _reports(_purge),
    "purge-now": _reports(functools.partial(_purge, force=True)),
}
