"""Trees of files: walked in one order, hashed, copied, sealed, taken away. Knows nothing of runtimes."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

# written by the interpreter next to the source it comes from: hashing it would change the digest with the first run
MADE_BY_RUNNING = {"__pycache__"}
_NEVER_COPIED = {"__pycache__", ".git", "node_modules"}
_CHUNK = 1 << 20


def walk(root: str) -> Iterator[tuple[str, str, os.stat_result]]:
    """Relative name, path and lstat of everything below that is no directory, in one order everywhere."""
    for directory, folders, names in os.walk(root, onerror=_raised):
        folders[:] = sorted(set(folders) - MADE_BY_RUNNING)
        links = [name for name in folders if os.path.islink(os.path.join(directory, name))]
        for name in sorted(names + links):
            path = os.path.join(directory, name)
            yield os.path.relpath(path, root), path, os.lstat(path)


def _raised(error: OSError) -> None:
    raise error


def digest(root: str) -> tuple[str, int, int]:
    """sha256 over names, kinds, contents and targets of links; how many files, and their bytes. Raises OSError."""
    total = hashlib.sha256(b"opagent-tree/1\n")
    count = size = 0
    for relative, path, found in walk(root):
        count, size = count + 1, size + found.st_size
        name = os.fsencode(relative)
        if stat.S_ISLNK(found.st_mode):
            target = os.fsencode(os.readlink(path))
            total.update(b"link %d %d\n" % (len(name), len(target)) + name + target)
        elif stat.S_ISREG(found.st_mode):
            kind = b"program" if found.st_mode & 0o111 else b"file"
            total.update(b"%s %d %d\n" % (kind, len(name), found.st_size) + name)
            with open(path, "rb") as file:
                while chunk := file.read(_CHUNK):
                    total.update(chunk)
        else:
            raise OSError(f"{path} is neither file, directory nor link")
    return total.hexdigest(), count, size


def copy(source: Path, target: Path) -> None:
    """The files of a folder, without what tools made in it; links are copied as links. Raises OSError."""
    for directory, folders, names in os.walk(source, onerror=_raised):
        folders[:] = sorted(set(folders) - _NEVER_COPIED)
        place = target / os.path.relpath(directory, source)
        place.mkdir(exist_ok=True)
        links = [name for name in folders if os.path.islink(os.path.join(directory, name))]
        for name in names + links:
            shutil.copy2(os.path.join(directory, name), place / name, follow_symlinks=False)


def leaving(root: Path) -> str | None:
    """The first link that leads out of the tree, if there is one."""
    real = os.path.realpath(root)
    for relative, path, found in walk(str(root)):
        if stat.S_ISLNK(found.st_mode):
            target = os.path.realpath(path)
            if target != real and not target.startswith(real + "/"):
                return relative
    return None


def seal(root: Path) -> None:
    """Its files are read-only now, and no set-uid bit is left. Directories stay as they are, so that `rm -r` works."""
    for _, path, found in walk(str(root)):
        if not stat.S_ISLNK(found.st_mode):
            os.chmod(path, 0o555 if found.st_mode & 0o111 else 0o444)


def sync(root: Path) -> None:
    """What was written to this file system is on the disk."""
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
        if syncfs is None or syncfs(fd):
            os.sync()
    finally:
        os.close(fd)


def remove(root: Path) -> None:
    """All of it, also where directories are read-only. What cannot be taken away is left for the next time."""
    for directory, _, _ in os.walk(root):
        with contextlib.suppress(OSError):
            os.chmod(directory, 0o700)
    shutil.rmtree(root, ignore_errors=True)
