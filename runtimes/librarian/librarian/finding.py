"""`/find WORDS`: the lines that hold words, in the order of the files."""

import re
import sqlite3
from collections.abc import Iterator

from librarian import query
from librarian.answer import caution_missing, files, listed
from librarian.library import Library
from librarian.marks import CLOSE, OPEN
from librarian.quotes import code, link, shorten
from librarian.turn import Turn
from librarian.words import is_dense, words_of

SHOWN = 50
PASSAGES = 2000  # looked at
_MARK = re.compile(f"[{OPEN}{CLOSE}]")


def find(turn: Turn, library: Library, argument: str) -> None:
    question = query.understand(argument, keep_all=True)
    if question.empty:
        turn.say("Say which words: `/find WORDS`. Words in quotation marks are found side by side.\n")
        return
    words = ", ".join(term.text for term in question.terms[:8])
    count = library.count()
    tool = turn.tool("search", f"Find {words} in {files(count)}")
    terms, found = library.search.known(question)
    rows = _lines(library.db, query.all_of(terms), argument) if terms and not found.missing else []
    together = bool(rows)
    if terms and not rows:
        rows = _lines(library.db, query.any_of(terms), argument)
    tool.done(
        f"Find {words} in {files(count)}: {len(rows):,} lines",
        locations=[turn.location(path, line) for path, line, _ in rows[:SHOWN]],
    )
    if not rows:
        turn.say(f"No line holds {listed([term.text for term in question.terms])}. I searched {files(count)}.\n")
        return
    head = caution_missing(found)
    if not together and len(question.terms) > 1:
        head += "No passage holds all of these words; these lines hold one of them.\n\n"
    out = [f"- {link(path, line, turn.scope.base)} {code(text)}" for path, line, text in rows[:SHOWN]]
    places = len({path for path, _, _ in rows})
    more = f"; the first {SHOWN} are shown" if len(rows) > SHOWN else ""
    number = "1 line" if len(rows) == 1 else f"{len(rows):,} lines"
    turn.say(f"{head}" + "\n".join(out) + f"\n\n*{number} in {files(places)}{more}. Searched {files(count)}.*\n")


def _lines(db: sqlite3.Connection, expression: str, asked: str) -> list[tuple[str, int, str]]:
    statement = (
        "SELECT files.path, passages.line, body, highlight(words, 2, ?, ?) FROM words "
        "JOIN passages ON passages.id = words.rowid JOIN files ON files.id = passages.file "
        "WHERE words MATCH ? ORDER BY files.path, passages.line, passages.id LIMIT ?"
    )
    dense = [run for run in words_of(asked.casefold()) if is_dense(run)]
    result: dict[tuple[str, int], str] = {}
    for path, line, body, marked in db.execute(statement, (OPEN, CLOSE, expression, PASSAGES)):
        for number, text in _matching(body, marked, dense):
            result.setdefault((path, line + number), text)
    return [(path, line, text) for (path, line), text in result.items()]


def _matching(body: str, marked: str, dense: list[str]) -> Iterator[tuple[int, str]]:
    for number, (line, marks) in enumerate(zip(body.split("\n"), marked.split("\n"), strict=True)):
        if OPEN in marks or any(run in line.casefold() for run in dense):
            yield number, shorten(line, marks, 200).strip()
