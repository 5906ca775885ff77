"""Runs npm, pip and git, and tells their failures apart; that they execute nothing of a package is up to the caller's words."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from opagent.errors import DeadlinePassed, HashMismatch, InstallFailed, OpAgentError, RuntimeNotInstalled

_TAIL = 8192  # bytes of what a tool said
_LINES, _LONGEST = 6, 200
_FULL = re.compile(r"ENOSPC|EDQUOT|No space left|Disk quota", re.IGNORECASE)
_HASH = re.compile(
    r"EINTEGRITY|Z_DATA_ERROR|TAR_BAD_ARCHIVE|integrity checksum failed|DO NOT MATCH THE HASHES|BadZipFile|invalid wheel|CRC",
    re.I,
)
_MISSING = re.compile(r"E404|ETARGET|No matching distribution|couldn't find remote ref|not our ref|Repository not found", re.I)


@dataclass(frozen=True, slots=True)
class Part:
    """A package that was installed. `hash` as its tool writes it: sha512-... of npm, sha256:... else; "" where none is known."""

    name: str
    version: str
    hash: str


@dataclass(frozen=True, slots=True)
class Script:
    """What a package wants to be executed when it is installed."""

    package: str
    version: str
    event: str
    text: str

    def __str__(self) -> str:
        return f"{self.package} {self.version}: {self.event}: {self.text}"


@dataclass(frozen=True, slots=True)
class Fetched:
    """`scripts` were not run yet. `node`: the version of a private one."""

    version: str
    parts: tuple[Part, ...] = ()
    scripts: tuple[Script, ...] = ()
    node: str = ""
    programs: tuple[str, ...] = ()  # that the package offers
    python: str = ""  # the interpreter that runs them
    origin: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Tools:
    """`env`: the person's. `held`: kept open by whatever is started, so that its directory is not swept. Seconds."""

    env: Mapping[str, str]
    held: int
    timeout: float = 3600.0

    @property
    def search_path(self) -> str:
        return self.env.get("PATH", os.defpath)

    def find(self, name: str, hint: str) -> str:
        """Raises RuntimeNotInstalled."""
        found = shutil.which(name, path=self.search_path)
        if not found:
            raise RuntimeNotInstalled(f"{name} is needed to install this", f"{name} is not on PATH", hint)
        return found

    def first(self, *directories: Path) -> Tools:
        """The same with these directories before the others on PATH."""
        path = ":".join([*map(str, directories), self.search_path])
        return Tools({**self.env, "PATH": path}, self.held, self.timeout)

    def run(self, argv: Sequence[str], cwd: Path, tool: str = "", **more: str) -> str:
        """`tool`: what people call it. What it wrote to stdout. Raises InstallFailed, HashMismatch, DeadlinePassed."""
        tool = tool or os.path.basename(argv[0])
        clean = {name: value for name, value in self.env.items() if not name.startswith("OPAGENT_")}
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            child = subprocess.Popen(
                argv, cwd=cwd, env={**clean, **more}, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                pass_fds=(self.held,), start_new_session=True,
            )  # fmt: skip
            with _ended(child):
                try:
                    status = child.wait(self.timeout)
                except subprocess.TimeoutExpired as error:
                    why = f"{self.timeout:g} s are over"
                    raise DeadlinePassed(f"{tool} takes too long", why, "opagent runtime install --help") from error
            said = _read(out, 64 << 20)
            if status:
                raise failure(tool, _read(err, _TAIL) + "\n" + said[-_TAIL:], cwd)
            return said


@contextlib.contextmanager
def _ended(child: subprocess.Popen[bytes]) -> Iterator[None]:
    """Whatever happens, nothing of its group runs on."""
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def _read(file: object, limit: int) -> str:
    size = file.seek(0, os.SEEK_END)  # type: ignore[attr-defined]
    file.seek(max(0, size - limit))  # type: ignore[attr-defined]
    return str(file.read().decode("utf-8", "replace"))  # type: ignore[attr-defined]


def failure(tool: str, said: str, place: Path) -> OpAgentError:
    """What a tool complained about, in our words and the last of its own."""
    lines = [line.strip() for line in said.splitlines() if line.strip() and "complete log" not in line.lower()]
    why = "\n".join(line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…" for line in lines[:_LINES])
    if _FULL.search(said):
        return full(place)
    if _HASH.search(said):
        return HashMismatch("what was fetched is not what its hash says", why, "opagent runtime install, once more")
    if _MISSING.search(said):
        return InstallFailed(f"{tool} does not find it", why, "opagent runtime list")
    return InstallFailed(f"{tool} failed, and nothing was installed", why or "it said nothing", "opagent runtime install --help")


def full(place: Path) -> InstallFailed:
    return InstallFailed("the disk is full, and nothing was installed", "no space left", f"df -h {existing(place)}")


def existing(place: Path) -> Path:
    """The nearest directory that will still be there when the place is swept."""
    return next((each.parent for each in place.parents if each.name == ".staging"), place)


@contextlib.contextmanager
def translated(place: Path) -> Iterator[None]:
    """Errors of the disk as ours."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise full(place) from error
        raise InstallFailed("nothing was installed", str(error), f"ls -ld {existing(place)}") from error
