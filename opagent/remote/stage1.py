"""What runs first on another machine: finds our package there or asks for it, and gives over to `opagent.landing`.

Its text, with that of `remote/place.py`, is sent inside the request that starts it (stage0.py), so it is small, and it parses on
every Python since 2.7: too old a one must be able to say so. Bytes go through `os.read` and `os.write` only: a buffer would
swallow what follows.
"""

import errno
import json
import os
import sys
import time

from opagent.remote.place import MODULES, Archive, Place, remove, whole

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator  # noqa: F401  in the type comments

OLDEST = (3, 11)
DONE, LACKS, TOO_OLD = 80, 94, 96  # exit statuses that stage 0 knows: taken over; go on with the next interpreter (both others)
NEEDED = ("_ctypes", "_sqlite3", "fcntl", "select")  # what a Python may lack and a daemon cannot do without
HEAD = 32  # bytes in front of the archive: its form and length
WAITS = 20.0  # seconds for another bootstrap that installs the same
STALE = 3600.0  # seconds after which what an interrupted install left is removed


def say(nonce, **body):
    # type: (str, **object) -> None
    data = ("\n\x1eOPA1 %s %s\n" % (nonce, json.dumps(body))).encode()
    while data:
        data = data[os.write(1, data) :]


def bases():
    # type: () -> list[str]
    """Where our directory may be, best first. The last is that of the daemon's state: it needs one anyway."""
    own, home = "opagent-%d" % os.getuid(), os.environ.get("HOME", "")
    if not home.startswith("/"):
        os.environ.pop("HOME", None)
        home = os.path.expanduser("~")  # of the account
    places = [(os.environ.get("XDG_CACHE_HOME", ""), "opagent"), (os.path.join(home, ".cache"), "opagent")]
    places += [("/var/tmp", own), ("/tmp", own), ("/dev/shm", own)]
    places += [(os.environ.get("XDG_STATE_HOME", "") or os.path.join(home, ".local/state"), "opagent")]
    found = [os.path.join(*place) for place in places if place[0].startswith("/")]
    return [base for number, base in enumerate(found) if base not in found[:number]]


def not_private(base):
    # type: (str) -> str
    """Why somebody else could change what lies there, or an empty text. Raises OSError when it is not there."""
    for path, sticky in ((os.path.dirname(base), 0o1000), (base, 0)):
        found = os.stat(path)
        if found.st_uid not in ((0, os.getuid()) if sticky else (os.getuid(),)):
            return "%s belongs to uid %d" % (path, found.st_uid)
        others = 0o002 if sticky and found.st_gid == found.st_uid else 0o022  # a group of one's own is nobody else
        if found.st_mode & others and not found.st_mode & sticky:
            return "%s may be written by others" % path
    return ""


def installed(digest, why):
    # type: (str, list[list[str]]) -> tuple[str, str] | None
    """The directory of the package and its base, or None; `why` gets what spoke against each base."""
    for base in bases():
        try:
            problem = not_private(base)
        except (OSError, ValueError):
            continue
        if problem:
            why.append([base, problem])
        elif whole(os.path.join(base, "rt", digest)):
            return os.path.join(base, "rt", digest), base
    return None


def usable(base):
    # type: (str) -> None
    """Make the base and write into it. Raises OSError."""
    os.makedirs(os.path.join(base, "rt"), 0o700, exist_ok=True)  # another bootstrap may make it at the same moment
    problem = not_private(base)
    if problem:
        raise OSError(errno.EPERM, problem)
    test = os.path.join(base, "rt", ".tmp-test-%d" % os.getpid())
    try:
        with open(test, "wb") as file:
            file.write(b"x" * 4096)
    finally:
        try:
            os.unlink(test)
        except OSError:  # a process of this number on another machine with this home was quicker
            pass


def locked(base):
    # type: (str) -> int | None
    """A descriptor that holds the lock of all installs there; None when it cannot be had in time: then we go on without."""
    import fcntl

    try:
        lock, end = os.open(os.path.join(base, "rt", ".lock"), os.O_CREAT | os.O_RDWR, 0o600), time.time() + WAITS
        while time.time() < end:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return lock
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EACCES):
                    break
            time.sleep(0.05)
    except OSError:
        pass
    return None


def received(count):
    # type: (int) -> Iterator[bytes]
    """So many bytes, in pieces as they come."""
    while count:
        part = os.read(0, min(count, 1 << 20))
        if not part:
            sys.exit(DONE)  # the other side is gone: nobody to tell
        count -= len(part)
        yield part


def forms():
    # type: () -> list[str]
    """How the archive may come: each needs a module that some Pythons were built without."""
    found = ["tar"]
    for form in ("gz", "xz"):
        try:
            __import__(MODULES[form])
            found.insert(0, form)
        except ImportError:
            pass
    return found


def forget(base):
    # type: (str) -> None
    """Leave no empty directories where nothing could be put."""
    try:
        for path in (os.path.join(base, "rt"), base):
            os.rmdir(path)
    except OSError:
        pass


def sweep(base, place):
    # type: (str, str) -> None
    """Remove what installs that were cut off have left: as old as it is by the clock that `place` was just written with."""
    above, now = os.path.join(base, "rt"), os.stat(os.path.join(place, ".ok")).st_mtime
    for name in os.listdir(above):
        path = os.path.join(above, name)
        try:
            if name.startswith(".tmp-") and (name.startswith(".tmp-old-") or os.stat(path).st_mtime < now - STALE):
                remove(path)
        except OSError:  # another one was quicker
            pass


def takes(base, why):
    # type: (str, list[list[str]]) -> bool
    """Whether the base can be written; asked when it is its turn, since what is not needed is not made."""
    try:
        usable(base)
        return True
    except (OSError, ValueError) as error:
        why.append([base, getattr(error, "strerror", None) or str(error)])
        return False


def install(nonce, digest, why):
    # type: (str, str, list[list[str]]) -> tuple[str, str]
    """Ask for the package and put it into the first base that takes it. Gives its directory and base; ends without one."""
    import signal

    before = [(number, signal.signal(number, leave)) for number in (signal.SIGHUP, signal.SIGTERM)]
    lock = files = None
    for base in bases():
        if not takes(base, why):
            continue
        place = Place(base, digest, nonce)
        try:
            if files is None:
                lock = locked(base)
                found = installed(digest, [])
                if found is not None:
                    break
                files = asked(nonce, digest, place)
            else:
                place.put(files)
            found = place.settle(), base
            sweep(base, found[0])
            break
        except (OSError, ValueError) as error:
            why.append([base, getattr(error, "strerror", None) or str(error)])
            forget(base)
        finally:
            place.clear()
    else:
        say(nonce, failed="room", bases=why)
        sys.exit(DONE)
    if lock is not None:
        os.close(lock)
    for number, handler in before:
        signal.signal(number, handler)
    return found


def leave(number, _):
    # type: (int, object) -> None
    """At a signal that ends us: nothing is left half-written."""
    import signal

    signal.signal(number, signal.SIG_IGN)  # who sends it twice gets no more than that
    sys.exit(DONE)


def asked(nonce, digest, place):
    # type: (str, str, Place) -> list[tuple[str, bytes]]
    """The files of the package, which are put into the place as they come; ends when what comes is something else."""
    say(nonce, need=digest, forms=forms(), python=sys.executable)
    import select

    form, count = b"".join(received(HEAD)).decode().split()
    left = int(count)
    try:
        comes = Archive(form)
        place.begin()
        for piece in received(left):
            left -= len(piece)
            place.put(comes.take(piece))
            while left and not select.select([0], [], [], 0)[0] and place.compiles():
                pass
        say(nonce, got=int(count))
        place.end()
        return comes.whole(digest)
    except Exception as error:  # whatever a decompressor and an archive can raise
        say(nonce, failed="archive", why=str(error))
        sys.exit(DONE)


def main():
    # type: () -> None
    nonce, digest, verb = sys.argv[2:5]
    os.umask(int("077", 8))
    if sys.version_info < OLDEST:
        sys.exit(TOO_OLD)
    try:
        for module in NEEDED:
            __import__(module)
    except ImportError as error:
        say(nonce, lacks=str(error), python=sys.executable)
        sys.exit(LACKS)
    why = []  # type: list[list[str]]
    place = installed(digest, why) or install(nonce, digest, why)
    sys.path.insert(0, place[0])
    __import__("opagent.landing").landing.land(nonce, verb, place[1], digest)
    sys.exit(DONE)
