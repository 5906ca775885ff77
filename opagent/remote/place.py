"""Our package on another machine: its archive is taken apart, written and compiled while it arrives.

A part of stage 1 (`remote/stage1.py`), and sent with it: imports nothing of ours, and parses on every Python since 2.7.
"""

import errno
import os

MODULES = {"gz": "zlib", "xz": "lzma"}
LAST = "__main__.py"  # in the archive behind what a start needs
NAME = 256  # bytes, as long as a name in the archive can be
FILES_LIMIT = 64 * 1024 * 1024  # bytes, unpacked


def whole(place):
    # type: (str) -> bool
    """Whether an installation is complete: every file of the list in `.ok` is there with its size."""
    try:
        with open(os.path.join(place, ".ok"), "rb") as file:
            lines = file.read().decode().splitlines()
        for line in lines:
            size, name = line.split(" ", 1)
            if os.stat(os.path.join(place, name)).st_size != int(size):
                return False
        return bool(lines)
    except (OSError, ValueError):
        return False


class Archive(object):
    """Takes the archive piece by piece. Nothing of it runs before `whole` has said that it is what was sent."""

    def __init__(self, form):
        # type: (str) -> None
        import hashlib

        new = {"xz": "LZMADecompressor", "gz": "decompressobj"}.get(form)
        self.unfold = getattr(__import__(MODULES[form]), new)().decompress if new else bytes
        self.sum, self.size, self.rest = hashlib.sha256(), 0, bytearray()
        self.files = []  # type: list[tuple[str, bytes]]

    def take(self, piece):
        # type: (bytes) -> list[tuple[str, bytes]]
        """The files that are complete with it."""
        more, before = self.unfold(piece), len(self.files)
        self.sum.update(more)
        self.size += len(more)
        if self.size > FILES_LIMIT:
            raise ValueError("the archive is too large")
        self.rest.extend(more)
        while len(self.rest) >= 512 and self.rest[0]:
            folder, name = (bytes(self.rest[start:end]).rstrip(b"\0").decode() for start, end in ((345, 500), (0, 100)))
            size = int(bytes(self.rest[124:135]), 8)
            end = 512 + (size + 511) // 512 * 512
            if len(self.rest) < end:
                break
            self.files.append((folder + "/" + name if folder else name, bytes(self.rest[512 : 512 + size])))
            del self.rest[:end]
        return self.files[before:]

    def whole(self, digest):
        # type: (str) -> list[tuple[str, bytes]]
        """All files. Raises ValueError where it is not what the digest says."""
        if self.sum.hexdigest() != digest:
            raise ValueError("what arrived is not what was sent")
        return self.files


def write(path, data):
    # type: (str, bytes) -> None
    if not os.path.isdir(os.path.dirname(path)):
        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
    with open(path, "wb") as file:
        file.write(data)


def compiled(folder, name):
    # type: (str, str) -> None
    """Write the bytecode of a source beside it."""
    import marshal
    from importlib import util

    path = os.path.join(folder, name)
    with open(path, "rb") as file:
        data = file.read()
    head = util.MAGIC_NUMBER + b"\1\0\0\0" + util.source_hash(data)  # PEP 552: by its hash, not looked at again
    try:
        code = marshal.dumps(compile(data, name, "exec", 0, True))
    except (SyntaxError, ValueError):  # who imports it hears of it
        return
    write(util.cache_from_source(path), head + code)


def remove(path):
    # type: (str) -> None
    import shutil

    if os.path.isdir(path):
        shutil.rmtree(path, True)
    elif os.path.exists(path):
        os.unlink(path)


class Place(object):
    """The directory of a package, under a temporary name until it is complete. What fails is kept, and raised by `settle`.

    While the files arrive, this process and a second one compile what a start needs: the names stand in a pipe, and either takes
    the next. What is not made by then, each import makes.
    """

    def __init__(self, base, digest, nonce):
        # type: (str, str, str) -> None
        self.above, self.nonce = os.path.join(base, "rt"), nonce
        self.temporary = os.path.join(self.above, ".tmp-%d-%s" % (os.getpid(), nonce))
        self.final = os.path.join(self.above, digest)
        self.failed = None  # type: OSError | None
        self.waiting = self.wanted = self.second = 0  # both ends of the pipe
        self.asks = False

    def begin(self):
        # type: () -> None
        """From now on, what is put there is compiled."""
        self.asks = True
        self.waiting, self.wanted = os.pipe()
        os.set_blocking(self.waiting, False)
        os.set_blocking(self.wanted, False)
        try:
            self.second = os.fork()
        except OSError:  # no more processes are allowed
            return
        if not self.second:
            try:
                os.close(self.wanted)
                while self.compiles(None):
                    pass
                os._exit(self.failed is not None)
            finally:
                os._exit(1)

    def put(self, files):
        # type: (list[tuple[str, bytes]]) -> None
        try:
            for name, data in files if self.failed is None else []:
                write(os.path.join(self.temporary, name), data)
                if self.asks and name.endswith(".py"):
                    self.ask(name)
        except OSError as error:
            self.failed = error

    def ask(self, name):
        # type: (str) -> None
        try:
            os.write(self.wanted, name.encode().ljust(NAME, b"\0"))
            self.asks = name != LAST
        except BlockingIOError:  # the pipe is full
            pass

    def compiles(self, wait=0):
        # type: (float | None) -> bool
        """The next one; False when there is none."""
        import select

        try:
            if self.failed is None and select.select([self.waiting], [], [], wait)[0]:
                name = os.read(self.waiting, NAME).rstrip(b"\0").decode()
                if name:
                    compiled(self.temporary, name)
                return bool(name)
        except BlockingIOError:  # the other one was quicker
            return True
        except OSError as error:
            self.failed = error
        return False

    def end(self):
        # type: () -> None
        """Leave what waits, and see the second process end."""
        import select

        if self.wanted:
            os.close(self.wanted)
            while select.select([self.waiting], [], []) and os.read(self.waiting, 256 * NAME):
                pass
            os.close(self.waiting)
            self.wanted = 0
        if self.second and os.waitpid(self.second, 0)[1]:
            self.failed = self.failed or OSError(errno.EIO, "its bytecode could not be written")
        self.second = 0

    def settle(self):
        # type: () -> str
        """Write `.ok` and give it its name; the name. Raises OSError."""
        if self.failed is not None:
            raise self.failed
        lines = []
        for folder, _, names in os.walk(self.temporary):
            for path in [os.path.join(folder, name) for name in names]:
                lines.append("%d %s\n" % (os.stat(path).st_size, path[len(self.temporary) + 1 :]))
        write(os.path.join(self.temporary, ".ok"), "".join(lines).encode())
        for _ in range(3):
            try:
                os.rename(self.temporary, self.final)
                return self.final
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                    raise
            if whole(self.final):
                return self.final
            os.rename(self.final, os.path.join(self.above, ".tmp-old-%d-%s" % (os.getpid(), self.nonce)))
        raise OSError(errno.EEXIST, "%s changes all the time" % self.final)

    def clear(self):
        # type: () -> None
        """Leave nothing under the temporary name."""
        self.end()
        remove(self.temporary)
