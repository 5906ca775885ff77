"""What was probably meant by a word that stands nowhere: one that begins like it, or one an edit or two away."""

import re
import sqlite3
from collections.abc import Callable

from librarian import query
from librarian.marks import CLOSE, OPEN
from librarian.words import distance

VOCABULARY = 300_000  # stems looked at
PLAUSIBLE = 12  # stems whose written forms are compared
WRITTEN = 40  # passages looked at for the written forms of a stem
ENDING = 5  # characters that a stem may be shorter than the word it came from

_MARKED = re.compile(f"{OPEN}([^{CLOSE}]*){CLOSE}")


class Spelling:
    """Suggestions from the words of one open index."""

    def __init__(self, db: sqlite3.Connection, check: Callable[[], None]) -> None:
        self._db = db
        self._check = check
        db.execute("CREATE VIRTUAL TABLE IF NOT EXISTS temp.vocabulary USING fts5vocab(main, words, row)")

    def suggestion(self, word: str, limit: int) -> query.Term | None:
        """`limit`: how many edits away the word may be."""
        if len(word) < 3:
            return None
        start = query.prefix(word)
        begins = [form for form in self._written(start) if form.startswith(word)] if len(word) > 3 else []
        if begins:
            return query.Term(min(begins, key=lambda form: (len(form), form)), start.expression)
        best: tuple[int, str] | None = None
        for stem in self._plausible(word, limit):
            self._check()
            for form in self._written(query.Term(stem, query.anywhere(stem))):
                apart = distance(word, form, limit)
                if apart <= limit and (best is None or (apart, form) < best):
                    best = (apart, form)
        return query.Term(best[1], query.anywhere(best[1])) if best else None

    def _plausible(self, word: str, limit: int) -> list[str]:
        """The index holds stems (`headings` is `head` there): those that the beginning of the word is close to."""
        ranked: list[tuple[int, int, str]] = []
        statement = "SELECT term, doc FROM temp.vocabulary WHERE length(term) BETWEEN ? AND ? LIMIT ?"
        lengths = (max(2, len(word) - limit - ENDING), len(word) + limit)
        for number, (stem, seen) in enumerate(self._db.execute(statement, (*lengths, VOCABULARY))):
            if number % 5000 == 0:
                self._check()
            if stem[0] in word[:2] or word[0] in stem[:2]:
                apart = min(distance(word[:end], stem, limit) for end in {len(stem), min(len(word), len(stem) + 1)})
                if apart <= limit and apart < len(stem) / 2:
                    ranked.append((apart - (len(stem) - len(word)) // 4, -seen, stem))
        return [stem for _, _, stem in sorted(ranked)[:PLAUSIBLE]]

    def _written(self, term: query.Term) -> set[str]:
        """How a stem is written in the workspace."""
        rows = self._db.execute(
            "SELECT highlight(words, 0, ?, ?), highlight(words, 2, ?, ?) FROM words WHERE words MATCH ? LIMIT ?",
            (OPEN, CLOSE, OPEN, CLOSE, term.expression, WRITTEN),
        )
        return {form.casefold() for row in rows for text in row for form in _MARKED.findall(text)}
