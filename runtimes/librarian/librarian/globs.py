"""The read rules of the binding: which paths of the workspace may be read. It decides; it opens nothing."""

import json
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from librarian.segments import STAR, Segment, compile_segment, match

EXPANSIONS = 256
_BRACES = re.compile(r"\{([^{}]*)\}")


class BadRules(ValueError):
    """The rules that came with the session are not of the agreed form; then nothing may be read."""


@dataclass(frozen=True, slots=True)
class Glob:
    """One pattern of the binding: `*` no slash, `**` any depth, `?`, `{a,b}`, trailing `/` all below, `!` takes out."""

    negated: bool
    below: bool
    alternatives: tuple[tuple[Segment, ...], ...]

    def covers(self, parts: Sequence[str], with_parents: bool) -> bool:
        """Whether it holds for the path, or (`below`, `with_parents`) for a directory above it."""
        if not self.below and match_any(self.alternatives, parts):
            return True
        if not (self.below or with_parents):
            return False
        return any(match_any(self.alternatives, parts[:end]) for end in range(1, len(parts)))


def match_any(alternatives: Sequence[Sequence[Segment]], parts: Sequence[str]) -> bool:
    return any(match(alternative, parts) for alternative in alternatives)


def parse_glob(text: str) -> Glob:
    """Raises BadRules for an empty, absolute or leaving pattern and for one that expands without end."""
    negated = text.startswith("!")
    body = unicodedata.normalize("NFC", text[1:] if negated else text)
    below = body.endswith("/")
    alternatives = []
    for plain in _expand(body.rstrip("/")):
        names = [name for name in plain.split("/") if name != "."]
        if not any(names) or plain.startswith("/") or ".." in names:
            raise BadRules(f"not a pattern below the workspace: {text!r}")
        alternatives.append(tuple(_segment(name) for name in names if name))
    return Glob(negated, below, tuple(alternatives))


def _expand(text: str) -> list[str]:
    done: list[str] = []
    waiting = [text]
    while waiting:
        one = waiting.pop()
        found = _BRACES.search(one)
        if found is None:
            done.append(one)
        else:
            waiting += [one[: found.start()] + choice + one[found.end() :] for choice in found[1].split(",")]
        if len(done) + len(waiting) > EXPANSIONS:
            raise BadRules(f"too many alternatives in one pattern: {text[:80]!r}")
    return done


def _segment(name: str) -> Segment:
    if name == "**":
        return None
    return compile_segment([STAR if c == "*" else "." if c == "?" else re.escape(c) for c in name])


@dataclass(frozen=True, slots=True)
class ReadRules:
    """Rules of one session; of two lists that match, the stricter wins."""

    deny: tuple[Glob, ...]
    allow: tuple[Glob, ...]
    default_allows: bool
    key: str  # canonical text of the rules, part of the name of the index

    def readable(self, path: str) -> bool:
        """A denied directory hides all below it, also when its pattern has no trailing slash; an allow never reaches
        further than it says."""
        parts = unicodedata.normalize("NFC", path).split("/")
        if _last_match(self.deny, parts, with_parents=True):
            return False
        return self.default_allows or _last_match(self.allow, parts, with_parents=False)


def _last_match(globs: Sequence[Glob], parts: Sequence[str], with_parents: bool) -> bool:
    for glob in reversed(globs):
        if glob.covers(parts, with_parents):
            return not glob.negated
    return False


def parse_rules(rules: object) -> ReadRules:
    """`_meta.opagent.read` of session/new: {"deny": [...], "allow": [...], "ask": [...], "default": "allow"}.

    What would be asked is denied: an index cannot ask for each file. Raises BadRules.
    """
    if rules is None:
        rules = {}
    if not isinstance(rules, dict):
        raise BadRules("the read rules are not an object")
    lists = {name: _strings(rules.get(name)) for name in ("deny", "ask", "allow")}
    default = rules.get("default") or "allow"
    deny = tuple(map(parse_glob, lists["deny"] + lists["ask"]))
    allow = tuple(map(parse_glob, lists["allow"]))
    key = json.dumps([lists, default], sort_keys=True)
    return ReadRules(deny, allow, default == "allow", key)


def _strings(value: object) -> list[str]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise BadRules("a list of read rules holds something that is no pattern")
    return value
