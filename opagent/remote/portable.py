"""Where a portable Python for another machine comes from: an archive that was named, or what `uv` fetches here for its system.

Copied there by `remote/pythons.py`, and only where no Python fits and somebody wants it: who added the machine, or the person at
the terminal.
"""

from __future__ import annotations

import asyncio
import gzip
import os
import shutil
import tarfile
import tempfile
import time
from pathlib import Path

from opagent import files, paths
from opagent.errors import HostUnfit
from opagent.remote import pipes, stage0
from opagent.remote.pythons import push_python
from opagent.remote.seam import Ask, Connection, Phase, Question, Tell

AUTO = "auto"
SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tar.zst")
VERSION = "3.13"  # what uv is asked for
FETCHES_WITHIN = 900.0  # seconds

# as uv names them: CPython is built for these (https://docs.astral.sh/uv/concepts/python-versions/)
_SYSTEMS = {"Linux": "linux", "Darwin": "macos"}
_MACHINES = {
    "x86_64": "x86_64", "amd64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64", "armv7l": "armv7", "ppc64le": "powerpc64le",
    "riscv64": "riscv64gc", "s390x": "s390x",
}  # fmt: skip
_UV_PLACES = ("~/.local/bin/uv", "~/.cargo/bin/uv", "/opt/homebrew/bin/uv", "/usr/local/bin/uv")
# what no daemon needs, by its path below the Python's directory
_LEFT_OUT = (
    "include", "share", "lib/pkgconfig", "lib/tcl*", "lib/tk*", "lib/itcl*", "lib/thread*", "lib/*.a", "lib/python3.*/config-*",
    *(f"lib/python3.*/{name}" for name in ("ensurepip", "idlelib", "lib2to3", "site-packages", "test", "tkinter", "turtledemo")),
)  # fmt: skip
_TRIES = 3


class Portable:
    """For one machine. `source`: `auto`, the path of an archive here, or "": then only the person can want one."""

    def __init__(self, name: str, source: str, ask: Ask) -> None:
        self._name, self._source, self._ask = name, source, ask

    async def bring(self, connection: Connection, tell: Tell, lacking: HostUnfit, system: str) -> str:
        """The interpreter there, after `lacking` was found on it. `system`: its `uname -sm`, and a third word where it has musl.

        Raises `lacking` when nobody wants one there, else HostUnfit, Usage, HostUnreachable and its kinds.
        """
        if not self._source:
            await self._wanted(lacking, system)
        archive = Path(self._source) if is_archive(self._source) else await self._fetched(lacking, system, tell)
        python = await push_python(connection, archive, tell, self._name)
        if not stage0.speakable(python):
            what = f"the Python that is on {self._name} now cannot be started"
            raise HostUnfit(what, f"its path holds a quote or another special character: {python}", "set XDG_CACHE_HOME there")
        return python

    async def _wanted(self, lacking: HostUnfit, system: str) -> None:
        """Returns when the person says yes; they are asked only where one can be had at once."""
        asked = named(system)
        if not asked or not (_kept(asked).exists() or uv()):
            raise lacking
        how = "" if _kept(asked).exists() else "\n`uv` fetches it to this machine first."
        text = f"{lacking}.\nCopy a portable one there? It is about 30 MB, and lies beside our code.{how} (yes, no) "
        for _ in range(_TRIES):
            answer = await self._ask(Question("confirm", text))
            if answer is None or answer.strip().lower() in ("", "no", "n"):
                break
            if answer.strip().lower() in ("yes", "y"):
                return
            text = "Please answer yes or no."
        raise lacking

    async def _fetched(self, lacking: HostUnfit, system: str, tell: Tell) -> Path:
        """By uv, once; kept here for other machines of that kind."""
        asked, other = named(system), f"opagent host add {self._name} --python ARCHIVE"
        if not asked:
            raise HostUnfit(f"uv has no Python for {self._name}", f"{system or 'unknown system'}; {lacking.why}", other)
        kept = _kept(asked)
        if kept.exists():
            return kept
        program = uv()
        if program is None:
            why = f"{lacking.why}; `--python auto` lets uv fetch one, and there is no uv on this machine"
            raise HostUnfit(lacking.what, why, f"pipx install uv, or {other}")
        tell(Phase("fetching", "Python"))
        folder = await asyncio.to_thread(_room, kept.parent)
        try:
            await _install(program, asked, folder)
            await asyncio.to_thread(_keep, Path(folder), kept)
        except (OSError, TimeoutError) as error:
            raise HostUnfit(f"uv gave no Python for {self._name}", f"{asked}: {error}", other) from error
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        return kept


def is_archive(text: str) -> bool:
    """Whether it names an archive here; anything else is the path of a program there."""
    return text.lower().endswith(SUFFIXES)


def named(system: str) -> str:
    """What uv calls the Python for it; "" where there is none."""
    words = (*system.split(), "", "")
    kind, machine = _SYSTEMS.get(words[0], ""), _MACHINES.get(words[1], "")
    if not kind or not machine:
        return ""
    library = "none" if kind == "macos" else "musl" if words[2] else "gnu"
    return f"cpython-{VERSION}-{kind}-{machine}-{library}{'eabihf' if machine == 'armv7' else ''}"


def uv() -> str | None:
    """The program, also where a daemon's PATH does not lead."""
    return shutil.which("uv") or next(filter(None, (shutil.which(os.path.expanduser(place)) for place in _UV_PLACES)), None)


def _kept(asked: str) -> Path:
    return paths.python_archives() / f"{asked}.tar.gz"


def _room(above: Path) -> str:
    """A directory to install into. What a daemon left that was killed meanwhile goes."""
    files.private_directory(above)
    for left in above.glob(".tmp-*"):
        if left.stat().st_mtime < time.time() - 2 * FETCHES_WITHIN:
            shutil.rmtree(left, ignore_errors=True)
    return tempfile.mkdtemp(prefix=".tmp-", dir=above)


async def _install(program: str, asked: str, folder: str) -> None:
    """Raises OSError with what uv said, TimeoutError."""
    more = {"UV_PYTHON_INSTALL_DIR": folder, "UV_PYTHON_INSTALL_BIN": "0", "UV_NO_PROGRESS": "1", "NO_COLOR": "1"}
    argv = [program, "python", "install", "--install-dir", folder, asked]
    try:
        _, ended = await pipes.output(argv, FETCHES_WITHIN, {**os.environ, **more})
    except TimeoutError:
        raise TimeoutError(f"uv was not done within {FETCHES_WITHIN:g} s") from None
    if ended.status != 0:
        said = " ".join(ended.stderr.decode(errors="replace").split())
        raise OSError(f"uv ended with status {ended.status}: {said[-400:] or 'without a word'}")


def _keep(folder: Path, kept: Path) -> None:
    """What uv put into the folder, packed. Raises OSError."""
    found = [path.parent.parent for path in sorted(folder.glob("*/bin/python3")) if not path.parent.parent.is_symlink()]
    if not found:
        raise FileNotFoundError("uv ended well, and there is no bin/python3 in what it made")
    temporary = folder / "packed"
    pack(found[0], temporary)
    temporary.replace(kept)


def pack(python: Path, into: Path) -> None:
    """A Python's directory as an archive, without what a daemon never needs; the same bytes for the same files."""
    left_out = {path for pattern in _LEFT_OUT for path in python.glob(pattern)}

    def member(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
        path = python / info.name.removeprefix("python").lstrip("/")
        scripts = path.parent == python / "bin" and not path.name.startswith("python3")
        if path in left_out or path.name == "__pycache__" or scripts:
            return None
        info.uid = info.gid = info.mtime = 0
        info.uname = info.gname = ""
        return info

    with (
        into.open("wb") as raw,
        gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as archive,
    ):
        archive.add(python, "python", filter=member)
