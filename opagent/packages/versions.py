"""The installed versions of runtimes: where each lies, which one counts, and the locks. It fetches and starts nothing.

    NAME/active.json          which version counts, those that did before, and the pin; replaced whole
    NAME/VERSION/lock.json    what the version is made of, with hashes
    NAME/VERSION/NAME/        the package: runtime.yaml and everything that was installed for it; never changed
    .staging/                 what is being fetched or taken away; each place is locked by whoever works there

Whoever dies leaves a place in .staging that nobody holds: the next one takes it away.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from opagent import files, paths
from opagent.errors import Conflict, FileRefused, InstallFailed, NotFound
from opagent.packages import tree

ACTIVE, LOCK = "active.json", "lock.json"
_MAX = 16 << 20  # bytes of a lock file
_KEPT = 20  # versions that `rollback` remembers
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+_-]{0,99}")


@dataclass(frozen=True, slots=True)
class Active:
    """`version`: the one that counts, "" for none; `before`: those that did, the last one last; `pin`: the one that stays."""

    version: str = ""
    before: tuple[str, ...] = ()
    pin: str = ""


@dataclass(frozen=True, slots=True)
class Installed:
    """One version of one runtime. `lock` is the content of lock.json."""

    name: str
    version: str
    package: Path
    lock: dict[str, Any]

    @property
    def folder(self) -> Path:
        return self.package.parent


def home(name: str) -> Path:
    return paths.installed_runtimes() / name


def active(name: str) -> Active:
    """What counts; nothing where nothing was installed. Raises FileRefused for a file that cannot be read."""
    try:
        found = json.loads(files.read_file(home(name) / ACTIVE, _MAX))
        return Active(str(found["version"]), tuple(map(str, found["before"])), str(found["pin"]))
    except FileNotFoundError:
        return Active()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FileRefused(f"{home(name) / ACTIVE} cannot be read", str(error), f"ls -l {home(name)}") from error


def names() -> list[str]:
    """Runtimes of which a version counts, sorted."""
    try:
        found = os.listdir(paths.installed_runtimes())
    except OSError:
        return []
    return sorted(name for name in found if NAME.fullmatch(name) and os.path.lexists(home(name) / ACTIVE))


def of(name: str) -> list[str]:
    """The versions that are installed, the newest first."""
    try:
        found = os.listdir(home(name))
    except OSError:
        return []
    whole = (each for each in found if VERSION.fullmatch(each) and os.path.lexists(home(name) / each / LOCK))
    return sorted(whole, key=order, reverse=True)


def order(version: str) -> tuple[Any, ...]:
    """Sorts versions as people count: 1.9 before 1.10, 2.0-beta before 2.0."""
    main, dash, more = version.partition("-")
    numbers = tuple((1, int(part), "") if part.isdigit() else (0, 0, part) for part in re.split(r"[.+_]", main))
    return (numbers, not dash, tuple((1, int(part), "") if part.isdigit() else (0, 0, part) for part in more.split(".")))


def fits(version: str, wanted: str) -> bool:
    """Whether `1.18.3` is what `1.18` asks for. A version of a preview only fits when it is asked for itself."""
    return version == wanted or (version.startswith((wanted + ".", wanted + "+")) and "-" not in version[len(wanted) :])


def matching(name: str, wanted: str) -> str:
    """The version that counts for `name@wanted`: the active one where it fits, else the newest that does; "" for none."""
    usual = active(name).version
    found = of(name)
    if usual in found and fits(usual, wanted):
        return usual
    return next((version for version in found if fits(version, wanted)), "")


def read(name: str, version: str) -> Installed:
    """Raises NotFound, FileRefused."""
    folder = home(name) / version
    try:
        lock = json.loads(files.read_file(folder / LOCK, _MAX))
    except FileNotFoundError as error:
        raise NotFound(f"{name} {version} is not installed", "", f"opagent runtime install {name}@{version}") from error
    except (OSError, ValueError) as error:
        raise FileRefused(f"{folder / LOCK} cannot be read", str(error), f"ls -l {folder}") from error
    return Installed(name, version, folder / name, lock)


# ---- changes: only with `exclusive(name)` ------------------------------------------------------------------------------------


def activate(name: str, version: str, pin: str | None = None) -> Active:
    """From now on this version counts for whatever starts; one rename. `pin`: also the pin."""
    read(name, version)
    now = active(name)
    before = tuple(each for each in now.before if each != version)
    if now.version and now.version != version:
        before = (*(each for each in before if each != now.version), now.version)
    return _write(name, Active(version, before[-_KEPT:], now.pin if pin is None else pin))


def pin(name: str, version: str) -> Active:
    """The version from which `upgrade` does not move; "" for none."""
    return _write(name, replace(active(name), pin=version))


def previous(name: str) -> str:
    """The version that counted before and is still there. Raises Conflict."""
    there = set(of(name))
    found = next((each for each in reversed(active(name).before) if each in there), "")
    if not found:
        raise Conflict(
            f"{name} has no version to go back to", "none that counted before is installed", f"opagent runtime info {name}"
        )
    return found


def _write(name: str, now: Active) -> Active:
    content = json.dumps(asdict(now), indent=1).encode() + b"\n"
    files.write_whole(home(name) / ACTIVE, content)
    return now


def forget(name: str, version: str) -> None:
    """Takes one version away: out of sight by one rename, then file by file."""
    now = active(name)
    if now.version == version:
        (home(name) / ACTIVE).unlink(missing_ok=True)
    elif now.version:
        _write(name, replace(now, before=tuple(each for each in now.before if each != version)))
    with staging() as (place, _):
        os.rename(home(name) / version, place / "gone")


def publish(place: Path, name: str, version: str) -> Installed:
    """A version that lies ready in `place` becomes an installed one. Raises Conflict where it is there already."""
    tree.sync(place)
    target = home(name) / version
    try:
        os.rename(place, target)
    except OSError as error:
        if target.exists():
            raise Conflict(f"{name} {version} is installed already", "", f"opagent runtime info {name}@{version}") from error
        raise InstallFailed(f"{target} cannot be made", error.strerror or str(error), f"ls -ld {target.parent}") from error
    fd = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
    return read(name, version)


# ---- locks and leftovers ---------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def exclusive(name: str, waiting: Any = None) -> Iterator[None]:
    """Nobody else changes this runtime meanwhile. `waiting()` is called once where somebody is at it."""
    files.private_directory(home(name))
    fd = os.open(home(name) / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if waiting:
                waiting()
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


@contextlib.contextmanager
def staging() -> Iterator[tuple[Path, int]]:
    """A directory for work in progress, and a descriptor: whoever has that keeps the directory from being swept."""
    base = files.private_directory(paths.installed_runtimes() / ".staging")
    with _sweeping(base):
        place = Path(tempfile.mkdtemp(prefix="new-", dir=base))
        fd = os.open(place / ".held", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX)
    try:
        yield place, fd
    finally:
        os.close(fd)
        tree.remove(place)


def sweep() -> int:
    """Takes away what nobody works at any more: of installations that were killed. How many there were."""
    base = files.private_directory(paths.installed_runtimes() / ".staging")
    with _sweeping(base):
        left = [place for place in base.iterdir() if place.is_dir() and not _held(place)]
        for place in left:
            tree.remove(place)
    return len(left)


def _held(place: Path) -> bool:
    try:
        fd = os.open(place / ".held", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


@contextlib.contextmanager
def _sweeping(base: Path) -> Iterator[None]:
    """Between making a place and holding it nobody sweeps."""
    fd = os.open(base / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
