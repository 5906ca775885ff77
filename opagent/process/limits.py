"""What an agent may use of the machine: numbers of the binding, words for `prlimit`; watches nothing and kills nothing."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from opagent.process.profile import Limits

PRLIMIT = ("/usr/bin/prlimit", "/bin/prlimit")  # of util-linux; nobody's PATH decides which


def of(binding: Mapping[str, Any]) -> Limits:
    """The `limits:` of a binding, with the defaults where it says nothing."""
    names = {name: int(binding[name]) for name in Limits.__dataclass_fields__ if name in binding}
    return Limits(**names)


def present() -> str:
    """The program that sets limits, or "" where there is none."""
    return next((path for path in PRLIMIT if os.access(path, os.X_OK)), "")


def prefix(limits: Limits, program: str) -> tuple[str, ...]:
    """What stands before the agent's argv. Set *inside* a user namespace: one that counts before keeps bwrap from making it."""
    if not program:
        return ()
    wanted = {"nproc": limits.processes, "data": limits.memory, "fsize": limits.file, "nofile": limits.files}
    return (program, *(f"--{name}={number}" for name, number in wanted.items() if number), "--core=0")
