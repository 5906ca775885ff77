"""Who runs inside a box that is a process of its own, and how it ended: what `bwrap --json-status-fd` says; ends nothing.

The box's process starts an init, which leads a session of its own, and the init starts the program. For a program without such a
box all of this is the program itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
from typing import Any

from opagent.process import tree

_ESCAPED = re.compile(rb"\\([0-7]{3})")  # a blank, a tab, a line feed and a backslash


class Inside:
    """`pid`: of the process that was started; `status`: the reading end of the pipe, not blocking, or -1."""

    def __init__(self, pid: int, status: int) -> None:
        self._pid, self._status = pid, status
        self._boxed = status >= 0
        self._said = b""
        self._program = 0

    def program(self) -> int:
        """The pid of the program, 0 as long as there is none, or no box."""
        if not self._program and (init := self.group()):
            with contextlib.suppress(OSError, ValueError, IndexError), open(f"/proc/{init}/task/{init}/children") as file:
                self._program = int(file.read().split()[0])
        return self._program

    def group(self) -> int:
        """The group that a signal for the program goes to, 0 as long as there is none, or no box."""
        init = self._facts().get("child-pid", 0)
        row = tree.row(init) if init else None
        return init if row is not None and row.parent == self._pid and row.group == init else 0

    def mounted(self) -> frozenset[str]:
        """Where something is mounted, as the program sees it; nothing without a box, or when it is gone."""
        init = self.group()
        try:
            with open(f"/proc/{init}/mountinfo", "rb") as file:
                rows = file.read().splitlines() if init else []
        except OSError:
            return frozenset()
        return frozenset(os.fsdecode(_ESCAPED.sub(lambda found: bytes([int(found[1], 8)]), row.split(b" ")[4])) for row in rows)

    def ran(self) -> bool:
        """Whether the program was started at all, once it is over."""
        return not self._boxed or "exit-code" in self._facts()

    def end(self, status: int) -> tuple[int | None, int | None]:
        """The exit status of the box as (code, signal) of the program: 128 and more stands for a signal, as in a shell."""
        number = status - 128
        if self._boxed and number in signal.valid_signals() and number:
            return None, number
        return status, None

    def close(self) -> None:
        if self._status >= 0:
            os.close(self._status)
            self._status = -1

    def _facts(self) -> dict[str, Any]:
        """All that was said so far; nothing for a line that is not whole yet."""
        with contextlib.suppress(BlockingIOError):
            while self._status >= 0 and (data := os.read(self._status, 4096)):
                self._said += data
        facts: dict[str, Any] = {}
        for line in self._said.split(b"\n"):
            with contextlib.suppress(ValueError):
                facts |= json.loads(line)
        return facts
