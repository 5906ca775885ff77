"""A line from the person at the terminal, while a connection is watched as well. Decides nothing."""

from __future__ import annotations

import os
import select
import sys
import termios

END = "\x04"  # what a terminal that is gone says


def forget_typed() -> None:
    """What was typed before a question is no answer to it."""
    termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)


def line_or_traffic(connection: int, timeout: float | None) -> str | None:
    """A whole line without its end, `END` at the end of the terminal; None when the connection has something to read
    first or the time, in seconds, is over."""
    fd = sys.stdin.fileno()
    readable, _, _ = select.select([fd, connection], [], [], timeout)
    if fd not in readable:
        return None
    typed = os.read(fd, 4096).decode(errors="replace")  # a terminal gives one line at a time
    return typed.strip() if typed else END
