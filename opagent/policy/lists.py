"""What the lists of one layer say about one request; `rules.py` says whether one pattern matches. Pure.

A decision meets hundreds of patterns of which few or none match, so a list is first asked as a whole whether any could: one
expression, or one look into a set. That a list which says no has no match is a property test.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from opagent.model import Effect, RuleList
from opagent.policy import rules

_DEEP = "(?:[^/]+/)*"  # how a glob that begins with `**/` begins as an expression
_LISTS = ((Effect.DENY, "deny"), (Effect.ASK, "ask"), (Effect.ALLOW, "allow"))  # the strictest first


def explicit(said: RuleList, kind: str, request: Any, base: str, fold: bool = False) -> tuple[Effect, str] | None:
    """The strictest list that matches, and the place of its pattern (`deny.0`); None when no list does.

    `request`: an absolute path for read and write, words for exec, text else. `base`: the directory of the file.
    """
    for effect, word in _LISTS:
        patterns = getattr(said, word)
        if not patterns or not could(kind, patterns, request, base, fold):
            continue
        if effect is Effect.ALLOW and kind == "exec" and rules.launches(request):
            continue
        hit: int | None = None
        for index, pattern in enumerate(patterns):
            taken_out = isinstance(pattern, str) and pattern.startswith("!")
            if rules.matches(kind, pattern[1:] if taken_out else pattern, request, base, fold, effect):
                hit = None if taken_out else index
        if hit is not None:
            return effect, f"{word}.{hit}"
    return None


def could(kind: str, patterns: tuple[Any, ...], request: Any, base: str, fold: bool) -> bool:
    """False only where no pattern of the list matches."""
    if kind in rules.PATHS:
        relative, absolute = _globs(patterns, fold)
        below = rules.relative(request, base) if relative is not None else None
        return (relative is not None and below is not None and relative.could(rules.normal(below, fold))) or (
            absolute is not None and absolute.could(rules.normal(request[1:], fold))
        )
    if kind == "exec":
        return bool(request) and not _programs(patterns).isdisjoint((request[0], request[0].rpartition("/")[2]))
    if kind == "network":
        hosts = _hosts(patterns)
        host = rules.split_host(request)[0]
        return hosts.everything or host in hosts.names or host.endswith(hosts.endings)
    return True


class _Globs:
    """Globs by their first name; those that begin with a wildcard are looked at for every path."""

    def __init__(self, patterns: Sequence[str], fold: bool) -> None:
        found: dict[str, list[str]] = {}
        for pattern in patterns:
            for choice in rules.alternatives(rules.normal(pattern, fold)):
                first = choice.partition("/")[0]
                found.setdefault("*" if set(first) & set("*?") else first, []).append(rules.glob(choice, fold).pattern)
        self._by_first = {first: _either(expressions) for first, expressions in found.items()}
        self._any = self._by_first.pop("*", None)

    def could(self, path: str) -> bool:
        named = self._by_first.get(path.partition("/")[0])
        return (named is not None and named.fullmatch(path) is not None) or (
            self._any is not None and self._any.fullmatch(path) is not None
        )


def _either(expressions: Sequence[str]) -> re.Pattern[str]:
    """One for all; those that begin with any number of directories share that, or each would try them by itself."""
    deep = [each.removeprefix(_DEEP) for each in expressions if each.startswith(_DEEP)]
    other = [f"(?:{each})" for each in expressions if not each.startswith(_DEEP)]
    together = [f"{_DEEP}(?:{'|'.join(f'(?:{each})' for each in deep)})"] if deep else []
    return re.compile("|".join([*other, *together]), re.DOTALL)


@functools.lru_cache(1024)
def _globs(patterns: tuple[str, ...], fold: bool) -> tuple[_Globs | None, _Globs | None]:
    """The globs of a list that are relative to the file, and those that begin at the root."""
    bare = [pattern.removeprefix("!") for pattern in patterns]
    relative = [pattern for pattern in bare if not pattern.startswith("/")]
    absolute = [pattern[1:] for pattern in bare if pattern.startswith("/")]
    return _Globs(relative, fold) if relative else None, _Globs(absolute, fold) if absolute else None


@functools.lru_cache(1024)
def _programs(patterns: tuple[Any, ...]) -> frozenset[str]:
    """The first words of all commands of a list."""
    firsts = (pattern[0] for pattern in patterns)
    return frozenset(name for first in firsts for name in (first if isinstance(first, tuple) else (first,)))


@dataclass(frozen=True, slots=True)
class _Hosts:
    names: frozenset[str]
    endings: tuple[str, ...]
    everything: bool


@functools.lru_cache(1024)
def _hosts(patterns: tuple[str, ...]) -> _Hosts:
    names = [rules.split_host(pattern.removeprefix("!"))[0] for pattern in patterns]
    return _Hosts(
        frozenset(name for name in names if not name.startswith("*")),
        tuple(name[1:] for name in names if name.startswith("*.")),
        "*" in names,
    )
