"""The tables of concepts/limits.md and concepts/landlock.md, from the limits and the gaps that the code knows."""

from __future__ import annotations

from dataclasses import fields

from docpages.page import code, table
from opagent.process import bounds as held
from opagent.process import gaps as known
from opagent.process.profile import Level, Limits

WHAT = {
    "processes": "processes and threads at once",
    "memory": "memory",
    "file": "one file that is written",
    "files": "open files of a process",
    "tmp": "each of `/tmp`, `/dev/shm` and the home directory",
    "disk": "growth of the directory in a conversation",
    "ports": "TCP ports that it listens on at once",
}


def limits() -> str:
    """Every key of `limits:` with its default, and how each level holds it."""
    return table(
        ("key", "of", "default", *(code(level.value) for level in Level)),
        (
            (
                code(f"limits.{field.name}"),
                WHAT[field.name],
                _default(field.name),
                *(held.applied(field.name, level) for level in Level),
            )
            for field in fields(Limits)
        ),
    )


def _default(name: str) -> str:
    value = getattr(Limits(), name)
    return str(value) if name in ("processes", "files", "ports") else held.size(value)


def gaps() -> str:
    """What is open at level `landlock` whatever the kernel."""
    return table(("name", "what is not stopped"), ((code(gap.code), gap.sentence) for gap in (*known.ALWAYS, *known.SOMETIMES)))


def versions() -> str:
    """What older kernels lack."""
    return table(("version below", "then"), ((str(version), words) for version, words in known.LACKS.items()))
