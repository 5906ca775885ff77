"""A wide line to another machine: real packets with delay and loss, a namespace for each side. Where that cannot be had: `tcpline.py`.

::

    with wan(0.05) as line, line.inside(), sshd(folder, side=line.there()) as server:
        ...  # the client is on one side, the server on the other, 100 ms there and back
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.doubles import delayline
from tests.doubles.sshd import Side

_ROOT = Path(__file__).resolve().parents[2]


class Wan:
    """`delay` in seconds, each way."""

    def __init__(self, delay: float) -> None:
        words = [sys.executable, "-m", "tests.doubles.delayline"]
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=_ROOT)
        assert self._process.stdout is not None
        numbers = json.loads(self._process.stdout.readline())["namespaces"]
        self._spaces = [f"/proc/{self._process.pid}/fd/{number}" for number in numbers]
        self._do("delay", delay)

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """This thread, and what it starts, is on the client's side meanwhile."""
        before, space = delayline.here(), os.open(self._spaces[0], os.O_RDONLY | os.O_CLOEXEC)
        try:
            delayline.enter(space)
            yield
        finally:
            delayline.enter(before)
            os.close(space)
            os.close(before)

    def there(self) -> Side:
        """Where a server of the other side runs."""
        return Side(delayline.ADDRESSES[1], ("nsenter", f"--net={self._spaces[1]}"))

    def loss(self, share: float) -> None:
        """Of the packets, each way: 0.01 is one in a hundred."""
        self._do("loss", share)

    def rate(self, bits: int) -> None:
        """Bits a second, each way; 0: no limit."""
        self._do("rate", bits)

    def black_hole(self) -> None:
        """No packet arrives, and nobody is told."""
        self._do("hole", 1)

    def mend(self) -> None:
        self._do("hole", 0)

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def _do(self, name: str, value: float) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{name} {value}\n".encode())
        self._process.stdin.flush()
        self._process.stdout.readline()


@contextlib.contextmanager
def wan(delay: float) -> Iterator[Wan]:
    """Only where `delayline.usable()`."""
    line = Wan(delay)
    try:
        yield line
    finally:
        line.close()
