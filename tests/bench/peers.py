"""What other programs do to reach a machine: the connections, commands and bytes of Zed and Mutagen with the system's ssh; mitogen.

Of Zed and Mutagen this is the shape, not the code: how often they go there and back, and with how much.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.bench.place import PATIENCE
from tests.doubles.sshd import Sshd

_AGENT = 5 * 2**20  # bytes
_PROBES = ("uname -sm", "echo $SHELL", "test -e .", "true")
_GREETS = "#!/bin/sh\necho ready\nexec cat\n"  # never comes to what stands behind it
_MITOGEN = """\
import os, sys, time
import mitogen.utils

@mitogen.utils.run_with_router
def main(router):
    began = time.perf_counter()
    there = router.ssh(hostname="there", ssh_args=["-F", sys.argv[1]], python_path=sys.argv[2], check_host_keys="enforce")
    there.call(os.getpid)
    print((time.perf_counter() - began) * 1000)
"""


def shapes(server: Sshd, mitogen: str) -> Iterator[tuple[str, Callable[[], float] | None]]:
    """A name and what measures it once. `mitogen`: a Python that has it; without one there is nothing that measures it."""
    yield "Zed's shape: master, 4 probes, proxy, ping", lambda: zed(server)
    yield "Mutagen's shape: nothing there, 5 MB", lambda: mutagen(server)
    yield "Mutagen's shape: the agent is there", lambda: _timed(lambda: _greeted(_ssh(server, str(server.home / "agent"))))
    yield "mitogen: connect, first call", (lambda: mitogens(server, mitogen)) if mitogen else None


def zed(server: Sshd) -> float:
    """One connection that the others share."""
    path = str(server.folder / "zed")

    def work() -> None:
        with subprocess.Popen(_ssh(server, options=("-N", "-M", "-S", path)), stdin=subprocess.DEVNULL) as master:
            try:
                end = time.monotonic() + PATIENCE
                while not os.path.exists(path) and time.monotonic() < end:
                    time.sleep(0.005)
                for probe in _PROBES:
                    _run(_ssh(server, probe, options=("-S", path)))
                _greeted(_ssh(server, "echo ready; cat", options=("-S", path)))
            finally:
                master.terminate()

    return _timed(work)


def mutagen(server: Sshd) -> float:
    """A connection each: no agent, what system, the copy, its place, the agent."""
    found, made = server.home / "agent", server.folder / "agent"
    found.unlink(missing_ok=True)
    made.write_bytes(_GREETS.encode() + os.urandom(_AGENT))

    def work() -> None:
        _run(_ssh(server, f"{found} || true"))
        _run(_ssh(server, "uname -sm"))
        _run(["scp", "-q", "-F", server.config, str(made), f"there:{found}.new"])
        _run(_ssh(server, f"chmod 700 {found}.new && mv {found}.new {found}"))
        _greeted(_ssh(server, str(found)))

    return _timed(work)


def mitogens(server: Sshd, python: str) -> float:
    """As it measures itself."""
    said = subprocess.run([python, "-c", _MITOGEN, server.config, sys.executable], capture_output=True, text=True, check=True)
    return float(said.stdout)


def with_mitogen(folder: Path) -> str:
    """A Python of its own, or an empty text where it cannot be installed. To be called where a registry is reached."""
    python = str(folder / "mitogen/bin/python")
    try:
        _run([sys.executable, "-m", "venv", str(folder / "mitogen")])
        _run([python, "-m", "pip", "install", "--quiet", "--retries=1", "--timeout=10", "mitogen"])
    except (OSError, subprocess.SubprocessError):
        return ""
    return python


def _ssh(server: Sshd, *words: str, options: tuple[str, ...] = ()) -> list[str]:
    return ["ssh", "-F", server.config, *options, "there", *words]


def _greeted(argv: list[str]) -> None:
    """To the answer to the first word said to it."""
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.stdin.write(b"ping\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"ping\n"
        process.kill()  # how it leaves is not measured


def _run(argv: list[str]) -> None:
    quiet = subprocess.DEVNULL
    subprocess.run(argv, stdin=quiet, stdout=quiet, stderr=quiet, check=True, timeout=PATIENCE)


def _timed(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000
