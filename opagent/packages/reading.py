"""The program in which a runtime's importer reads sessions of another tool: a process of its own, for they are a stranger's.

    python -I reading.py IMPORTER find DIRECTORY     the sessions of a directory, one JSON object a line
    python -I reading.py IMPORTER read FILE [ID]     what one session holds; exit status 3: FILE is none of this tool

It uses the standard library only, so that it starts quickly and from anywhere. An importer is a file of the runtime's folder
with three functions, each of which gets a `Files`::

    find(files, directory)  -> Iterator[{"id", "file", "title", "at"}]
    mine(files, path)       -> bool
    read(files, path, id)   -> Iterator of records (docs/guides/bring-conversations.md)
"""

from __future__ import annotations

import glob
import importlib.util
import json
import os
import resource
import stat
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

MEMORY, SECONDS, WRITTEN = 2 << 30, 120, 1 << 20  # bytes, of the processor, bytes of a file
LARGEST_LINE = 32 << 20  # bytes; a longer one is passed over
LONGEST_TEXT = 1 << 20  # characters
NOT_MINE = 3  # exit status


class Files:
    """How an importer looks at files: regular ones only, bad records passed over and counted, times in one form."""

    def __init__(self) -> None:
        self.home = os.path.expanduser("~")
        self._bad: dict[str, int] = {}  # path -> records of it that could not be read

    @property
    def passed_over(self) -> int:
        return sum(self._bad.values())

    def directory(self, variable: str, *default: str) -> str:
        """The one that an environment variable names, else one below the home directory."""
        return os.environ.get(variable) or os.path.join(self.home, *default)

    def newest(self, *patterns: str, limit: int = 2000) -> list[str]:
        """Regular files that fit a glob pattern, the one that changed last first."""
        found = {path for pattern in patterns for path in glob.glob(pattern)}
        dated = sorted(((self.changed(path), path) for path in found if self._regular(path)), reverse=True)
        return [path for _, path in dated[:limit]]

    def changed(self, path: str) -> float:
        try:
            return os.stat(path).st_mtime
        except OSError:
            return 0.0

    def lines(self, path: str, limit: int = 0) -> Iterator[dict[str, Any]]:
        """The JSON objects of a file that has one a line; at most the first `limit` lines, where that is not 0."""
        count = 0
        self._bad[path] = 0  # again from the start
        with self.open(path) as file:
            while line := file.readline(LARGEST_LINE):
                count += 1
                if record := self.parse(line, path):
                    yield record
                while line and not line.endswith(b"\n"):  # the rest of one that is too long
                    line = file.readline(LARGEST_LINE)
                if count == limit:
                    return

    def load(self, path: str) -> dict[str, Any]:
        """The one JSON object that a file is; empty where it is none."""
        try:
            with self.open(path) as file:
                return self.parse(file.read(LARGEST_LINE), path)
        except OSError:
            return {}

    def parse(self, content: bytes | str, path: str) -> dict[str, Any]:
        """A JSON object; empty, and counted for the path, where it is none. Very deep ones are none."""
        try:
            record = json.loads(content) if content.strip() else {}
        except (ValueError, RecursionError):
            record = None
        if isinstance(record, dict):
            return record
        self._bad[path] = self._bad.get(path, 0) + 1
        return {}

    def open(self, path: str) -> Any:
        """A regular file for reading bytes; nothing that could block. Raises OSError."""
        file = open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")  # noqa: SIM115  # the caller's
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            file.close()
            raise OSError(f"{path} is not a regular file")
        return file

    def _regular(self, path: str) -> bool:
        try:
            return stat.S_ISREG(os.stat(path).st_mode)
        except OSError:
            return False

    def when(self, value: object) -> str:
        """A time as ISO 8601, from ISO 8601 or milliseconds; empty for anything else."""
        try:
            if isinstance(value, int | float):
                moment = datetime.fromtimestamp(value / 1000, UTC)
            else:
                moment = datetime.fromisoformat(str(value)).astimezone(UTC)
        except (ValueError, OverflowError, OSError):
            return ""
        return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def _limit() -> None:
    for what, most in ((resource.RLIMIT_AS, MEMORY), (resource.RLIMIT_CPU, SECONDS), (resource.RLIMIT_FSIZE, WRITTEN)):
        hard = resource.getrlimit(what)[1]
        resource.setrlimit(what, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _importer(path: str) -> Any:
    spec = importlib.util.spec_from_file_location("importer", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _cut(value: Any) -> Any:
    """Long texts at any depth cut: what is shown of them in a conversation is less."""
    if isinstance(value, str):
        return value if len(value) <= LONGEST_TEXT else value[:LONGEST_TEXT] + "…"
    if isinstance(value, dict):
        return {str(key): _cut(each) for key, each in value.items()}
    return [_cut(each) for each in value] if isinstance(value, list) else value


def _say(record: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(_cut(record)) + "\n")


def main(path: str, verb: str, target: str, ident: str = "") -> int:
    _limit()
    importer, files = _importer(path), Files()
    if verb == "find":
        for found in importer.find(files, target):
            _say(found)
        return 0
    if not importer.mine(files, target):
        return NOT_MINE
    for record in importer.read(files, target, ident):
        _say(record)
    if files.passed_over:
        _say({"passed_over": files.passed_over})
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:]))
    except BrokenPipeError:
        os._exit(1)
    except Exception as error:  # the outer edge of the process: whoever waits gets one line
        sys.stderr.write(f"{type(error).__name__}: {error}\n"[:500])
        sys.exit(1)
