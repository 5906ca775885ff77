"""The rules that bind a callee on another machine, as they travel there with a call. Pure; decides nothing.

Rules about files stay behind: a path there is another file, and files of another directory are decided by that directory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from opagent.errors import Usage
from opagent.model import Capabilities, Effect, Layer, RuleList
from opagent.policy import rules

PARTS = ("ceilings", "chain", "defaults")
CARRIED = tuple(kind for kind in rules.KINDS if kind not in (*rules.PATHS, "secrets"))
MOST = 64  # callers
_NOWHERE = "\0"  # no path is below it


def as_json(capabilities: Capabilities) -> dict[str, Any]:
    said: dict[str, Any] = {part: [_layer(each) for each in getattr(capabilities, part)] for part in PARTS}
    return said | {"max_depth": capabilities.max_depth, "max_children": capabilities.max_children}


def from_json(said: Any) -> Capabilities:
    """Raises Usage."""
    try:
        ceilings, chain, defaults = (tuple(map(_layer_of, said[part])) for part in PARTS)
        depth, children = said["max_depth"], said["max_children"]
        if type(depth) is not int or type(children) is not int:
            raise TypeError("a bound that is no number")
        return Capabilities(ceilings, chain, defaults, _NOWHERE, max_depth=depth, max_children=children)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise Usage("that are no rules of a caller", f"{type(error).__name__} {error}"[:200]) from error


def _layer(layer: Layer) -> dict[str, Any]:
    kinds = {kind: _list(found) for kind, found in layer.kinds.items() if kind in CARRIED}
    return {"name": layer.name, "base": layer.base, "kinds": kinds, "file": layer.file}


def _list(said: RuleList) -> dict[str, Any]:
    patterns = {effect.word: getattr(said, effect.word) for effect in Effect}
    return patterns | {"default": said.default.word if said.default is not None else None, "lines": dict(said.lines)}


def _layer_of(said: Mapping[str, Any]) -> Layer:
    kinds = {kind: _list_of(kind, found) for kind, found in said["kinds"].items() if kind in CARRIED}
    return Layer(_text(said["name"]), _text(said["base"]), kinds, _text(said["file"]))


def _list_of(kind: str, said: Mapping[str, Any]) -> RuleList:
    effects = {effect.word: effect for effect in Effect}
    allow, ask, deny = (tuple(_pattern(kind, each) for each in said[word]) for word in ("allow", "ask", "deny"))
    lines = {_text(place): int(line) for place, line in said["lines"].items()}
    default = said["default"]
    return RuleList(allow, ask, deny, None if default is None else effects[default], lines)


def _pattern(kind: str, said: Any) -> Any:
    """A text; of a command words, each a text or a choice of texts."""
    if kind != "exec" or isinstance(said, str):
        found = _text(said)
        rules.alternatives(found)
        return found
    return tuple(word if isinstance(word, str) else tuple(map(_text, _sequence(word))) for word in _sequence(said))


def _sequence(said: Any) -> Sequence[Any]:
    if not isinstance(said, list | tuple):
        raise TypeError("a pattern that is none")
    return said


def _text(said: Any) -> str:
    if not isinstance(said, str):
        raise TypeError("no text")
    return said
