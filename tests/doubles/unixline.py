"""A Unix socket that leads to another one until it is cut: the link to another machine, as a mirror sees it. In threads of the test."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

_BLOCK = 1 << 16


class UnixLine:
    def __init__(self, path: Path, target: Path) -> None:
        self.path, self._target = path, target
        self._up = True
        self._word = b""  # cut when it has passed
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._lock = threading.Lock()
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen(16)
        self._thread = threading.Thread(target=self._accept, name="unixline")
        self._thread.start()

    def cut(self) -> None:
        """Every connection ends at once, in the middle of whatever it carries; new ones are taken."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for end in pair:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def down(self) -> None:
        """Cut, and who comes is turned away."""
        self._up = False
        self.cut()

    def up(self) -> None:
        self._up = True

    def lose_answer(self, word: bytes) -> None:
        """The next request that holds the word arrives; then the line is down, so that its answer does not come."""
        self._word = word

    def close(self) -> None:
        self.down()
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listening.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                threading.Thread(target=self._carry, args=(near,), daemon=True).start()

    def _carry(self, near: socket.socket) -> None:
        with near, socket.socket(socket.AF_UNIX) as far, contextlib.suppress(OSError):
            if self._up:
                far.connect(str(self._target))
                with self._lock:
                    self._pairs.append((near, far))
                while all(self._passed(one, near, far) for one in select.select([near, far], [], [])[0]):
                    pass

    def _passed(self, one: socket.socket, near: socket.socket, far: socket.socket) -> bool:
        """Whether the connection goes on."""
        data = one.recv(_BLOCK)
        (far if one is near else near).sendall(data)
        if one is near and self._word and self._word in data:
            self._word, self._up = b"", False
            return False
        return bool(data)


@contextlib.contextmanager
def unix_line(path: Path, target: Path) -> Iterator[UnixLine]:
    line = UnixLine(path, target)
    try:
        yield line
    finally:
        line.close()
