"""A conversation file replaced so that no save is lost; merges nothing, knows no format.

API (`locate` and `settled_read` are in `watch/settled.py`)::

    outcome = await write_version(place, content, expected, sync=False)
    await settle(place)                                   # what stands there is durable
    release(outcome.held)                                 # once a durable version holds what came out
    stamp = await create(place, content, sync=False)      # Conflict where the name is taken

The file is exchanged with the new version and what came out is looked at: a comparison before a rename lost 1-4 % of the
saves of an editor, this lost none of 22,500. All waits are `await`s with a deadline; what blocks is one read or write of
at most 16 MiB, and fsync runs in a thread. (Design: "Writing one version".)
"""

from __future__ import annotations

import asyncio
import enum
import errno
import os
import stat
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from opagent import files
from opagent.errors import Conflict, FileRefused
from opagent.watch import workfiles
from opagent.watch.settled import PATIENCE, POLL, Place, Stamp
from opagent.watch.stillness import still
from opagent.watch.swap import swap


class Result(enum.Enum):
    WRITTEN = "written"
    FOREIGN = "foreign"  # ours stands in the file, and a person's save came out of it: it has to be merged
    BUSY = "busy"  # somebody keeps the file open for writing: theirs stands there as before
    TORN = "torn"  # the file is empty or damaged: that is no save, and it stands there as before
    GONE = "gone"  # no file of that name; nothing was written
    READ_ONLY = "read-only"
    NO_SPACE = "no space"
    FAILED = "failed"  # of the disk


@dataclass(frozen=True, slots=True)
class Outcome:
    """`found`: whole saves that the file no longer holds, older first, each under the name in `held` until it is released.

    `stamp`: of our version where it stands in the file, taken before anybody could see it: a save after that has another.
    """

    result: Result
    found: tuple[bytes, ...] = ()
    held: tuple[Path, ...] = ()
    why: str = ""
    stamp: Stamp | None = None

    @property
    def written(self) -> bool:
        return self.result in (Result.WRITTEN, Result.FOREIGN)


_FAILURES = {
    errno.ENOENT: Result.GONE,
    errno.EACCES: Result.READ_ONLY,
    errno.EPERM: Result.READ_ONLY,
    errno.EROFS: Result.READ_ONLY,
    errno.ENOSPC: Result.NO_SPACE,
    errno.EDQUOT: Result.NO_SPACE,
    errno.EIO: Result.FAILED,
    errno.EFBIG: Result.FAILED,
}
_SAID = {
    Result.GONE: "is gone",
    Result.READ_ONLY: "can only be read",
    Result.NO_SPACE: "could not be written",
    Result.FAILED: "could not be written",
}


async def write_version(place: Place, content: bytes, expected: bytes, sync: bool = False) -> Outcome:
    """Replace the file, which is believed to hold `expected`. Mode, owner and extended attributes stay.

    Where a person saved meanwhile, `content` stands in the file and their save is in `Outcome.found`; it lies under a
    temporary name too, which the caller releases when a durable version holds what is in it. `sync`: durable before it is
    visible. Takes a few seconds at most, whatever editors do; a cancelled caller waits for the end, for half an exchange
    would leave a save that nobody looks at. Raises FileRefused, NotPrivate, other OSErrors as they come.
    """
    task = asyncio.create_task(_write(place, content, expected, sync), name=f"write {place.inside}")
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        if not task.cancelled():
            task.exception()
        raise


async def _write(place: Place, content: bytes, expected: bytes, sync: bool) -> Outcome:
    try:
        target = await _target(place)
        if not target.st_mode & 0o222:
            return Outcome(
                Result.READ_ONLY, why=f"{place.path} {_SAID[Result.READ_ONLY]}: its mode is {stat.filemode(target.st_mode)}"
            )
        workfiles.prepare(place.workspace)
        temporary, displaced, stamp = await _put(place, content, target, sync)
    except OSError as error:
        result = _FAILURES.get(error.errno or 0)
        if result is None:
            raise
        return Outcome(result, why=f"{place.path} {_SAID[result]}: {error.strerror}")
    try:
        out, quiet = await _bytes(temporary)
    except FileRefused:  # no file at all was put there meanwhile: it goes back as it is
        await _swap(temporary, place.path)
        workfiles.set_aside(place.workspace, place.path.name, temporary)
        raise
    held = [path for path in displaced if path.read_bytes() != expected]
    release(set(displaced) - set(held))
    if not quiet:
        return await _put_back(place, temporary, content, tuple(held))
    if out != expected and (not out.strip() or b"\0" in out):
        back = await _put_back(place, temporary, content, tuple(held))
        return replace(back, result=Result.TORN, why=f"{place.path} is empty or damaged")
    if out == expected:
        os.unlink(temporary)
    else:
        held.append(temporary)
    if sync:
        await asyncio.to_thread(_sync_directory, place.path.parent)
    result = Result.FOREIGN if held else Result.WRITTEN
    return Outcome(result, await _read_all(held), tuple(held), stamp=stamp)


async def _read_all(held: Iterable[Path]) -> tuple[bytes, ...]:
    return tuple([(await _bytes(path))[0] for path in held])


async def _put_back(place: Place, temporary: Path, ours: bytes, held: tuple[Path, ...]) -> Outcome:
    """What somebody still writes goes back to its name. What comes out then should be ours; else it is a newer save."""
    why = f"somebody keeps {place.path} open for writing"
    try:
        await _swap(temporary, place.path)
    except FileNotFoundError:
        held = (*held, temporary)
        return Outcome(Result.GONE, await _read_all(held), held, f"{place.path} was taken away while it was written")
    out, _ = await _bytes(temporary)
    if out == ours:
        os.unlink(temporary)
    else:
        held = (*held, temporary)
    return Outcome(Result.BUSY, await _read_all(held), held, why)


async def settle(place: Place) -> None:
    """What stands in the file outlives a power cut when this returns. Raises OSErrors as they come."""
    await asyncio.to_thread(_sync, place.path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    await asyncio.to_thread(_sync_directory, place.path.parent)


def _sync(path: Path, flags: int) -> None:
    fd = os.open(path, flags)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def release(held: Iterable[Path]) -> list[Path]:
    """Remove temporary names whose bytes a version that is durable holds; none is left."""
    for path in held:
        path.unlink(missing_ok=True)
    return []


async def _target(place: Place) -> os.stat_result:
    """The file's status, once an editor that renamed it away has made it anew."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            found = os.stat(place.path, follow_symlinks=False)
        except FileNotFoundError:
            if time.monotonic() >= deadline:
                raise
            await asyncio.sleep(POLL)
            continue
        if not stat.S_ISREG(found.st_mode):
            raise FileRefused(f"{place.path} is not a regular file")
        return found


async def _put(place: Place, content: bytes, target: os.stat_result, sync: bool) -> tuple[Path, tuple[Path, ...], Stamp]:
    """The new version at its place; the temporary name, which now holds what was there, what else came out, and its stamp."""
    for beside in (False, True):
        temporary = workfiles.temporary(place.workspace, place.path, beside)
        try:
            stamp = await _make(temporary, content, target, sync)
            _attributes(place.path, temporary)
            return temporary, await _swap(temporary, place.path), stamp
        except OSError as error:
            temporary.unlink(missing_ok=True)
            if error.errno != errno.EXDEV or beside:
                raise
    raise AssertionError("both places were tried")


async def _make(temporary: Path, content: bytes, target: os.stat_result | None, sync: bool) -> Stamp:
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        files.write_all(fd, content)
        if target is not None:
            _like(fd, target)
        if sync:
            await asyncio.to_thread(os.fdatasync, fd)
        return Stamp.of(os.fstat(fd))
    finally:
        os.close(fd)


def _like(fd: int, target: os.stat_result) -> None:
    if (target.st_uid, target.st_gid) != (os.geteuid(), os.getegid()):
        with suppress(PermissionError):  # a group that we are not in
            os.fchown(fd, target.st_uid if os.geteuid() == 0 else -1, target.st_gid)
    os.fchmod(fd, stat.S_IMODE(target.st_mode))


async def _swap(temporary: Path, path: Path) -> tuple[Path, ...]:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return swap(temporary, path)
        except FileNotFoundError:
            if time.monotonic() >= deadline:
                raise
        await asyncio.sleep(POLL)


def _attributes(path: Path, temporary: Path) -> None:
    """Extended attributes, the ACL among them, as far as the file system knows them."""
    with suppress(OSError):
        for name in os.listxattr(path, follow_symlinks=False):
            with suppress(OSError):
                os.setxattr(temporary, name, os.getxattr(path, name, follow_symlinks=False), follow_symlinks=False)


async def _bytes(temporary: Path) -> tuple[bytes, bool]:
    """What came out, once nobody writes it; False with what is there when somebody goes on writing."""
    fd = os.open(temporary, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        quiet = await still(fd, time.monotonic() + PATIENCE)
        return files.read_regular(fd, 1 << 30, str(temporary)), quiet
    finally:
        os.close(fd)


def _sync_directory(directory: Path) -> None:
    with files.directory(directory) as fd:
        os.fsync(fd)


async def create(place: Place, content: bytes, sync: bool = False) -> Stamp:
    """A new file, whole, readable by its owner only; `sync`: durable, its name too, when this returns.

    Raises Conflict where the name is taken, OSErrors as they come.
    """
    place.path.parent.mkdir(parents=True, exist_ok=True)
    workfiles.prepare(place.workspace)
    for beside in (False, True):
        temporary = workfiles.temporary(place.workspace, place.path, beside)
        try:
            stamp = await _make(temporary, content, None, sync)
            os.link(temporary, place.path)
            for folder in place.path.parents if sync else ():  # up to the workspace: directories may be new as well
                await asyncio.to_thread(_sync_directory, folder)
                if folder == place.workspace:
                    break
            return stamp
        except FileExistsError as error:
            raise Conflict(f"{place.path} is there already") from error
        except OSError as error:
            if error.errno != errno.EXDEV or beside:
                raise
        finally:
            temporary.unlink(missing_ok=True)
    raise AssertionError("both places were tried")
