"""Reads and writes files of a workspace for an agent: real paths and opening without links; decides and asks nothing."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat

from opagent import files
from opagent.errors import FileRefused

PATH_LIMIT = 4000  # bytes; checked before any directory on the way is made


def real_path(workspace: str, path: str, last: bool) -> str:
    """Where a path really leads, relative to the workspace; with `last` its last name too is followed where it is a link.

    On this one the rules decide and this one is opened: a link would give a denied file another name. Raises ValueError
    for a path that leaves the workspace.
    """
    if len(path.encode("utf-8", "replace")) > PATH_LIMIT:
        raise ValueError("the path is too long")
    inside = os.path.relpath(path, workspace) if os.path.isabs(path) else os.path.normpath(path)
    if not path or "\0" in path or _leaves(inside):
        raise ValueError(f"{path[:200]!r} is outside the workspace")
    top = os.path.realpath(workspace)
    folder, name = (inside, "") if last else os.path.split(inside)
    relative = os.path.relpath(os.path.join(os.path.realpath(os.path.join(top, folder)), name), top)
    if _leaves(relative):
        raise ValueError(f"{path[:200]!r} leads out of the workspace")
    return relative


def _leaves(relative: str) -> bool:
    return relative == ".." or relative.startswith("../")


def read(workspace: str, relative: str, limit: int) -> bytes:
    """A regular file of at most `limit` bytes. Raises FileRefused, OSError (ELOOP when a link was put there meanwhile)."""
    with files.directory(workspace) as top:
        fd = files.open_beneath(top, relative, os.O_RDONLY | os.O_NONBLOCK, links=False)
        try:
            return files.read_regular(fd, limit, relative)
        finally:
            os.close(fd)


def identity(workspace: str, relative: str, limit: int) -> str:
    """What stands at a name at this moment: the digest of its content; of a large one who it is, when it was changed last."""
    try:
        content = read(workspace, relative, limit)
    except FileNotFoundError:
        return ""
    except (OSError, FileRefused):
        return _inode(workspace, relative)
    return hashlib.sha256(content).hexdigest()


def _inode(workspace: str, relative: str) -> str:
    folder, name = os.path.split(relative)
    try:
        with files.directory(workspace) as top:
            there = _open_folder(top, folder)
            try:
                found = os.stat(name, dir_fd=there, follow_symlinks=False)
            finally:
                os.close(there)
    except OSError as error:
        return f"error {error.errno}"
    return f"inode {found.st_dev} {found.st_ino} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"


def write(workspace: str, relative: str, content: bytes, expected: str | None = None) -> bool:
    """A temporary name in the same directory and a rename: whole or not at all, and never through a link of either kind.

    `expected`: the digest of what must stand there still ("": nothing). Where it does not, nothing is changed: False.
    """
    folder, name = os.path.split(relative)
    with files.directory(workspace) as top:
        _make_folders(top, folder)
        there = _open_folder(top, folder)
        try:
            mode = _mode(there, name)
            if expected is None or expected.startswith(("inode", "error")):
                files.write_whole_at(there, name, content, mode)
                return True
            return _replace(there, name, content, mode, expected)
        finally:
            os.close(there)


def _replace(there: int, name: str, content: bytes, mode: int, expected: str) -> bool:
    """The new version is exchanged with the old one, and what came out is looked at: a comparison before would be too early."""
    fresh = f".{name[:200]}.{os.getpid()}.new"
    files.write_whole_at(there, fresh, content, mode)
    try:
        if not expected:
            try:
                os.link(fresh, name, src_dir_fd=there, dst_dir_fd=there, follow_symlinks=False)
            except FileExistsError:
                return False
            return True
        return _exchange(there, fresh, name, expected)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(fresh, dir_fd=there)


def _exchange(there: int, fresh: str, name: str, expected: str) -> bool:
    new, old = f"/proc/self/fd/{there}/{fresh}", f"/proc/self/fd/{there}/{name}"
    try:
        files.exchange(new, old)
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
            raise
        if _digest(there, name) != expected:  # a file system that exchanges nothing: the best there is
            return False
        os.rename(fresh, name, src_dir_fd=there, dst_dir_fd=there)
        return True
    if _digest(there, fresh) == expected:
        return True
    files.exchange(new, old)
    return False


def _digest(there: int, name: str) -> str:
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=there)
    except OSError:
        return ""
    try:
        return hashlib.sha256(files.read_regular(fd, 1 << 30, name)).hexdigest()
    except (OSError, FileRefused):
        return ""
    finally:
        os.close(fd)


def _open_folder(top: int, folder: str) -> int:
    return files.open_beneath(top, folder or ".", os.O_RDONLY | os.O_DIRECTORY, links=False)


def _make_folders(top: int, folder: str) -> None:
    here = ""
    for part in folder.split("/") if folder else []:
        parent, here = here, f"{here}/{part}" if here else part
        try:
            os.close(_open_folder(top, here))
        except FileNotFoundError:
            above = _open_folder(top, parent)
            try:
                os.mkdir(part, dir_fd=above)
            finally:
                os.close(above)


def _mode(directory: int, name: str) -> int:
    try:
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return 0o644
    if not stat.S_ISREG(found.st_mode):
        raise FileRefused(f"{name} is not a regular file")
    return stat.S_IMODE(found.st_mode)
