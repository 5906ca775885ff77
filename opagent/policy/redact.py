"""Takes secrets out of text before it is logged or shown: known values, then known shapes -> `«redacted:NAME»`. Pure.

::

    secrets = Secrets(secret_values(environment))
    secrets.redact(text)                   # a whole text
    redactor = Redactor(secrets)           # a text in pieces: any cutting gives the same result
    out = redactor.feed(piece) + redactor.feed(piece) + redactor.finish()

A stream holds back the end of what came so far while it may be the beginning of a secret, at most HELD characters each for values
and for shapes. What follows a match that has no set end (the rest of a key) is dropped as it comes, however long.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

from opagent.policy.patterns import Found, More, Patterns
from opagent.policy.shapes import SHAPES, Shape
from opagent.policy.spellings import SHORTEST, spellings

HELD = 256


def marker(name: str) -> str:
    return f"«redacted:{name}»"


class _Stream:
    """One pass of `patterns`. Leftmost match first; of those that begin together the first in the order of the patterns."""

    def __init__(self, patterns: Patterns) -> None:
        self.patterns = patterns
        self._before = ""  # the last character that was let go: a token does not begin inside a word
        self._held = ""
        self._more: More | None = None  # inside a match that may go on
        self._last = ""  # the name of a match that ended just before what comes: pieces of one value show as one

    def feed(self, text: str) -> str:
        start = len(self._before)
        text = f"{self._before}{self._held}{text}"
        if self._more is not None or self.patterns.touches(text):
            return self._replace(text, start, final=False)
        return self._hold(text, start, len(text) - self.patterns.cut(text, len(text) - start))

    def finish(self) -> str:
        """What is left. The stream begins anew."""
        rest = self._replace(self._before + self._held, len(self._before), final=True)
        self._before, self._held, self._more, self._last = "", "", None, ""
        return rest

    def _hold(self, text: str, start: int, end: int) -> str:
        """Let go what lies between; the rest is held."""
        self._held = text[end:]
        return self._let_go(text, start, end)

    def _let_go(self, text: str, start: int, end: int) -> str:
        if end > 0:
            self._before = text[end - 1 : end]
        if end > start:
            self._last = ""
        return text[start:end]

    def _replace(self, text: str, place: int, final: bool) -> str:
        out: list[str] = []
        begun = self.patterns.begun(text, place)
        if final:
            begun = [each for each in begun if 0 < self.patterns.telling <= len(text) - each]
        places = self.patterns.places(text, place)[::-1]
        while True:
            place, undecided = self._go_on(text, place, final)
            found = None if undecided else self._next(text, place, places)
            cut = next((each for each in begun if each >= place), len(text))
            if found is None or cut < found.begin or (cut == found.begin and not final):
                end = place if undecided else cut
                out.append(self._hold(text, place, end))
                if final and end < len(text):
                    out.append(self._mark(self.patterns.name_at(text[end:])))
                return "".join(out)
            out += [self._let_go(text, place, found.start), self._mark(found.name)]
            place, self._more = found.end, found.more
            self._before = text[place - 1]

    def _next(self, text: str, place: int, places: list[int]) -> Found | None:
        while places:
            at = places.pop()
            if at >= place and (found := self.patterns.match(text, at)):
                return found
        return None

    def _go_on(self, text: str, place: int, final: bool) -> tuple[int, bool]:
        """The end of what belongs to the last match, and whether more text is needed to know."""
        if self._more is None:
            return place, False
        if found := self._more.whole.match(text, place):
            place = found.end()
        if not final and (place == len(text) or self._more.begun.fullmatch(text, place)):
            return place, True
        self._more = None
        return place, False

    def _mark(self, name: str) -> str:
        if name == self._last:
            return ""
        self._last = name
        return marker(name)


class Secrets:
    """What is to be hidden: the keys of `values` (value -> name) in all their spellings, and the known shapes."""

    def __init__(self, values: Mapping[str, str] | None = None) -> None:
        self.values = dict(values or {})
        self._names = {form: name for value, name in self.values.items() for form in spellings(value)}

    @functools.cached_property
    def passes(self) -> tuple[Patterns, ...]:
        """Values first: a name says more than a kind."""
        known = [Shape(name, (form,), word=False) for form, name in self._names.items()]
        return (Patterns(known, telling=SHORTEST), _shapes()) if known else (_shapes(),)

    def redact(self, text: str) -> str:
        if not any(each.touches(text) or 0 < each.telling <= each.cut(text, len(text)) for each in self.passes):
            return text
        redactor = Redactor(self)
        return redactor.feed(text) + redactor.finish()

    def named(self, text: str) -> list[str]:
        """The names of the secrets in a text, each once."""
        found = (each.match(text, place) for each in self.passes for place in each.places(text, 0))
        return list(dict.fromkeys(match.name for match in found if match))


@functools.cache
def _shapes() -> Patterns:
    return Patterns(SHAPES)


class Redactor:
    """`feed` gives what is certain by now, `finish` the rest; afterwards it can be used again."""

    def __init__(self, secrets: Secrets) -> None:
        self._streams = [_Stream(patterns) for patterns in secrets.passes]

    def feed(self, text: str) -> str:
        for stream in self._streams:
            text = stream.feed(text)
        return text

    def finish(self) -> str:
        text = ""
        for stream in self._streams:
            text = (stream.feed(text) if text else "") + stream.finish()
        return text
