"""The catalogue of runtimes: which there are, where their folders lie, whether one can run here. It starts nothing."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
import stat
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from opagent import files, paths, yamlfile
from opagent.errors import BindingInvalid, FileRefused, RuntimeInvalid, RuntimeNotFound, RuntimeNotInstalled
from opagent.model import RuntimeSpec
from opagent.packages import description, tree, versions

FILE = "runtime.yaml"
MAX_BYTES = 64 * 1024
MAX_PACKAGE_FILES, MAX_PACKAGE_BYTES = 2_000, 64 * 1024 * 1024
MAX_LINKS = 40  # as the kernel
SOURCES = ("user", "installed", "bundled")  # the order of paths.runtime_directories()
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_BIN = ("bin", "node_modules/.bin", "node/node_modules/.bin")  # where an installed package has programs


@dataclass(frozen=True, slots=True)
class Entry:
    """A folder of the catalogue whose `runtime.yaml` was not read yet. `source` is user, installed or bundled."""

    name: str
    package: Path
    source: str
    version: str = ""  # of an installed one
    origin: str = ""
    described: bool = False  # by us or by the user, wherever the program comes from


def names() -> tuple[str, ...]:
    """Every name that `find` may know, sorted; no file is read."""
    found = {name for source, place in zip(SOURCES, paths.runtime_directories(), strict=True) for name in _folders(place, source)}
    return tuple(sorted(found))


def entries() -> tuple[Entry, ...]:
    """One entry per name, the one that wins, sorted by name."""
    found: dict[str, Entry] = {}
    for source, directory in zip(SOURCES, paths.runtime_directories(), strict=True):
        for name in _folders(directory, source):
            if name not in found:
                found[name] = _entry(name, directory / name, source)
    return tuple(found[name] for name in sorted(found))


def _entry(name: str, folder: Path, source: str) -> Entry:
    """The entry of a folder. A description of the user's own gives way to what was installed by it."""
    if source == "bundled" or not os.path.lexists(versions.home(name) / versions.ACTIVE):
        return Entry(name, folder, source)
    usual = versions.active(name).version
    if not usual:
        return Entry(name, folder, source)
    chosen = versions.read(name, usual)
    if source == "user" and chosen.lock.get("described") != str(folder):
        return Entry(name, folder, source)
    return entry_of(chosen)


def entry_of(chosen: versions.Installed) -> Entry:
    origin, described = str(chosen.lock.get("identity", "")), bool(chosen.lock.get("described"))
    return Entry(chosen.name, chosen.package, "installed", chosen.version, origin, described)


def find(name: str) -> RuntimeSpec:
    """The description of a runtime, from the first directory of the search path that has it; `name@1.18`: of that version.

    Raises RuntimeNotFound with the nearest names, RuntimeNotInstalled when no version of it fits, RuntimeInvalid when the
    first one found cannot be used.
    """
    name, at, wanted = name.partition("@")
    if _NAME.fullmatch(name):
        if at and (version := versions.matching(name, wanted)):
            return read(entry_of(versions.read(name, version)))
        for source, directory in zip(SOURCES, paths.runtime_directories(), strict=True):
            if _offers(directory / name, source):
                found = read(_entry(name, directory / name, source))
                if at and (found.install or not versions.fits(found.version, wanted)):
                    raise no_version(name, wanted)
                return found
    known = names()
    near = difflib.get_close_matches(name, known, 3, 0.5)
    why = f"near: {', '.join(near)}" if near else f"known: {', '.join(known)}"
    raise RuntimeNotFound(f"no runtime is named {name!r}", why, "opagent runtime list --all")


def described_by(name: str) -> Path | None:
    """The folder whose description says how a runtime is installed: the user's own, else the one that comes with us."""
    user, _, bundled = paths.runtime_directories()
    return next((place / name for place in (user, bundled) if os.path.lexists(place / name / FILE)), None)


def named_in(path: str) -> str:
    """The name that a runtime.yaml gives, wherever it lies; "" where it gives none. Raises RuntimeInvalid."""
    try:
        found = yamlfile.load(files.read_file(path, MAX_BYTES), path).value
    except (BindingInvalid, FileRefused) as error:
        raise RuntimeInvalid(error.what, error.why, f"$EDITOR {path}") from error
    name = found.get("name") if isinstance(found, dict) else None
    return name.value if name is not None and isinstance(name.value, str) else ""


def no_version(name: str, wanted: str) -> RuntimeNotInstalled:
    there = ", ".join(versions.of(name))
    why = f"installed are {there}" if there else "no version of it was installed by opagent"
    return RuntimeNotInstalled(
        f"no version {wanted} of the runtime {name} is installed", why, f"opagent runtime install {name}@{wanted}"
    )


def _offers(folder: Path, source: str) -> bool:
    return os.path.lexists(folder / FILE) or (source == "installed" and os.path.lexists(folder / versions.ACTIVE))


def read(entry: Entry) -> RuntimeSpec:
    """The description of one entry. Raises RuntimeInvalid."""
    path = entry.package / FILE
    try:
        content = files.read_file(path, MAX_BYTES)
        problem = None if entry.source == "bundled" else files.owner_problem(str(path), path.stat())
    except FileRefused as error:
        raise RuntimeInvalid(error.what, error.why, f"ls -l {path}") from error
    except OSError as error:
        raise RuntimeInvalid(f"{path} cannot be read", error.strerror or str(error), f"ls -l {path}") from error
    if problem:
        raise RuntimeInvalid(f"{path} may have been written by somebody else", problem, f"ls -l {path}")
    spec = description.read(content, entry.package, entry.source)
    if entry.source != "installed":
        return spec
    home = spec.from_home if entry.described else ()  # whoever made the program does not say what it gets of a person's home
    version = entry.version or spec.version
    return replace(spec, version=version, bin=programs_of(entry.package), origin=entry.origin, from_home=home)


def programs_of(package: Path) -> tuple[str, ...]:
    """The directories of an installed package that hold programs."""
    return tuple(str(package / name) for name in _BIN if (package / name).is_dir())


def startable(chosen: versions.Installed) -> RuntimeSpec:
    """The description of an installed version whose program is there. Raises RuntimeNotInstalled, RuntimeInvalid."""
    spec = read(entry_of(chosen))
    installed(spec, os.environ.get("PATH", os.defpath), (), "{state}")
    return spec


def _folders(directory: Path, source: str) -> Iterator[str]:
    try:
        found = sorted(os.listdir(directory))
    except OSError:
        return  # the directory is not there, or not ours to read: it offers nothing
    for name in found:
        if _NAME.fullmatch(name) and _offers(directory / name, source):
            yield name


def installed(spec: RuntimeSpec, search_path: str, workspaces: Sequence[str], state: str) -> tuple[str, ...]:
    """The argv that starts the runtime, everything substituted; its program is an absolute path.

    `search_path` is the person's PATH, `workspaces` are the real paths of all open workspaces: a program inside one is never
    taken, since an agent or a repository may have put it there. `state` is the directory that {state} stands for.
    Raises RuntimeNotInstalled with the command that installs it.
    """
    for name in spec.needs.get("files", ()):
        if not os.path.lexists(os.path.join(spec.package, name)):
            raise _missing(spec, f"its package has no {name} yet")
    words = " ".join(spec.command)
    values = {"package": spec.package, "python": sys.executable, "state": state}
    if "{node}" in words:
        values["node"] = _program(spec, "node", search_path, workspaces)
    for name in spec.needs.get("programs", ()):
        _program(spec, name, search_path, workspaces)
    pattern = re.compile("{(" + "|".join(description.PLACEHOLDERS) + ")}")
    program, *rest = (pattern.sub(lambda found: values[found[1]], word) for word in spec.command)
    return (_program(spec, program, search_path, workspaces), *rest)


def _program(spec: RuntimeSpec, name: str, search_path: str, workspaces: Sequence[str]) -> str:
    """The absolute path of a program: as given, or the first usable one on the search path."""
    if name == sys.executable:
        return name  # the interpreter that runs us, wherever it lies
    if name.startswith("/"):
        problem = _problem(name, () if _beneath(name, spec.package) else workspaces)
        if problem:
            raise _missing(spec, problem)
        return name
    why = f"{name} is not on PATH"
    for directory in (*spec.bin, *search_path.split(":")):
        candidate = os.path.join(directory, name)
        if not directory.startswith("/") or not os.path.isfile(candidate):
            continue  # an empty or relative part of PATH means the current directory: the workspace
        problem = _problem(candidate, () if directory in spec.bin else workspaces)
        if problem is None:
            return candidate
        why = problem
    raise _missing(spec, why)


def _problem(path: str, workspaces: Sequence[str]) -> str | None:
    """Why a program cannot be taken, or None."""
    real = os.path.realpath(path)
    for place in _visited(path):
        inside = next((workspace for workspace in workspaces if _beneath(place, workspace)), None)
        if inside:
            return f"{path} lies in the workspace {inside}"
    if not os.path.isfile(real) or not os.access(real, os.X_OK):
        return f"{path} is no program"
    return files.owner_problem(real, os.stat(real))


def _visited(path: str) -> Iterator[str]:
    """Every place on the way to a file. A link inside a workspace counts even if it leads out: an agent can turn it around."""
    here, pending, links = "/", path.split("/"), 0
    while pending:
        part = pending.pop(0)
        if part == "..":
            here = os.path.dirname(here)
        elif part not in ("", "."):
            here = os.path.join(here, part)
            yield here
            if os.path.islink(here) and (links := links + 1) <= MAX_LINKS:
                target = os.readlink(here)
                pending = target.split("/") + pending
                here = "/" if target.startswith("/") else os.path.dirname(here)


def _beneath(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def _missing(spec: RuntimeSpec, why: str) -> RuntimeNotInstalled:
    return RuntimeNotInstalled(f"the runtime {spec.name} is not installed", why, install_command(spec))


def install_command(spec: RuntimeSpec) -> str:
    """What a person types to install a runtime; where no single command does it, the page that explains how."""
    return f"opagent runtime install {spec.name}" if spec.install else f"less {spec.package}/README.md"


def digest(spec: RuntimeSpec) -> str:
    """sha256 over every file of the package: names, contents, who may execute, targets of links.

    Of an installed version: over its description and where it comes from. That a person upgrades is no change of a directory.

    Raises RuntimeInvalid for a package with more than 2,000 files or 64 MiB, or with something that is neither file,
    directory nor link: what cannot be compared cannot be trusted.
    """
    try:
        return _installed_digest(spec) if spec.origin else _digest(spec)
    except FileRefused as error:
        raise RuntimeInvalid(error.what, error.why, f"ls -lR {spec.package}") from error
    except OSError as error:
        raise RuntimeInvalid(f"{spec.package} cannot be read", str(error), f"ls -lR {spec.package}") from error


def _installed_digest(spec: RuntimeSpec) -> str:
    env = {name: value.replace(spec.package, "{package}") for name, value in spec.env.items()}
    said = asdict(replace(spec, version="", package="", install={}, bin=(), env=env))
    return hashlib.sha256(b"opagent-installed/1\n" + json.dumps(said, sort_keys=True).encode()).hexdigest()


def _digest(spec: RuntimeSpec) -> str:
    total = hashlib.sha256(b"opagent-package/1\n")
    count = size = 0
    for relative, path, found in tree.walk(spec.package):
        count, size = count + 1, size + found.st_size
        if count > MAX_PACKAGE_FILES or size > MAX_PACKAGE_BYTES:
            limit = f"the limit is {MAX_PACKAGE_FILES} files and {MAX_PACKAGE_BYTES // 2**20} MiB"
            raise RuntimeInvalid(f"{spec.package} is too large to be compared", limit, f"du -sh {spec.package}")
        if stat.S_ISLNK(found.st_mode):
            kind, content = b"link", os.fsencode(os.readlink(path))
        else:
            kind = b"program" if found.st_mode & 0o111 else b"file"
            content = files.read_file(path, MAX_PACKAGE_BYTES)
        for part in (os.fsencode(relative), kind, content):
            total.update(b"%d\n" % len(part) + part)
    return total.hexdigest()
