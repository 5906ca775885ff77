"""The workspace as the commands see it: its index, brought up to date for this turn, and what was left out of it."""

import posixpath
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from librarian.index import Index, State, remove
from librarian.search import Search
from librarian.sections import Heading
from librarian.turn import Tool, Turn
from librarian.wire import log


class Library:
    """An up-to-date index for one turn."""

    def __init__(self, index: Index, turn: Turn, state: State) -> None:
        self.db = index.db
        self.turn = turn
        self.state = state
        self.search = Search(index.db, turn.check)

    def count(self) -> int:
        """How many files were read."""
        return int(self.db.execute("SELECT count(*) FROM files WHERE note IS NULL").fetchone()[0])

    def paths(self) -> list[str]:
        return [row[0] for row in self.db.execute("SELECT path FROM files WHERE note IS NULL ORDER BY path")]

    def paths_at(self, argument: str) -> list[str]:
        """The files at a path of the workspace: itself or all below it; every file for an empty one."""
        wanted = posixpath.normpath(argument.strip().strip("`").removeprefix("@").strip("\"'")) if argument else "."
        wanted = wanted.removeprefix(f"{self.turn.scope.root}/")
        if wanted in (".", self.turn.scope.root):
            return self.paths()
        return [path for path in self.paths() if path == wanted or path.startswith(f"{wanted}/")]

    def headings(self, path: str) -> list[Heading]:
        rows = self.db.execute(
            "SELECT level, text, headings.line FROM headings JOIN files ON files.id = headings.file "
            "WHERE path = ? ORDER BY headings.line",
            (path,),
        )
        return [Heading(*row) for row in rows]

    def left_out(self) -> str:
        """What was not read, in words; empty when everything was."""
        reasons = dict(self.state.survey.skipped)
        for note, number in self.db.execute("SELECT note, count(*) FROM files WHERE note IS NOT NULL GROUP BY note"):
            reasons[note] = reasons.get(note, 0) + number
        return ", ".join(f"{number:,} {reason}" for reason, number in sorted(reasons.items()))


@contextmanager
def opened(turn: Turn) -> Iterator[Library]:
    """The library of a turn. Raises IndexFailed, OSError, Cancelled."""
    index = Index(turn.scope, turn.check)
    try:
        yield Library(index, turn, _update(index, turn))
    finally:
        index.close()


def _update(index: Index, turn: Turn) -> State:
    shown: list[Tool] = []

    def report(done: int, total: int) -> None:
        title = f"Index {_number(total)}" if total else "Wait for the index that another librarian makes"
        if not shown:
            shown.append(turn.tool("read", title))
        else:
            shown[0].progress(f"{title}: {done:,} read")

    state = index.update(report)
    if shown:
        shown[0].done(f"Index {_number(state.changed)}: done" if state.changed else "Index: done")
    if state.shared and not state.complete:
        turn.say("*Another librarian is still reading this workspace; this is what it has read so far.*\n\n")
    return state


def _number(files: int) -> str:
    return "1 changed file" if files == 1 else f"{files:,} files"


def with_library(turn: Turn, work: Callable[[Library], None]) -> None:
    """Runs `work` on the library; a damaged index is made anew, once. Raises as `opened`, and sqlite3.Error."""
    for last in (False, True):
        try:
            with opened(turn) as library:
                work(library)
            return
        except sqlite3.DatabaseError as error:
            turn.check()  # an interrupted statement is a cancelled turn
            if last:
                raise
            log(f"index made anew: {error}")
            discard(turn)


def discard(turn: Turn) -> None:
    remove(Index.path_of(turn.scope))
