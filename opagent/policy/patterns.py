"""Shapes compiled for one pass over a text that comes in pieces: what is there, and what its end may cut. Pure.

API: `Patterns(shapes, telling)`: `touches` and `cut` say quickly that there is nothing, as in nearly every text; `places`,
`match` and `begun` say what there is. They look only for characters that every match has and text seldom, at 0.04 to 0.4 ns a
character for each; one alternation of all shapes takes hundreds.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from opagent.policy.shapes import Shape

_COMMON = ' etnosarild\ncpfh."um,g)(:w-yb_`vk=x|'  # characters of prose and code, the most frequent first
_ATOM = re.compile(r"(\[(?:\\.|[^\]])+\]|\\.|.)(?:\{(\d+)(?:,(\d+))?\})?", re.DOTALL)
_NEAR = 4
_NO_WORD = r"(?<![^\W_])"


class More(NamedTuple):
    """What goes on after a match: all of it that is there, and what the end cuts."""

    whole: re.Pattern[str]
    begun: re.Pattern[str]


class _Atom(NamedTuple):
    text: str
    least: int
    most: int


class Found(NamedTuple):
    """A match: where it begins, what of it is hidden, how that is called, and how it may go on."""

    begin: int
    start: int
    end: int
    name: str
    more: More | None = None


class Patterns:
    """A shape without `secret` stands for its starts themselves, of four characters at least.

    `telling`: so many characters of a start at the very end of a text are hidden even if nothing follows; 0: none are.
    """

    def __init__(self, shapes: Sequence[Shape], telling: int = 0) -> None:
        self.telling = telling
        self._shapes = [shape for shape in shapes if shape.secret]
        self._literals = {start: shape for shape in shapes if not shape.secret for start in shape.starts}
        self._whole = re.compile("|".join(_whole(shape, f"s{number}") for number, shape in enumerate(self._shapes)) or r"(?!)")
        self._begun = re.compile("|".join(map(_begun, self._shapes))) if self._shapes else None
        self._reach = max(map(_longest, shapes), default=0)
        watch = list(_watch(shapes))
        self._search = tuple((mark, pattern.search) for mark, pattern, _ in watch)
        self._watch = tuple((mark, pattern.finditer, offsets) for mark, pattern, offsets in watch)
        self._beginnings: dict[str, list[str]] = {}  # literals by how they begin, the longest first
        for literal in sorted(self._literals, key=len, reverse=True):
            self._beginnings.setdefault(literal[:_NEAR], []).append(literal)
        self._ends: dict[str, list[tuple[str, bool]]] = {}
        self._firsts: dict[str, bool] = {}
        for start, word in {start: shape.word for shape in shapes for start in shape.starts}.items():
            self._firsts[start[0]] = word and self._firsts.get(start[0], True)
            for length in range(2, len(start)):
                self._ends.setdefault(start[length - 2 : length], []).append((start[:length], word))

    def name_at(self, beginning: str) -> str:
        """Of the first literal that begins so."""
        return next(shape.name for literal, shape in self._literals.items() if literal.startswith(beginning))

    def touches(self, text: str) -> bool:
        """Whether a match lies in the text, or begins in it and is cut beyond its start."""
        for mark, search in self._search:  # noqa: SIM110  a generator would cost as much as all the rest
            if mark in text and search(text) is not None:
                return True
        return False

    def places(self, text: str, start: int) -> list[int]:
        """Where a match may begin from `start` on: `match` tells. In order; no match begins anywhere else."""
        found = {at.start() - before for _, scan, offsets in self._watch for at in scan(text, start) for before in offsets}
        return sorted(place for place in found if place >= start)

    def match(self, text: str, place: int) -> Found | None:
        """The match that begins here: the longest literal, else the first shape."""
        for literal in self._beginnings.get(text[place : place + _NEAR], ()):
            if text.startswith(literal, place):
                return Found(place, place, place + len(literal), self._literals[literal].name)
        found = self._whole.match(text, place)
        if found is None or found.lastgroup is None:
            return None
        shape = self._shapes[int(found.lastgroup[1:])]
        return Found(place, *found.span(found.lastgroup), shape.name, _more(shape.more) if shape.more else None)

    def cut(self, text: str, room: int) -> int:
        """How many of the last `room` characters may be the beginning of a start; 0 for none."""
        cuts = self._cuts(text, room)
        return max(cuts) if cuts else 0

    def _cuts(self, text: str, room: int) -> list[int]:
        last = text[-2:]
        word = self._firsts.get(last[-1:])
        found = [1] if word is not None and room and not (word and last[:-1].isalnum()) else []
        for start, word in self._ends.get(last, ()):
            size = len(start)
            if size <= room and text.endswith(start) and not (word and text[-size - 1 : -size].isalnum()):
                found.append(size)
        return found

    def begun(self, text: str, start: int) -> list[int]:
        """Where from `start` on something begins that the end of the text cuts, in order."""
        found = {len(text) - size for size in self._cuts(text, len(text) - start)}
        place = max(start, len(text) - self._reach)
        while self._begun is not None and (begins := self._begun.search(text, place)):
            found.add(begins.start())
            place = begins.start() + 1
        return sorted(found)


def _atoms(row: str) -> list[_Atom]:
    found = []
    for atom in _ATOM.finditer(row):
        text, least, most = atom.groups()
        found.append(_Atom(text, int(least or 1), int(most or least or 1)))
    return found


def _incomplete(row: str) -> str:
    """A pattern for every beginning of the row that ends with the text and is not the whole row."""
    *before, last = _atoms(row)
    pattern = rf"{last.text}{{0,{max(0, last.least - 1)}}}\Z"
    for text, least, most in reversed(before):
        pattern = rf"(?:{text}{{0,{most}}}\Z|{text}{{{least},{most}}}{pattern})"
    return f"(?:{pattern})"


def _starts(shape: Shape) -> str:
    return "(?:" + "|".join(map(re.escape, shape.starts)) + ")"


def _whole(shape: Shape, group: str) -> str:
    """What is hidden is the group."""
    after = f"(?={shape.after})" if shape.after else ""
    before, secret = _NO_WORD if shape.word else "", shape.guard + shape.secret
    if shape.shown:
        return f"{before}{_starts(shape)}{shape.lead}(?P<{group}>{secret}){after}"
    return f"{before}(?P<{group}>{_starts(shape)}{secret}){after}"


def _begun(shape: Shape) -> str:
    return (_NO_WORD if shape.word else "") + _starts(shape) + _incomplete(shape.lead + shape.secret + shape.after)


def _longest(shape: Shape) -> int:
    """Characters after which a match is decided at the latest."""
    return max(map(len, shape.starts)) + sum(atom.most for atom in _atoms(shape.lead + shape.secret + shape.after))


@functools.cache
def _more(rows: tuple[str, ...]) -> More:
    whole = "|".join(f"{row}+" if len(_atoms(row)) == 1 else row for row in rows)
    return More(re.compile(f"(?:{whole})+"), re.compile("|".join(map(_incomplete, rows))))


def _watch(shapes: Iterable[Shape]) -> Iterator[tuple[str, re.Pattern[str], set[int]]]:
    """For each mark a pattern that begins with it, so that the search skips to it, and then looks at one character beside it.

    The numbers: how far before the mark a match may begin.
    """
    marks: dict[str, list[tuple[str, int, str]]] = {}
    for shape in shapes:
        row = shape.lead + shape.secret + shape.after
        rest = f"(?:{shape.lead}{shape.guard}{shape.secret}{shape.after}|{_incomplete(row)})" if shape.secret else ""
        for start in shape.starts:
            mark = shape.mark or _rarest(start, marks)
            place = start.index(mark)
            near = 0 if shape.secret else max(0, place - _NEAR)  # of a literal a few characters are enough: `match` sees the rest
            before = (_NO_WORD if shape.word and not near else "") + re.escape(start[near : place + 1])
            after = start[place + 1 :] if shape.secret else start[place + 1 : place + 1 + _NEAR]
            pattern = f"(?<={before})(?={re.escape(after)}{rest})"
            marks.setdefault(mark, []).append((start, place, pattern))
    for mark, found in marks.items():
        at = re.escape(mark)
        search = re.compile(f"{at}{_beside(at, found)}(?:{'|'.join(pattern for *_, pattern in found)})")
        yield mark, search, {place for _, place, _ in found}


def _beside(at: str, found: Iterable[tuple[str, int, str]]) -> str:
    """A quick look at the character before the mark, or after it."""
    if all(place > 0 for _, place, _ in found):
        return f"(?<=[{''.join({re.escape(start[place - 1]) for start, place, _ in found})}]{at})"
    if all(place + 1 < len(start) for start, place, _ in found):
        return f"(?=[{''.join({re.escape(start[place + 1]) for start, place, _ in found})}])"
    return ""


def _rarest(text: str, marks: Iterable[str]) -> str:
    """The character of it that is rarest in text; among rare ones one that is looked for already."""
    return max(text, key=lambda character: (_COMMON.find(character) % (len(_COMMON) + 1), character in marks))
