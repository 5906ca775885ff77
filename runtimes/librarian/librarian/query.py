"""A question -> what to search for: words, phrases, and FTS5 expressions that are always well-formed. Pure."""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

from librarian.words import is_dense, pairs, words_of

QUESTION_SIZE = 20_000  # characters that are looked at
TERM_LIMIT = 24
PHRASE_LIMIT = 8
TERM_SIZE = 100

# What English questions are made of. Other languages need none: there such words are frequent, and rank low by that.
_STOP_WORDS = """
a about after all also am an and any are aren as at be because been before being between both but by can cannot could
couldn d did didn do does doesn doing don else ever every few find for from get give given gives had happen happened
happens has hasn have haven having he her here hers him his how however i if in into is isn it its just know let like
ll m may me mean means might more most much must my need no nor not now of off on once one only or other our out over
own please re s say says shall she should shouldn show so some such t tell than that the their them then there these
they this those through to too under up us use used using ve very want was wasn way we were what whats when where
whether which while who whom whose why will with without won would wouldn yes you your yours
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())

_QUOTED = re.compile(r"[\"“„«]([^\"“”„«»]{2,200})[\"”“»]")


@dataclass(frozen=True, slots=True)
class Term:
    """One thing to search for: a word, or several in a row (quoted, or a run of a script without spaces)."""

    text: str
    expression: str  # FTS5
    piece: bool = False  # a pair of signs out of a longer run, where nobody knows which pairs are words


@dataclass(frozen=True, slots=True)
class Question:
    terms: tuple[Term, ...]
    words: tuple[str, ...]  # the plain words among them, in their order

    @property
    def empty(self) -> bool:
        return not self.terms


def quoted(word: str) -> str:
    """An FTS5 string: no character of it means anything but itself."""
    return '"' + word.replace("\0", " ").replace('"', '""') + '"'


def understand(text: str, keep_all: bool = False) -> Question:
    """The terms of a question. Words that only make the question are left out, unless nothing else is there or
    `keep_all` (the person listed words)."""
    text = text[:QUESTION_SIZE].replace("\0", " ")
    phrases = [phrase for phrase in _QUOTED.findall(text) if len(words_of(phrase)) > 1][:PHRASE_LIMIT]
    terms = {phrase.casefold(): _phrase(phrase) for phrase in phrases}
    every = list(dict.fromkeys(word.casefold() for word in words_of(text) if len(word) <= TERM_SIZE))
    telling = [word for word in every if keep_all or word not in STOP_WORDS]
    words = (telling or every)[:200]
    for word in words:
        if not any(word in words_of(phrase.casefold()) for phrase in phrases):
            split = [] if keep_all else _pieces(word)
            terms |= {term.text: term for term in split or [_term(word)]}
    return Question(tuple(terms.values())[:200], tuple(word for word in words if not is_dense(word)))


def _term(word: str) -> Term:
    if not is_dense(word):
        return Term(word, f"{{heading trail body path}} : {quoted(word)}")
    if len(word) == 1:
        return Term(word, f"grams : {quoted(word)} *")
    return Term(word, f"grams : {quoted(' '.join(pairs(word).split()[:-1]))}")


def _pieces(word: str) -> list[Term]:
    """A run of more than two signs is probably several words; each of its pairs is searched for."""
    if not is_dense(word) or len(word) <= 2:
        return []
    return [Term(pair, f"grams : {quoted(pair)}", piece=True) for pair in pairs(word).split()[:-1]]


def _phrase(phrase: str) -> Term:
    parts = words_of(phrase)
    if any(is_dense(part) for part in parts):
        return Term(phrase, "(" + " AND ".join(_term(part.casefold()).expression for part in parts) + ")")
    return Term(phrase, f"{{heading trail body}} : {quoted(phrase)}")


def prefix(word: str) -> Term:
    return Term(f"{word}…", f"{{heading trail body path}} : {quoted(word)} *")


def all_of(terms: Sequence[Term]) -> str:
    return " AND ".join(f"({term.expression})" for term in terms)


def any_of(terms: Sequence[Term]) -> str:
    return " OR ".join(f"({term.expression})" for term in terms)


def near(words: Sequence[str], distance: int = 6) -> str:
    """Neighbouring words of the question that stand close together in the text; empty for fewer than two words."""
    close = [f"NEAR({quoted(one)} {quoted(two)}, {distance})" for one, two in itertools.pairwise(words)]
    return "{heading trail body} : (" + " OR ".join(close[:TERM_LIMIT]) + ")" if close else ""


def anywhere(word: str) -> str:
    return f"{{heading trail body path}} : {quoted(word)}"
