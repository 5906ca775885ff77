"""Opening and reading files beneath the workspace: never through a symbolic link, never anything that could block."""

import os
import secrets
import stat
from dataclasses import dataclass

SIZE_LIMIT = 4 * 1024 * 1024
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class Unreadable(Exception):
    """What stands at a path cannot be read as text; the sentence says why."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """What changes when a file changes. ctime catches a tool that restores the modification time."""

    mtime_ns: int
    ctime_ns: int
    size: int
    inode: int


def stamp_of(status: os.stat_result) -> Stamp:
    return Stamp(status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino)


def open_directory(root: int, path: str) -> int:
    """A descriptor of the directory `path` ("" is the root itself); each component is opened without following links.

    Raises OSError (ELOOP or ENOTDIR for a link).
    """
    here = os.dup(root)
    try:
        for name in path.split("/") if path else []:
            if name in ("", ".", ".."):
                raise FileNotFoundError(path)
            below = os.open(name, _DIRECTORY, dir_fd=here)
            os.close(here)
            here = below
    except BaseException:
        os.close(here)
        raise
    return here


def read_bytes(root: int, path: str, limit: int = SIZE_LIMIT) -> tuple[bytes, Stamp]:
    """The bytes of a regular file. Raises OSError or Unreadable (a pipe, a device, over the limit)."""
    parent, _, name = path.rpartition("/")
    directory = open_directory(root, parent)
    try:
        fd = os.open(name, _FILE, dir_fd=directory)
    finally:
        os.close(directory)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise Unreadable("not a regular file")
        if status.st_size > limit:
            raise Unreadable(f"larger than {limit // 1024} KiB")
        pieces = []
        left = limit
        while left > 0 and (piece := os.read(fd, min(left, 1 << 20))):  # it may grow while we read
            pieces.append(piece)
            left -= len(piece)
        return b"".join(pieces), stamp_of(status)
    finally:
        os.close(fd)


def decode(data: bytes) -> str:
    """Text of a file. A NUL in the first 8 KiB means binary (git's rule, except UTF-16 with its mark); other encodings
    are read with replacement as long as they are mostly text. Raises Unreadable."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", "replace").removeprefix("\ufeff")
    if b"\0" in data[:8192]:
        raise Unreadable("binary")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = data.decode("utf-8", "replace")
        if text.count("\ufffd") * 10 > len(text):
            raise Unreadable("not text") from None
    return text.removeprefix("\ufeff")


def read_text(root: int, path: str) -> tuple[str, Stamp]:
    """Raises OSError, Unreadable."""
    data, stamp = read_bytes(root, path)
    return decode(data), stamp


class Changed(Exception):
    """The file is no longer what it was when the person was asked."""


def write_file(root: int, path: str, data: bytes, before: bytes | None) -> None:
    """Puts `data` at a path beneath the root: temporary name, fsync, then rename over what was `before` (None: nothing).

    Raises Changed when something else stands there by now, OSError, Unreadable.
    """
    parent, _, name = path.rpartition("/")
    directory = open_directory(root, parent)
    temporary = f".{name[:100]}.{secrets.token_hex(6)}.tmp"
    try:
        mode = _mode(directory, name)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666, dir_fd=directory)
        try:
            with os.fdopen(fd, "wb") as file:
                if mode is not None:
                    os.fchmod(fd, mode)
                file.write(data)
                file.flush()
                os.fsync(fd)
            _put(root, directory, path, temporary, before)
        except BaseException:
            os.unlink(temporary, dir_fd=directory)
            raise
        os.fsync(directory)
    finally:
        os.close(directory)


def _put(root: int, directory: int, path: str, temporary: str, before: bytes | None) -> None:
    name = path.rpartition("/")[2]
    if before is None:
        try:
            os.link(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)  # unlike rename: never over a new file
        except FileExistsError as error:
            raise Changed(path) from error
        os.unlink(temporary, dir_fd=directory)
        return
    try:
        now, _ = read_bytes(root, path)
    except OSError as error:
        raise Changed(path) from error
    if now != before:
        raise Changed(path)
    os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)


def _mode(directory: int, name: str) -> int | None:
    try:
        return stat.S_IMODE(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return None
