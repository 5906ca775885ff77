"""Finds and ranks passages in an index: which hold what was asked, and what was probably meant instead."""

import math
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from librarian import query
from librarian.marks import CLOSE, OPEN
from librarian.spelling import Spelling
from librarian.words import is_dense

CANDIDATES = 60
WEIGHTS = "4.0, 1.0, 1.0, 2.0, 1.5"  # nearest heading, those above it, body, path, grams
CORRECTED = 6  # unknown words of one question that are looked up as misspelt; each costs a pass over the vocabulary
NEARNESS = 1.3  # a passage where words of the question stand side by side
FAVOUR = 1.5  # a passage of the file that the person looks at


@dataclass(frozen=True, slots=True)
class Hit:
    path: str
    line: int  # of the passage's first line
    trail: tuple[str, ...]
    body: str
    marked: str  # the body with OPEN and CLOSE around what matched
    score: float
    holds: frozenset[str]  # the terms it holds


@dataclass(slots=True)
class Found:
    hits: list[Hit] = field(default_factory=list)
    terms: tuple[query.Term, ...] = ()  # those that stand anywhere in the workspace
    missing: list[str] = field(default_factory=list)  # words that stand nowhere
    weights: dict[str, float] = field(default_factory=dict)  # how rare each term is
    read_as: dict[str, str] = field(default_factory=dict)  # misspelt word -> word of the workspace


_Row = tuple[int, str, int, str, str, str, str, float]  # rowid, path, line, heading, trail, body, marked body, bm25


class Search:
    """Questions to one open index. Raises sqlite3.OperationalError when the turn is cancelled meanwhile."""

    def __init__(self, db: sqlite3.Connection, check: Callable[[], None]) -> None:
        self._db = db
        self._check = check
        self._spelling = Spelling(db, check)

    def ask(self, question: query.Question, favoured: str = "") -> Found:
        """The best passages, best first. `favoured`: a file or directory that the person looks at."""
        terms, found = self.known(question)
        if not terms:
            return found
        found.terms = terms
        rows = self._rank(question, found)
        strength = {term.text: found.weights[term.text] for term in terms}
        hits = [_hit(row, strength, favoured) for row in rows]
        found.hits = sorted(hits, key=lambda hit: (-hit.score, hit.path, hit.line))
        return found

    def known(self, question: query.Question) -> tuple[tuple[query.Term, ...], Found]:
        """The terms that stand in the workspace, the rarest first kept, and what is to be said about the others."""
        found = Found()
        seen = {term: self._matching(term) for term in question.terms}
        unknown = [term for term in seen if not seen[term] and not term.piece]
        # A word beside others that are known is corrected only where it is nearly certain.
        edits = 1 if len(unknown) < len(seen) else 2
        for term in unknown:
            meant = self._meant(term, edits) if len(found.read_as) + len(found.missing) < CORRECTED else None
            if meant is None:
                found.missing.append(term.text)
            else:
                found.read_as[term.text] = meant.text
                seen[meant] = self._matching(meant)
        total = max(1, self._count("SELECT count(*) FROM passages"))
        found.weights = {term.text: math.log(1 + total / number) for term, number in seen.items() if number}
        terms = [term for term in seen if seen[term]]
        best = sorted(terms, key=lambda term: -found.weights[term.text])[: query.TERM_LIMIT]
        return tuple(term for term in terms if term in best), found

    def _meant(self, term: query.Term, edits: int) -> query.Term | None:
        self._check()
        if is_dense(term.text) or " " in term.text:
            return None
        return self._spelling.suggestion(term.text, 1 if len(term.text) < 6 else edits)

    def _matching(self, term: query.Term) -> int:
        self._check()
        return self._count("SELECT count(*) FROM words WHERE words MATCH ?", term.expression)

    def _count(self, statement: str, *values: str) -> int:
        return int(self._db.execute(statement, values).fetchone()[0])

    def _rank(self, question: query.Question, found: Found) -> list[tuple[_Row, float, set[str]]]:
        rows = self._candidates(query.any_of(found.terms))
        if len(found.terms) > 1:  # a long passage that holds all may rank below many short ones that hold one
            rows |= self._candidates(query.all_of(found.terms))
        holds = self._holding(rows, found.terms)
        close = self._within(rows, query.near(question.words))
        return [(row, NEARNESS if rowid in close else 1.0, holds[rowid]) for rowid, row in rows.items()]

    def _candidates(self, expression: str) -> dict[int, _Row]:
        statement = (
            "SELECT words.rowid, files.path, passages.line, heading, trail, body, highlight(words, 2, ?, ?), "
            f"bm25(words, {WEIGHTS}) AS score FROM words JOIN passages ON passages.id = words.rowid "
            "JOIN files ON files.id = passages.file WHERE words MATCH ? ORDER BY score LIMIT ?"
        )
        return {row[0]: row for row in self._db.execute(statement, (OPEN, CLOSE, expression, CANDIDATES))}

    def _holding(self, rows: dict[int, _Row], terms: Sequence[query.Term]) -> dict[int, set[str]]:
        holds: dict[int, set[str]] = {rowid: set() for rowid in rows}
        for term in terms:
            self._check()
            for rowid in self._within(rows, term.expression):
                holds[rowid].add(term.text)
        return holds

    def _within(self, rows: dict[int, _Row], expression: str) -> set[int]:
        if not expression or not rows:
            return set()
        wanted = ",".join(str(rowid) for rowid in rows)
        statement = f"SELECT rowid FROM words WHERE words MATCH ? AND rowid IN ({wanted})"  # integers of ours
        return {row[0] for row in self._db.execute(statement, (expression,))}


def _hit(row: tuple[_Row, float, set[str]], strength: dict[str, float], favoured: str) -> Hit:
    """The score is bm25, times how much of the question (by weight of its words) the passage holds."""
    (_, path, line, heading, trail, body, marked, rank), close, holds = row
    share = sum(strength[text] for text in holds) / (sum(strength.values()) or 1.0)
    score = -rank * close * (0.25 + 0.75 * share * share)
    if favoured and (path == favoured or path.startswith(f"{favoured}/")):
        score *= FAVOUR
    return Hit(path, line, tuple(filter(None, (*trail.split("\n"), heading))), body, marked, score, frozenset(holds))
