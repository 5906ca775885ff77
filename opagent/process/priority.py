"""Lets agents take the processor and the disk after everybody else: nice 5 and the idle class of I/O. Linux; ends nothing.

A nice value counts within a scheduling group; where the kernel makes one of each session (`sched_autogroup_enabled`), as desktops
have it, the group gets it, too. Nobody without privileges can take it back. (Design: security.md, "Resource limits".)
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
from collections.abc import Iterable

NICE = 5
_IDLE = 3 << 13  # IOPRIO_CLASS_IDLE, from linux/ioprio.h
_OF_GROUP = 2  # IOPRIO_WHO_PGRP
_IOPRIO_SET = {"x86_64": 251, "aarch64": 30}
_AUTOGROUP = "/proc/sys/kernel/sched_autogroup_enabled"


def lower(pids: Iterable[int]) -> None:
    """The process groups of these, with all their threads; what is there already, or gone, is left alone."""
    for pid in pids:
        with contextlib.suppress(OSError):
            group = os.getpgid(pid)
            if group == os.getpgrp():
                continue  # ours
            if os.getpriority(os.PRIO_PGRP, group) < NICE:
                os.setpriority(os.PRIO_PGRP, group, NICE)
                _idle(group)
            if _grouped():
                _lower_session(pid)


def _idle(group: int) -> None:
    """Without a wrapper in the C library. Where the kernel refuses, the level of I/O follows the nice value."""
    number = _IOPRIO_SET.get(platform.machine())
    if number is not None:
        ctypes.CDLL(None, use_errno=True).syscall(number, _OF_GROUP, group, _IDLE)


def _grouped() -> bool:
    try:
        with open(_AUTOGROUP) as file:
            return file.read(1) == "1"
    except OSError:
        return False


def _lower_session(pid: int) -> None:
    """The kernel takes ten of these a second (EAGAIN): the next look tries again."""
    with open(f"/proc/{pid}/autogroup", "r+") as file:
        if not file.read().rstrip().endswith(f"nice {NICE}"):
            file.seek(0)
            file.write(str(NICE))
