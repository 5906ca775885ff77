"""Which files are read, and their bytes as text and back. It follows no symbolic link and changes nothing but by `replace`."""

import codecs
import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from pathspec import GitIgnoreSpec

SUFFIXES = (".md", ".markdown", ".mdown", ".txt", ".rst", ".adoc")
PLAIN_NAMES = ("readme", "changelog", "contributing", "notes", "todo")  # without a suffix
SKIPPED = {"node_modules", "__pycache__", "venv", "vendor", "target", "dist", "build"}
# a directory that is read-only around a file that is not; a file that is a mount of its own
ONLY_IN_PLACE = (errno.EROFS, errno.EACCES, errno.EPERM, errno.EBUSY)
MAX_BYTES, MAX_FILES = 1 << 20, 2_000
_BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))

Layer = tuple[str, GitIgnoreSpec]  # the directory of a .gitignore, relative to the workspace, and its rules


@dataclass(frozen=True, slots=True)
class Text:
    """A file as text. `text` keeps its line ends; `bom` is put back when it is written."""

    path: str
    data: bytes
    text: str
    encoding: str
    bom: bytes

    def encoded(self, text: str) -> bytes:
        """Raises UnicodeEncodeError where the file's own encoding has no such sign."""
        return self.bom + text.encode(self.encoding)


class Passed(Exception):
    """A file that is not read, and why."""


def is_prose(name: str) -> bool:
    stem, dot, _ = name.lower().partition(".")
    return name.lower().endswith(SUFFIXES) or (not dot and stem in PLAIN_NAMES)


def find(root: str, start: str, leave: str) -> Iterator[str]:
    """Prose files below `start` (relative; "" for all), in order, without what .gitignore files name and `leave`."""
    layers = [layer for above in _above(start) if (layer := _layer(root, above)) is not None]
    yield from _walk(root, start, layers, leave)


def _above(start: str) -> list[str]:
    parts = start.split("/") if start else []
    return ["/".join(parts[:end]) for end in range(len(parts))]


def _walk(root: str, here: str, layers: list[Layer], leave: str) -> Iterator[str]:
    own = _layer(root, here)
    layers = [*layers, own] if own is not None else layers
    try:
        entries = sorted(os.scandir(os.path.join(root, here)), key=lambda entry: entry.name)
    except OSError:
        return  # not ours to read: it offers nothing
    folders = []
    for entry in entries:
        path = f"{here}/{entry.name}" if here else entry.name
        if entry.name.startswith(".") or entry.is_symlink() or path == leave or not _is_utf8(entry.name):
            continue
        folder = entry.is_dir()
        if _ignored(path + "/" * folder, layers):
            continue
        if folder and entry.name not in SKIPPED:
            folders.append(path)
        elif entry.is_file() and is_prose(entry.name):
            yield path
    for path in folders:
        yield from _walk(root, path, layers, leave)


def _layer(root: str, here: str) -> Layer | None:
    try:
        with open(os.path.join(root, here, ".gitignore"), encoding="utf-8", errors="replace") as file:
            return here, GitIgnoreSpec.from_lines(file.read(MAX_BYTES).splitlines())
    except (OSError, ValueError):
        return None


def _ignored(path: str, layers: list[Layer]) -> bool:
    """The deepest file that says anything decides."""
    for base, spec in reversed(layers):
        said = spec.check_file(path[len(base) + 1 :] if base else path).include
        if said is not None:
            return bool(said)
    return False


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def read(root: str, path: str) -> Text:
    """Raises Passed for what is no text of a usual size, and for what leaves the workspace."""
    full = os.path.join(root, path)
    if os.path.realpath(full) != full:
        raise Passed("reached through a symbolic link")
    try:
        fd = os.open(full, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise Passed(error.strerror or "cannot be opened") from error
    with open(fd, "rb") as file:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise Passed("no regular file")
        if found.st_size > MAX_BYTES:
            raise Passed(f"larger than {MAX_BYTES >> 10} KiB")
        data = file.read(MAX_BYTES + 1)
    return decode(path, data)


def decode(path: str, data: bytes) -> Text:
    """UTF-8, UTF-16 with its mark, else Latin-1, which keeps every byte. Raises Passed for binaries."""
    for bom, encoding in _BOMS:
        if data.startswith(bom):
            plain = "utf-8" if encoding == "utf-8-sig" else encoding
            try:
                return Text(path, data, data[len(bom) :].decode(plain), plain, bom)
            except UnicodeDecodeError as error:
                raise Passed(f"no valid {plain}") from error
    if b"\0" in data:
        raise Passed("binary")
    try:
        return Text(path, data, data.decode("utf-8"), "utf-8", b"")
    except UnicodeDecodeError:
        return Text(path, data, data.decode("latin-1"), "latin-1", b"")


def replace(root: str, old: Text, data: bytes) -> None:
    """Write a file whole, with its mode, only over the bytes that were read; in the file itself where a sandbox lets only that be
    written. Raises OSError, Passed when it changed meanwhile.
    """
    full = os.path.join(root, old.path)
    if read(root, old.path).data != old.data:
        raise Passed("it was changed while the question was open; check again")
    temporary = f"{full}.{os.getpid()}.tmp"
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with open(fd, "wb") as file:
                file.write(data)
                file.flush()
                os.fchmod(fd, stat.S_IMODE(os.stat(full).st_mode))
                os.fsync(fd)
            os.rename(temporary, full)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        if error.errno not in ONLY_IN_PLACE:
            raise
        with open(os.open(full, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "wb") as file:
            file.write(data)
            file.truncate()
            file.flush()
            os.fsync(file.fileno())
