"""Opening the database: lock, file modes, connections, migration, damage; after that it is the writer's alone."""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
import stat
import time
from dataclasses import dataclass
from pathlib import Path

from opagent import files, mounts, paths
from opagent.errors import StoreFailed
from opagent.store import chain, migrations

QUICK = 128 * 2**20  # bytes: up to here an unclean stop is checked before the first use (0.1 s), above it in the background
CHECKED = 2 * 2**30  # bytes: above, the background check is left to `opagent doctor`
_DYING = 1.0  # seconds: the kernel closes the files of a killed process one by one, and this lock may be the last
_AUTOCHECKPOINT = 32_000  # pages, 128 MiB: the bound under a load without a pause; else the writer folds in when it is quiet
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


@dataclass(frozen=True, slots=True)
class Opened:
    connection: sqlite3.Connection
    reader: sqlite3.Connection
    lock: int  # descriptor; closing it gives the database up
    gap: str | None  # why the journal does not go on where it was last seen to end
    check_later: bool  # an unclean stop and a file too large to be checked now


def open_database(path: Path) -> Opened:
    """Raises StoreFailed (shared file system, in use, newer, damaged: then the file was moved aside) and NotPrivate."""
    files.private_directory(path.parent)
    kind = mounts.untold(str(path.parent))
    if kind:
        hint = f"set OPAGENT_STATE_DIR to a local directory, for example {paths.local()}"
        raise StoreFailed(f"the state directory {path.parent} lies on {kind}", "a database is not safe there", hint)
    held = _lock(path)
    try:
        return _open_locked(path, held)
    except BaseException:
        os.close(held)
        raise


def _lock(path: Path) -> int:
    name = paths.database_lock(path)
    try:
        fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _failed(path, error) from error
    end, here = time.monotonic() + _DYING, paths.here()
    while not _taken(fd):
        if time.monotonic() > end:
            pid, _, place = os.pread(fd, 64, 0).decode("ascii", "replace").strip().partition(" ")
            os.close(fd)
            why = f"its pid is {pid or 'unknown'}"
            if place not in ("", here):
                why += " on another machine or in another container; OPAGENT_SHARED_HOME=1 on each gives them one of their own"
            raise StoreFailed(f"another process uses the database {path}", why, "opagent daemon status")
        time.sleep(0.02)
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()} {here}\n".encode(), 0)
    return fd


def _taken(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _open_locked(path: Path, held: int) -> Opened:
    noted = noted_head(path)
    existed = _prepare_file(path)
    if existed and noted and path.stat().st_size == 0:
        raise _aside(path, "the file is empty")
    unclean = existed and _size(path.with_name(f"{path.name}-wal")) > 0
    size = _size(path)
    try:
        connection = connect(path)
        try:
            migrations.migrate(connection)
            if unclean and size <= QUICK:
                check(connection)
            gap = _gap(connection, noted)
            reader = connect_reader(path)
        except BaseException:
            connection.close()
            raise
    except sqlite3.Error as error:
        if damaged(error):
            raise _aside(path, str(error)) from error
        raise _failed(path, error) from error
    return Opened(connection, reader, held, gap, unclean and QUICK < size <= CHECKED)


def _prepare_file(path: Path) -> bool:
    """Whether the file was there. SQLite gives the WAL and the shared memory the same mode as the file."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        found = path.lstat()
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
            raise StoreFailed(f"{path} is not a file of ours", hint=f"ls -l {path}") from None
        if found.st_mode & 0o077:
            path.chmod(0o600)
        return True
    except OSError as error:
        raise _failed(path, error) from error
    return False


def connect(path: Path) -> sqlite3.Connection:
    """The writing connection. Raises sqlite3.Error."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5)
    try:
        mode = connection.execute("pragma journal_mode=wal").fetchone()[0]
        if mode != "wal":
            raise sqlite3.OperationalError(f"journal mode {mode} instead of wal")
        connection.execute("pragma synchronous=normal")
        connection.execute(f"pragma wal_autocheckpoint={_AUTOCHECKPOINT}")
        connection.execute("pragma secure_delete=on")  # what is purged is gone from the file, not only from the table
        connection.execute("pragma fullfsync=1")  # macOS: a barrier reaches the disk, not only the drive
    except BaseException:
        connection.close()
        raise
    return connection


def connect_reader(path: Path) -> sqlite3.Connection:
    """A connection that cannot write and never checkpoints. Raises sqlite3.Error.

    It reads once, because SQLite opens the file only then: a reader that is there keeps the shared memory alive while the
    writer reopens, and so reading goes on when the disk takes no byte any more.
    """
    quoted = str(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    connection = sqlite3.connect(f"file:{quoted}?mode=ro", uri=True, isolation_level=None, check_same_thread=False, timeout=5)
    try:
        connection.execute("pragma query_only=1")
        connection.execute("select count(*) from sqlite_schema").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


def check(connection: sqlite3.Connection) -> None:
    """SQLite's quick_check and the link of the last row. Raises sqlite3.DatabaseError with the code of a corrupt file."""
    said = connection.execute("pragma quick_check(1)").fetchone()[0]
    if said != "ok":
        raise _corrupt(said)


def _corrupt(why: str) -> sqlite3.DatabaseError:
    error = sqlite3.DatabaseError(why)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


def damaged(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGE


def noted_head(path: Path) -> chain.Head | None:
    """What `note_head` wrote last, or None."""
    try:
        said = json.loads(paths.database_head(path).read_bytes())
        return chain.Head(int(said["seq"]), bytes.fromhex(said["link"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None  # it only helps to notice a loss; a database without it is as good


def note_head(path: Path, head: chain.Head) -> None:
    content = json.dumps({"seq": head.seq, "link": head.link.hex()}).encode()
    try:
        files.write_whole(paths.database_head(path), content, sync=False)
    except OSError:
        return  # a full disk: the database itself says so


def _gap(connection: sqlite3.Connection, noted: chain.Head | None) -> str | None:
    rows = connection.execute("select seq, link, head, sum from journal order by seq desc limit 2").fetchall()
    if len(rows) == 2 and chain.next_link(rows[1][1], rows[0][2], rows[0][3]) != rows[0][1]:
        return f"the last row, {rows[0][0]}, does not fit the one before it"
    seq = rows[0][0] if rows else 0
    if noted is None or noted.seq == 0:
        return None
    if seq < noted.seq:
        return f"the journal ends at {seq}, it once reached {noted.seq}"
    found = connection.execute("select link from journal where seq = ?", (noted.seq,)).fetchone()
    return None if found == (noted.link,) else f"row {noted.seq} is not the one that was there"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _aside(path: Path, why: str) -> StoreFailed:
    """Move the damaged file and its companions away; the next start makes a new database and records the gap."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    kept = path.with_name(f"{path.name}.damaged-{stamp}")
    for suffix in ("-wal", "-shm", ""):
        source = path.with_name(path.name + suffix)
        if source.exists():
            os.rename(source, kept.with_name(kept.name + suffix))
    copy = paths.database_copy(path)
    other = f"; or first, to go on from the last daily copy: cp {copy} {path}" if copy.exists() else ""
    return StoreFailed(
        "the database is damaged",
        f"{why}; it was kept as {kept}. The conversation files are whole; given trust and the log of events are not carried over",
        f"run the command again: it starts with a new database{other}",
    )


def _failed(path: Path, error: Exception) -> StoreFailed:
    return StoreFailed(f"the database {path} cannot be opened", str(error), f"ls -ld {path.parent} {path}")
