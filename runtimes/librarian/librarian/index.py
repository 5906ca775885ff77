"""The full-text index of one workspace: an SQLite database outside it, brought up to date before each answer.

It holds copies of passages and no decision: losing it costs a second, so anything wrong with it means a new one.
"""

import fcntl
import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from librarian import places, sections, tree
from librarian.walk import Scope, Survey, walk
from librarian.words import grams

FORMAT = 3
MOMENT = 1.0  # seconds to wait for another librarian that brings a complete index up to date
FIRST_INDEX = 120.0  # seconds to wait for the one that makes the first index
PROGRESS = 1.0  # seconds between two reports
_CONVERSATION = re.compile(r"---\r?\n(?:(?!---).*\n){0,40}?opagent:")
STALE = 7 * 86400.0  # seconds after which the index of earlier rules is removed

_SCHEMA = """
CREATE TABLE files (id INTEGER PRIMARY KEY, path TEXT UNIQUE, mtime INTEGER, ctime INTEGER, size INTEGER, inode INTEGER,
  note TEXT, lines INTEGER);
CREATE TABLE passages (id INTEGER PRIMARY KEY, file INTEGER, line INTEGER);
CREATE INDEX passages_file ON passages (file);
CREATE TABLE headings (file INTEGER, line INTEGER, level INTEGER, text TEXT);
CREATE INDEX headings_file ON headings (file);
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT);
CREATE VIRTUAL TABLE words USING fts5 (heading, trail, body, path, grams,
  tokenize = "porter unicode61 remove_diacritics 2");
"""

Check = Callable[[], None]
Report = Callable[[int, int], None]  # how many files are read, of how many; 0, 0: another librarian makes the first index


class IndexFailed(Exception):
    """SQLite cannot do it here; the sentence says why."""


@dataclass(slots=True)
class State:
    """How an update went. `complete`: the index holds all files of the last walk."""

    complete: bool
    survey: Survey = field(default_factory=Survey)
    changed: int = 0
    shared: bool = False  # another librarian held the lock: this is the index as it left it


class Index:
    """One workspace's index, opened by one thread for one turn. Raises IndexFailed."""

    def __init__(self, scope: Scope, check: Check) -> None:
        self._scope = scope
        self._check = check
        self._stem: str | None = self.path_of(scope).removesuffix(".db")
        try:
            os.makedirs(os.path.dirname(self._stem), mode=0o700, exist_ok=True)
            self.db = self._open(f"{self._stem}.db")
        except (OSError, sqlite3.Error):
            self._stem = None  # a full disk or a read-only home: the index lives as long as this turn
            self.db = self._open(":memory:")
        self.db.set_progress_handler(self._interrupt, 20_000)

    @staticmethod
    def path_of(scope: Scope) -> str:
        directory, stem = places.index_stem(scope.root, f"{FORMAT} {scope.conversations} {scope.rules.key}")
        return os.path.join(directory, f"{stem}.db")

    def close(self) -> None:
        self.db.close()

    def _interrupt(self) -> int:
        try:
            self._check()
        except BaseException:  # raised again by the caller's own check; SQLite only needs to stop
            return 1
        return 0

    def _open(self, path: str) -> sqlite3.Connection:
        for last in (False, True):
            db = sqlite3.connect(path, timeout=5.0, isolation_level=None, check_same_thread=False)
            try:
                db.execute("PRAGMA journal_mode = WAL")
                db.execute("PRAGMA synchronous = NORMAL")
                db.execute("PRAGMA cache_size = -65536")
                self._make(db)
                return db
            except sqlite3.DatabaseError as error:
                db.close()
                if "no such module" in str(error):
                    raise IndexFailed("this Python's SQLite has no full-text search (FTS5)") from error
                if last or isinstance(error, sqlite3.OperationalError):
                    raise
                remove(path)  # "file is not a database": damaged, or not ours
        raise IndexFailed("the index cannot be opened")

    def _make(self, db: sqlite3.Connection) -> None:
        if db.execute("SELECT 1 FROM sqlite_master WHERE name = 'words'").fetchone():
            return
        db.execute("BEGIN IMMEDIATE")
        try:
            if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'words'").fetchone():
                for statement in _SCHEMA.split(";\n"):
                    db.execute(statement)
                db.execute("INSERT INTO facts VALUES ('complete', '0')")
        finally:
            db.execute("COMMIT")

    # -- bringing it up to date

    def update(self, report: Report) -> State:
        """Walks the workspace and takes in what changed. Raises IndexFailed, OSError (no workspace) and what `check`
        raises; then what was read so far stays."""
        with self._lock(report) as held:
            if not held:
                return State(self._complete(), shared=True)
            survey = walk(self._scope, self._check)
            known = {
                row[0]: (row[1], tree.Stamp(*row[2:]))
                for row in self.db.execute("SELECT path, id, mtime, ctime, size, inode FROM files")
            }
            gone = [known[path][0] for path in known if path not in survey.files]
            new = [path for path, stamp in survey.files.items() if path not in known or known[path][1] != stamp]
            if gone or new or not self._complete():
                stale = gone + [known[path][0] for path in new if path in known]
                self._write(survey, stale, new, report)
            self._tidy()
            return State(True, survey, len(gone) + len(new))

    def _write(self, survey: Survey, stale: list[int], new: list[str], report: Report) -> None:
        root = os.open(self._scope.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        complete = False
        self.db.set_progress_handler(None, 0)  # an interrupted INSERT would roll back all that was read before it
        self.db.execute("BEGIN IMMEDIATE")
        try:
            self.db.execute("UPDATE facts SET value = '0' WHERE name = 'complete'")
            for file in stale:
                self._check()
                self._forget(file)
            told = 0.0
            for done, path in enumerate(new):
                self._check()
                if time.monotonic() - told > PROGRESS:
                    report(done, len(new))
                    told = time.monotonic()
                self._take(root, path, survey.files[path])
            complete = True
        finally:
            os.close(root)
            if complete:
                self.db.execute("UPDATE facts SET value = '1' WHERE name = 'complete'")
            self.db.execute("COMMIT")
            self.db.set_progress_handler(self._interrupt, 20_000)

    def _forget(self, file: int) -> None:
        self.db.execute("DELETE FROM words WHERE rowid IN (SELECT id FROM passages WHERE file = ?)", (file,))
        self.db.execute("DELETE FROM passages WHERE file = ?", (file,))
        self.db.execute("DELETE FROM headings WHERE file = ?", (file,))
        self.db.execute("DELETE FROM files WHERE id = ?", (file,))

    def _take(self, root: int, path: str, stamp: tree.Stamp) -> None:
        note = None
        lines: list[str] = []
        try:
            text, stamp = tree.read_text(root, path)
            if _CONVERSATION.match(text):
                raise tree.Unreadable("conversation")  # wherever it lies: an answer is no source
            lines = sections.split_lines(text)
        except OSError as error:
            note = error.strerror or "unreadable"
        except tree.Unreadable as error:
            note = str(error)
        row = (path, stamp.mtime_ns, stamp.ctime_ns, stamp.size, stamp.inode, note, len(lines))
        file = self.db.execute(
            "INSERT INTO files (path, mtime, ctime, size, inode, note, lines) VALUES (?, ?, ?, ?, ?, ?, ?)", row
        ).lastrowid
        headings = sections.outline(lines).headings if sections.is_markdown(path) else []
        self.db.executemany(
            "INSERT INTO headings VALUES (?, ?, ?, ?)",
            [(file, heading.line, heading.level, heading.text) for heading in headings],
        )
        for passage in sections.passages(lines, headings):
            rowid = self.db.execute("INSERT INTO passages (file, line) VALUES (?, ?)", (file, passage.line)).lastrowid
            *above, heading = passage.trail or ("",)
            trail = "\n".join(above)
            self.db.execute(
                "INSERT INTO words (rowid, heading, trail, body, path, grams) VALUES (?, ?, ?, ?, ?, ?)",
                (rowid, heading, trail, passage.body, path, grams(f"{heading}\n{trail}\n{passage.body}")),
            )

    # -- one writer

    @contextmanager
    def _lock(self, report: Report) -> Iterator[bool]:
        """Yields False when another librarian keeps the lock for longer than a moment."""
        if self._stem is None:
            yield True
            return
        fd = os.open(f"{self._stem}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            yield self._acquire(fd, report)
        finally:
            os.close(fd)

    def _acquire(self, fd: int, report: Report) -> bool:
        begun = time.monotonic()
        told = False
        while True:
            self._check()
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                waited = time.monotonic() - begun
                if waited > (MOMENT if self._complete() else FIRST_INDEX):
                    return False
                if waited > MOMENT and not told:
                    told = True
                    report(0, 0)
            except OSError:
                return True  # a file system without locks: SQLite's own locking must do
            time.sleep(0.05)

    def _complete(self) -> bool:
        row = self.db.execute("SELECT value FROM facts WHERE name = 'complete'").fetchone()
        return row is not None and row[0] == "1"

    def _tidy(self) -> None:
        """Removes indexes of this workspace that were made under other rules and are no longer used."""
        if self._stem is None:
            return
        directory, stem = os.path.split(self._stem)
        os.utime(f"{self._stem}.db")
        oldest = time.time() - STALE
        with os.scandir(directory) as entries:
            for entry in entries:
                same_workspace = entry.name.split("-")[0] == stem.split("-")[0] and not entry.name.startswith(stem)
                if same_workspace and entry.name.endswith(".db") and entry.stat().st_mtime < oldest:
                    remove(entry.path)


def remove(path: str) -> None:
    for name in (path, f"{path}-wal", f"{path}-shm"):
        try:
            os.unlink(name)
        except FileNotFoundError:
            pass
