"""What mounts can do of the rules for read and write: which of the names that are there are hidden, protected, writable. Pure.

A mount is made for a name that exists when an agent starts. What a rule says of names that come later holds where the whole
directory is mounted so, else only where the agent asks over the protocol. Nobody can be asked in the middle of a system call:
`ask` is a denial here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Union

from opagent.model import Capabilities, Effect, Layer
from opagent.policy.decide import FLOOR, decide

MOST = 100  # mounts over names: 200 more cost 80 ms
_NEW = "opagent.new.file"  # stands for a name that is not there yet

Tree = Mapping[str, Union["Tree", None]]  # a directory: names with what lies below them; None: no directory


class TooMany(ValueError):
    """More names than can be mounted, and they have no directory in common but the workspace."""


@dataclass(frozen=True, slots=True)
class Reach:
    """Names relative to the workspace, as `process/profile.py` takes them."""

    hidden: tuple[str, ...] = ()
    protected: tuple[str, ...] = ()
    writable: tuple[str, ...] = ()
    read_only: bool = False


def reach(capabilities: Capabilities, tree: Tree) -> Reach:
    """Raises TooMany."""
    hidden = tuple(_hidden(capabilities, tree, "")[0]) if _speaks(capabilities, "read") else ()
    if not _speaks(capabilities, "write"):
        return Reach(few(hidden), few(tuple(_floor_names(capabilities, tree, ""))))
    read_only = not _allows(capabilities, "write", _NEW)
    changes = list(_changes(capabilities, tree, "", not read_only))
    protected = tuple(name for name, writable in changes if not writable)
    writable = tuple(name for name, writable in changes if writable)
    if len(writable) > MOST:
        raise TooMany(f"{len(writable)} names may be written, {MOST} are the most")
    return Reach(few(hidden), few(protected), writable, read_only)


def few(names: tuple[str, ...]) -> tuple[str, ...]:
    """At most MOST names: directories stand for what they hold, the fullest first. Raises TooMany."""
    found = set(names)
    while len(found) > MOST:
        parents: dict[str, int] = {}
        for name in found:
            if parent := name.rpartition("/")[0]:
                parents[parent] = parents.get(parent, 0) + 1
        best = max(parents, key=lambda parent: (parents[parent], parent.count("/"), parent), default="")
        if not best:
            raise TooMany(f"{len(found)} names, {MOST} are the most")
        found = {name for name in found if not name.startswith(f"{best}/")} | {best}
    return tuple(sorted(found))


def floor_basenames(capabilities: Capabilities) -> frozenset[str]:
    """The names that nobody but the person writes, in whatever directory they lie."""
    floor = next((layer for layer in capabilities.ceilings if layer.name == FLOOR), None)
    patterns = floor.kinds["write"].deny if floor is not None and "write" in floor.kinds else ()
    return frozenset(pattern[3:].rstrip("/") for pattern in patterns if pattern.startswith("**/"))


def _speaks(capabilities: Capabilities, kind: str) -> bool:
    """Whether any file but the floor says something about the kind."""

    def said(layer: Layer) -> bool:
        rules = layer.kinds.get(kind)
        return layer.name != FLOOR and rules is not None and bool(rules.deny or rules.ask or rules.allow or rules.default)

    own = any(said(layer) for layer in (*capabilities.ceilings, *capabilities.defaults, *capabilities.chain))
    return own or any(_speaks(caller, kind) for caller in capabilities.within)


def _allows(capabilities: Capabilities, kind: str, name: str) -> bool:
    return decide(capabilities, kind, name).effect is Effect.ALLOW


def _below(path: str, name: str) -> str:
    return f"{path}/{name}" if path else name


def _floor_names(capabilities: Capabilities, tree: Tree, path: str) -> Iterator[str]:
    names = floor_basenames(capabilities)

    def look(tree: Tree, path: str) -> Iterator[str]:
        for name, below in tree.items():
            if name == ".git" and not path:
                continue  # the box deals with it
            if name in names:
                yield _below(path, name)
            elif below is not None:
                yield from look(below, _below(path, name))

    yield from look(tree, path)


def _hidden(capabilities: Capabilities, tree: Tree, path: str) -> tuple[list[str], bool]:
    """What is hidden below a directory, and whether anything there may be seen."""
    found: list[str] = []
    seen = False
    for name, below in tree.items():
        here = _below(path, name)
        if below is None:
            allowed = _allows(capabilities, "read", here)
            seen |= allowed
            found += [] if allowed else [here]
            continue
        inside, some = _hidden(capabilities, below, here)
        some |= _allows(capabilities, "read", _below(here, _NEW))
        seen |= some
        found += inside if some else [here]
    return found, seen


def _changes(capabilities: Capabilities, tree: Tree, path: str, writable: bool) -> Iterator[tuple[str, bool]]:
    """Each name with whether it may be written, where that is not so of the directory it lies in."""
    for name, below in tree.items():
        here = _below(path, name)
        if name == ".git" and not path:
            continue  # the box deals with it
        allowed = _allows(capabilities, "write", here if below is None else _below(here, _NEW))
        if allowed != writable:
            yield here, allowed
        if below is not None:
            yield from _changes(capabilities, below, here, allowed)
