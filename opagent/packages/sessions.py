"""Sessions that other programs kept, through the importers of their runtimes; each runs in a process of its own.

API: `found`, `read`, `Session`, `importers`.

What they read is a stranger's, and so is what they say: it is JSON objects, limited in number, size and time, and nothing
else about it is believed here.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opagent import files
from opagent.errors import FileRefused, OpAgentError
from opagent.model import RuntimeSpec
from opagent.packages import catalog
from opagent.packages.reading import NOT_MINE

LONGEST = 180.0  # seconds for one importer
MOST = 256 << 20  # bytes that one may say
_PROGRAM = str(Path(__file__).with_name("reading.py"))


@dataclass(frozen=True, slots=True)
class Session:
    """One that can be imported. `at`: when something happened in it last, ISO 8601 or empty."""

    runtime: RuntimeSpec
    id: str
    file: str
    title: str
    at: str


def importers() -> list[RuntimeSpec]:
    """The runtimes whose sessions can be read; a description that cannot be used is passed over."""
    specs = []
    for name in catalog.names():
        try:
            specs.append(catalog.find(name))
        except OpAgentError:
            continue
    return [spec for spec in specs if spec.sessions]


def found(directory: str) -> tuple[list[Session], list[str]]:
    """The sessions of a directory, the newest first, and what could not be read."""
    sessions: list[Session] = []
    problems: list[str] = []
    for spec in importers():
        try:
            with closing(_said(spec, "find", directory)) as records:
                sessions += [session for record in records if (session := _session(spec, record)) is not None]
        except FileRefused as error:
            problems.append(str(error))
    return sorted(sessions, key=lambda session: session.at, reverse=True), problems


def read(path: str, session: Session | None = None) -> Iterator[tuple[RuntimeSpec, dict[str, Any]]]:
    """What a session says, from the importer that knows the file. Raises FileRefused."""
    for spec in [session.runtime] if session else importers():
        try:
            with closing(_said(spec, "read", path, session.id if session else "")) as records:
                for record in records:
                    yield spec, record
            return
        except _NotMine:
            continue
    known = ", ".join(spec.title for spec in importers())
    raise FileRefused(
        f"{path} is no session that can be read", f"known are sessions of {known}", "opagent conversations import --list"
    )


class _NotMine(Exception):
    """The file is none of this importer's."""


def _session(spec: RuntimeSpec, record: dict[str, Any]) -> Session | None:
    ident, file, title, at = (record.get(key) for key in ("id", "file", "title", "at"))
    if isinstance(ident, str) and isinstance(file, str) and isinstance(title, str) and isinstance(at, str):
        return Session(spec, ident, file, title, at)
    return None


def _said(spec: RuntimeSpec, *words: str) -> Generator[dict[str, Any], None, None]:
    """The objects that an importer prints. Its process is gone when this is closed. Raises FileRefused, _NotMine."""
    importer = _importer(spec)
    names = ("HOME", "LANG", "LC_ALL", *spec.sessions.get("env", ()))
    env = {name: os.environ[name] for name in names if name in os.environ}
    argv = [sys.executable, "-I", "-S", "-B", _PROGRAM, importer, *words]
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, env=env, start_new_session=True
        )
        try:
            assert process.stdout is not None
            for line in _lines(process.stdout.fileno(), time.monotonic() + LONGEST, spec.title):
                if isinstance(record := _parsed(line), dict):
                    yield record
            status = process.wait(LONGEST)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            if process.stdout is not None:
                process.stdout.close()
        if status == NOT_MINE:
            raise _NotMine
        if status:
            errors.seek(0)
            why = errors.read(500).decode("utf-8", "replace").strip() or f"it ended with {status}"
            raise FileRefused(f"a session of {spec.title} cannot be read", why, f"less {spec.package}/README.md")


def _importer(spec: RuntimeSpec) -> str:
    path = os.path.join(spec.package, spec.sessions["read"])
    try:
        problem = None if spec.source == "bundled" else files.owner_problem(path, os.stat(path))
    except OSError as error:
        problem = error.strerror or str(error)
    if problem:
        raise FileRefused(f"{path} is not used", problem, f"ls -l {path}")
    return path


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _lines(fd: int, deadline: float, title: str) -> Iterator[bytes]:
    """Lines as they come. Raises FileRefused where there are too many of them or the time is over."""
    left = MOST
    held: list[bytes] = []
    while select.select([fd], [], [], max(0.0, deadline - time.monotonic()))[0]:
        part = os.read(fd, 1 << 20)
        left -= len(part)
        if left < 0:
            raise FileRefused(f"a session of {title} is too large", f"more than {MOST >> 20} MiB of text")
        *lines, rest = part.split(b"\n")
        for line in lines:
            yield b"".join((*held, line))
            held = []
        held.append(rest)
        if not part:
            return
    raise FileRefused(f"a session of {title} cannot be read", f"it took more than {LONGEST:g} s")
