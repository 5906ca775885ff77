"""The archive of this package and of what it imports, as it is put on other machines. Made from what is installed here.

The same installation gives the same bytes. Compiled parts, the command line and its libraries
(click, prompt_toolkit, rich), and asyncssh are not in it.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import importlib.util
import io
import json
import lzma
import os
import re
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from opagent import files, paths
from opagent.errors import Bug
from opagent.remote import order, place

PACKAGES = {  # import name -> distribution
    "fastjsonschema": "fastjsonschema",
    "markdown_it": "markdown-it-py",
    "mdurl": "mdurl",
    "watchdog": "watchdog",
    "yaml": "pyyaml",
}
FORMS = ("xz", "gz", "tar")  # best first
_CACHE_LIMIT = 16 * 2**20
_LATER = ("opagent/_bundled/", "opagent/remote/", "licenses/")  # a daemon that starts needs none of them at once
# of theirs: programs, and what only another system could use that gets no compiled part from us either
_UNUSED = re.compile(
    r"(fastjsonschema|watchdog)/__main__\.py|markdown_it/cli/.*|yaml/cyaml\.py|watchdog/(tricks/.*|watchmedo\.py)"
    r"|watchdog/observers/(fsevents2?|read_directory_changes|winapi)\.py|watchdog/utils/(echo|event_debouncer|process_watcher)\.py"
)
_LEFT_OUT = ("_bundled", "cli")  # of our package: the first comes by its own name, nobody there is at a terminal

# The root of the archive, so that `python -I -S DIRECTORY -m MODULE` runs a module of it and of the standard library alone.
# The lock shows that the directory is in use.
ENTRY = """\
import fcntl, os, runpy, sys

if len(sys.argv) < 3 or sys.argv[1] != "-m":
    sys.exit("usage: python -I -S DIRECTORY -m MODULE ...")
in_use = os.open(os.path.join(sys.path[0], ".ok"), os.O_RDONLY)
try:
    fcntl.flock(in_use, fcntl.LOCK_SH | fcntl.LOCK_NB)
except OSError:
    pass
del sys.argv[:2]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


@dataclass(frozen=True, slots=True)
class Payload:
    """`data`: the archive as xz; `digest`: SHA-256 of the archive itself, whatever the form it travels in."""

    data: bytes
    digest: str

    def packed(self, understood: list[str]) -> tuple[str, bytes]:
        """The best form that the other side understands, and its bytes."""
        form = next((form for form in FORMS if form in understood), "tar")
        if form == "xz":
            return form, self.data
        archive = lzma.decompress(self.data)
        return form, zlib.compress(archive, 9) if form == "gz" else archive


@functools.cache
def payload() -> Payload:
    """Of the running installation; made once, and kept in the state directory until a file of it changes."""
    found = list(_sources())
    stamp = _stamp(found)
    cached = paths.payload_cache()
    with contextlib.suppress(OSError, ValueError, KeyError):
        head, _, data = files.read_file(cached, _CACHE_LIMIT).partition(b"\n")
        known = json.loads(head)
        if known["stamp"] == stamp and known["sha256"] == hashlib.sha256(data).hexdigest():
            return Payload(data, str(known["digest"]))
    made = pack({name: path.read_bytes() for name, path in found})
    _keep(cached, stamp, made)
    return made


def pack(contents: dict[str, bytes]) -> Payload:
    """The archive of these files; the entry is added.

    In the order in which a daemon needs them: they are compiled there while the rest is on its way.
    """
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        everything = {**contents, place.LAST: ENTRY.encode()}
        for name in _ordered(everything):
            data = everything[name]
            member = tarfile.TarInfo(name)
            member.size, member.mode, member.mtime = len(data), 0o644, 0
            archive.addfile(member, io.BytesIO(data))
    digest = hashlib.sha256(raw.getvalue()).hexdigest()
    return Payload(lzma.compress(raw.getvalue(), preset=6), digest)


def _ordered(contents: dict[str, bytes]) -> list[str]:
    first = dict.fromkeys(order.needed(contents))
    return [*first, place.LAST, *sorted(contents.keys() - first - {place.LAST}, key=_when)]


def _when(name: str) -> tuple[bool, bool, str]:
    return name.startswith(_LATER), not name.startswith("opagent/"), name


def _sources() -> Iterator[tuple[str, Path]]:
    """Every file: its name in the archive, and where it lies here."""
    ours = Path(paths.__file__).resolve().parent
    yield from _below(ours, "opagent", skip=_LEFT_OUT)
    for name, folder in (("runtimes", paths.bundled_runtimes()), ("workspaces", paths.bundled_workspaces())):
        yield from _below(folder, f"opagent/_bundled/{name}")
    for package, distribution in PACKAGES.items():
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise Bug(f"{package} is not installed as a package", "it is a part of what other machines are given")
        every = _below(Path(spec.submodule_search_locations[0]), package, only=".py")
        yield from ((name, path) for name, path in every if not _UNUSED.fullmatch(name))
        yield from _licences(distribution)


def _below(folder: Path, name: str, only: str = "", skip: tuple[str, ...] = ()) -> Iterator[tuple[str, Path]]:
    for directory, folders, names in os.walk(folder):
        folders[:] = sorted(set(folders) - {"__pycache__", "node_modules", *skip})
        for found in sorted(names):
            path = Path(directory) / found
            if found.endswith(only) and not found.endswith((".pyc", ".so")) and path.is_file():
                yield f"{name}/{path.relative_to(folder).as_posix()}", path


def _licences(distribution: str) -> Iterator[tuple[str, Path]]:
    """Whoever passes on a copy passes on its licence."""
    for file in importlib.metadata.files(distribution) or ():
        if "licen" in file.name.lower() and ".dist-info" in str(file):
            yield f"licenses/{distribution}/{file.name}", Path(str(file.locate()))


def _stamp(found: list[tuple[str, Path]]) -> str:
    total = hashlib.sha256(ENTRY.encode())
    for name, path in found:
        status = path.stat()
        total.update(f"{name} {status.st_size} {status.st_mtime_ns}\n".encode())
    return total.hexdigest()


def _keep(cached: Path, stamp: str, made: Payload) -> None:
    head = {"stamp": stamp, "digest": made.digest, "sha256": hashlib.sha256(made.data).hexdigest()}
    with contextlib.suppress(OSError):  # it is only slower without
        cached.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        files.write_whole(cached, json.dumps(head).encode() + b"\n" + made.data)
