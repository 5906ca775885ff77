"""Another machine over loopback and over a line of 100 ms there and back: what `ssh HOST true` takes, and what we take."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import psutil

from opagent.client import Client
from tests.bench import peers
from tests.bench.place import PATIENCE, Place
from tests.bench.rows import Row, Target, compared, interleaved
from tests.bench.sizes import Sizes
from tests.doubles import delayline
from tests.doubles.far import daemon_of
from tests.doubles.sshd import Sshd, public, sshd
from tests.doubles.tcpline import tcp_line
from tests.doubles.wan import wan

ONE_WAY = 0.05  # seconds
LOSS = 0.01
_OWN = 150  # ms that our own work may take beside the round trips
_SSH, _TCP = "ssh HOST true", "TCP connect"


@dataclass(frozen=True, slots=True)
class _Line:
    """One way to the server. `rtt` in ms; 0 over loopback, where no target holds. `lose` sets the share of packets that are lost."""

    name: str
    server: Sshd
    port: int
    rtt: float
    lose: Callable[[float], None] | None = None
    made_of: str = ""

    def target(self, round_trips: float, own: float = _OWN) -> Target | None:
        return Target(round_trips * self.rtt + own, "ms") if self.rtt else None

    def row(self, name: str, pair: list[list[float]], target: Target | None = None, against: str = _SSH) -> Row:
        row = compared(f"{name}, {self.name}", against, "ms", pair, target)
        if not self.rtt:
            return row
        return Row(
            row.name, against, row.value, row.base, "ms", target, f"{row.value / self.rtt:.1f} round trips, {self.made_of}"
        )


def remote(place: Place, sizes: Sizes) -> Iterator[Row]:
    """Connecting, attaching, bootstrapping, and commands over a link that is held; beside what others do for the same."""
    mitogen = peers.with_mitogen(place.folder)
    for line_to in (_loopback, _far):
        with line_to(place) as line:
            os.environ["OPAGENT_SSH_CONFIG"] = line.server.config
            try:
                yield from _rows(place, sizes, line)
                yield from _beside(sizes, line, mitogen)
            finally:
                place.stop_daemon()
                _stop_there(line.server)


def _rows(place: Place, sizes: Sizes, line: _Line) -> Iterator[Row]:
    target = f"there:{line.server.home}/docs"
    words = ("open", target, "--agent", "echo", "-m", "hello")

    def peer() -> float:
        return _whole(_ssh(line.server))

    def forget() -> None:
        place.stop_daemon()
        _stop_there(line.server)
        for name in (".cache", ".local"):
            shutil.rmtree(line.server.home / name, ignore_errors=True)

    def bootstrapped() -> float:
        forget()
        return _first_line(place.command(*words))

    def attached() -> float:
        place.stop_daemon()
        return _linked()

    def started() -> float:
        place.stop_daemon()
        _stop_there(line.server)
        return _linked()

    def held() -> float:
        return _first_line(place.command(*words))

    yield line.row(_SSH, interleaved(sizes.cold, peer, lambda: _connected(line)), against=_TCP)
    with _master(line.server) as control:
        pair = interleaved(sizes.cold, lambda: _whole(_ssh(line.server, *control)), lambda: _connected(line))
        yield line.row("ssh HOST true with ControlMaster", pair, against=_TCP)
    bound = Target(3000, "ms") if line.rtt else None
    yield line.row("open -m, nothing of ours there", interleaved(sizes.cold, bootstrapped, peer), bound)
    yield line.row("link/open, the daemon runs there", interleaved(sizes.cold, attached, peer), line.target(11))
    yield line.row("link/open, our code is there", interleaved(sizes.cold, started, peer), line.target(11, 3 * _OWN))
    bound = Target(350, "ms") if line.rtt else None
    yield line.row("open -m, the link is held", interleaved(sizes.cold, held, peer), bound)
    ps = place.command("--host", "there", "ps")
    yield line.row("ps --host, the link is held", interleaved(sizes.cold, lambda: _whole(ps), peer), line.target(1))
    if line.lose is not None:
        line.lose(LOSS)
        yield line.row(f"open -m, the link is held, {LOSS:.0%} loss", interleaved(sizes.times, held, peer))
        line.lose(0)


def _beside(sizes: Sizes, line: _Line, mitogen: str) -> Iterator[Row]:
    for name, measure in peers.shapes(line.server, mitogen):
        if measure is None:
            yield Row(f"{name}, {line.name}", _SSH, 0, 0, "ms", note="not run: it cannot be installed here")
        else:
            yield line.row(name, interleaved(sizes.cold, measure, lambda: _whole(_ssh(line.server))))


# ---- lines ---------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _loopback(place: Place) -> Iterator[_Line]:
    with sshd(place.folder / "near") as server:
        yield _prepared(_Line("loopback", server, server.port, 0))


def _far(place: Place) -> AbstractContextManager[_Line]:
    return _packets(place) if delayline.usable() else _bytes(place)


@contextlib.contextmanager
def _packets(place: Place) -> Iterator[_Line]:
    with wan(ONE_WAY) as line, line.inside(), sshd(place.folder / "far", side=line.there()) as server:
        yield _prepared(_Line("100 ms", server, server.port, 2000 * ONE_WAY, line.loss, "namespaces"))


@contextlib.contextmanager
def _bytes(place: Place) -> Iterator[_Line]:
    with sshd(place.folder / "far") as server, tcp_line(server.port) as line:
        line.delay(ONE_WAY)
        server.known_hosts.write_text(f"[127.0.0.1]:{line.port} {public(server.host_key)}\n")
        server.configure(Port=str(line.port))
        yield _prepared(_Line("100 ms", server, line.port, 2000 * ONE_WAY, None, "TCP proxy"))


def _prepared(line: _Line) -> _Line:
    (line.server.home / "docs").mkdir()
    return line


# ---- what is measured, in ms ---------------------------------------------------------------------------------------------


def _ssh(server: Sshd, *more: str) -> list[str]:
    return ["ssh", "-F", server.config, *more, "there", "true"]


@contextlib.contextmanager
def _master(server: Sshd) -> Iterator[list[str]]:
    """Options for a connection that another one holds open."""
    path = str(server.folder / "master")
    with subprocess.Popen(["ssh", "-F", server.config, "-N", "-M", "-S", path, "there"], stdin=subprocess.DEVNULL) as process:
        try:
            end = time.monotonic() + PATIENCE
            while not os.path.exists(path) and time.monotonic() < end:
                time.sleep(0.01)
            yield ["-S", path]
        finally:
            process.terminate()


def _connected(line: _Line) -> float:
    began = time.perf_counter()
    with socket.create_connection((line.server.side.address, line.port), PATIENCE):
        return (time.perf_counter() - began) * 1000


def _linked() -> float:
    """From a daemon here that has just started to a link that stands."""
    with Client("bench") as client:
        began = time.perf_counter()
        client.request("link/open", {"machine": "there", "config": os.environ["OPAGENT_SSH_CONFIG"]})
        return (time.perf_counter() - began) * 1000


def _whole(argv: list[str]) -> float:
    """To the end."""
    began = time.perf_counter()
    subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return (time.perf_counter() - began) * 1000


def _first_line(argv: list[str]) -> float:
    """To the first line on stdout."""
    began = time.perf_counter()
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        took = time.perf_counter() - began
        process.stdout.read()
    assert b"hello" in line and process.returncode == 0, (line, process.returncode)
    return took * 1000


def _stop_there(server: Sshd) -> None:
    """The daemon there and what it started."""
    daemon = daemon_of(str(server.home))
    if daemon is None:
        return
    everybody = [daemon, *daemon.children(recursive=True)]
    daemon.terminate()
    psutil.wait_procs(everybody, timeout=PATIENCE)
