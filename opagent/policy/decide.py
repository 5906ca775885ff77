"""The decision on one request: severity allow < ask < deny, the strictest wins, a deeper file only narrows. Pure.

::

    ceiling = strictest explicit rule of: built-in floor, machine (its default too), user's ask and deny, files without trust
    chain   = strictest of: the outermost binding (its explicit rule, else its default, else the user's allow or default,
              else the built-in default), and the explicit rules of every deeper binding
    answer  = the strictest of both, and of what the agents that called this one get for an answer to the same

Properties (tests/unit/test_policy_properties.py): a deeper file never widens, a ceiling is never lowered, the order of
ceilings does not matter.
"""

from __future__ import annotations

import ipaddress
import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from opagent.model import Capabilities, Decision, Effect, Layer
from opagent.policy import address, lists, rules

BUILT_IN: dict[str, Effect] = {
    "read": Effect.ALLOW,  # inside the workspace; outside it is the floor that denies
    "write": Effect.ALLOW,
    "exec": Effect.ALLOW,
    "network": Effect.ASK,
    "agents": Effect.ASK,
    "mcp": Effect.ASK,
    "secrets": Effect.DENY,
}
AGENTS = {"max_depth": 2, "max_children": 4}  # how deep calls between agents may go, and how many one may make
OUTSIDE = "/"  # stands for all that lies outside the workspace
FLOOR = "built-in"  # the name of the layer made of policy/floor.json
USER = "user"
MACHINE = "machine"


@dataclass(frozen=True, slots=True)
class Word:
    """What one layer says to a request; `effect` None: nothing. `counts` false: what it says has no weight here.

    `pattern`: of its rule as it was written, "" for a default.
    """

    effect: Effect | None
    rule: str
    layer: str
    pattern: Any = ""
    counts: bool = True


@dataclass(frozen=True, slots=True)
class _Said:
    effect: Effect
    rule: str
    layer: str
    pattern: Any = ""


def decide(capabilities: Capabilities, kind: str, request: str | Sequence[str]) -> Decision:
    """What becomes of one request, and the rule that says so.

    `request` is for read and write a path after links were resolved (absolute, or relative to the workspace), for exec the
    words of the command, else text: `host[:port]`, a role or an absolute directory, `server/tool`, a variable name.
    Raises ValueError for an unknown kind.
    """
    said = _said(capabilities, kind, _whole(capabilities, kind, request))
    strictest = max(said, key=lambda each: each.effect)
    own = Decision(strictest.effect, strictest.rule, strictest.layer, pattern=strictest.pattern)
    above = [decide(each, kind, request) for each in capabilities.within if _concerned(each, capabilities, kind, request)]
    return max((own, *above), key=lambda each: each.effect)


def _concerned(caller: Capabilities, called: Capabilities, kind: str, request: str | Sequence[str]) -> bool:
    """Whether the rules of an agent bind one that it called: of files those of its own directory do, elsewhere the other's.

    A secret is no right that a caller has through a call: the proxy puts it in, for its own host.
    """
    if kind in rules.PATHS:
        return rules.relative(_whole(called, kind, request), caller.workspace) is not None
    return kind != "secrets"


def words(capabilities: Capabilities, kind: str, request: str | Sequence[str]) -> list[Word]:
    """What every layer says to it: the built-in first, then the machine, the user, the bindings from the outermost down.

    The decision is the strictest that counts.
    """
    request = _whole(capabilities, kind, request)
    counting = [Word(each.effect, each.rule, each.layer, each.pattern) for each in _said(capabilities, kind, request)]
    layers = (*capabilities.ceilings, *capabilities.defaults, *capabilities.chain)
    order = {name: place for place, name in enumerate(dict.fromkeys([FLOOR, *(layer.name for layer in layers)]))}
    heard = {each.layer for each in counting}
    for layer in layers:
        if layer.name in heard:
            continue
        heard.add(layer.name)
        silent = _explicit(layer, kind, request, capabilities) or _default(layer, kind)
        more = (silent.effect, silent.rule, layer.name, silent.pattern, False) if silent else (None, "", layer.name)
        counting.append(Word(*more))
    return sorted(counting, key=lambda each: order.get(each.layer, len(order)))


def _whole(capabilities: Capabilities, kind: str, request: Any) -> Any:
    """A path made absolute. Raises ValueError for an unknown kind."""
    if kind not in BUILT_IN:
        raise ValueError(f"no such kind: {kind}")
    if kind in rules.PATHS:
        return posixpath.normpath(posixpath.join(capabilities.workspace or "/", str(request)))
    return request


def _said(capabilities: Capabilities, kind: str, request: Any) -> list[_Said]:
    return [*_chain(capabilities, kind, request), *_ceilings(capabilities, kind, request)]


def _chain(capabilities: Capabilities, kind: str, request: Any) -> Iterator[_Said]:
    first, *deeper = capabilities.chain or (Layer("", "/", {}),)
    if kind == "secrets" and request not in capabilities.secrets:  # a deeper list that leaves a name out takes it away
        yield _Said(BUILT_IN[kind], f"built-in default of {kind}", FLOOR)
    said = _explicit(first, kind, request, capabilities) or _first_default(capabilities, first, kind)
    yield said or _base(capabilities, kind, request)
    for layer in deeper:
        if said := _explicit(layer, kind, request, capabilities):
            yield said


def _first_default(capabilities: Capabilities, first: Layer, kind: str) -> _Said | None:
    """The outermost binding's default, but never below one of the user's: a default is no explicit permission."""
    said = _default(first, kind)
    own = [found for layer in capabilities.defaults if (found := _default(layer, kind))]
    return max((said, *own), key=lambda each: each.effect) if said else None


def _base(capabilities: Capabilities, kind: str, request: Any) -> _Said:
    """What counts when no binding speaks: the nearest of the user's files that does, else the built-in default."""
    for layer in reversed(capabilities.defaults):
        said = _explicit(layer, kind, request, capabilities) or _default(layer, kind)
        if said:
            return said
    return _Said(BUILT_IN[kind], f"built-in default of {kind}", FLOOR)


def _ceilings(capabilities: Capabilities, kind: str, request: Any) -> Iterator[_Said]:
    named = any(_names(layer, kind, request, capabilities) for layer in capabilities.defaults if layer.name == USER)
    if not named and (said := _floor(capabilities, kind, request)):
        yield said
    for layer in capabilities.ceilings:
        if said := _explicit(layer, kind, request, capabilities) or _default(layer, kind):
            yield said
    for layer in capabilities.defaults:
        said = _explicit(layer, kind, request, capabilities)
        if said and said.effect > Effect.ALLOW:
            yield said


def _floor(capabilities: Capabilities, kind: str, request: Any) -> _Said | None:
    """The part of the floor that is no list of names, and that the user's own configuration may lift by naming the exception."""
    if kind in rules.PATHS and rules.relative(request, capabilities.workspace) is None:
        return _Said(Effect.DENY, "built-in floor: outside the workspace", FLOOR, OUTSIDE)
    if kind == "network" and rules.is_private(request):
        return _Said(Effect.DENY, "built-in floor: loopback, private and metadata addresses", FLOOR)
    return None


def named_addresses(capabilities: Capabilities, port: int) -> list[str]:
    """`address:port` of each address that the user's own configuration allows by its numbers: there a name may lead to one."""
    split = [rules.split_host(text) for text in named_by_user(capabilities)]
    hosts = [host for host, wanted in split if wanted in ("*", str(port)) and address.is_numeric(host)]
    return [address.shown(str(ipaddress.ip_address(host)), port) for host in hosts]


def named_by_user(capabilities: Capabilities) -> list[str]:
    """The hosts that the user's own configuration allows, as written there."""
    own = [layer.kinds["network"] for layer in capabilities.defaults if layer.name == USER and "network" in layer.kinds]
    return [str(pattern) for rules_ in own for pattern in rules_.allow]


def _names(layer: Layer, kind: str, request: Any, capabilities: Capabilities) -> bool:
    """Whether an allow of the user names the exception; `*` names nothing."""
    if kind not in layer.kinds:
        return False
    candidates = [pattern for pattern in layer.kinds[kind].allow if kind != "network" or not str(pattern).startswith("*")]
    return any(
        not str(pattern).startswith("!") and rules.matches(kind, pattern, request, layer.base, capabilities.fold)
        for pattern in candidates
    )


def _explicit(layer: Layer, kind: str, request: Any, capabilities: Capabilities) -> _Said | None:
    found = layer.kinds.get(kind)
    hit = found and lists.explicit(found, kind, request, layer.base, capabilities.fold)
    if not found or not hit:
        return None
    word, _, number = hit[1].partition(".")
    return _Said(hit[0], _where(layer, kind, hit[1]), layer.name, getattr(found, word)[int(number)])


def _default(layer: Layer, kind: str) -> _Said | None:
    found = layer.kinds.get(kind)
    return _Said(found.default, _where(layer, kind, "default"), layer.name) if found and found.default is not None else None


def _where(layer: Layer, kind: str, place: str) -> str:
    """`file:line` of a rule; the floor has no lines and says what it is."""
    if layer.name == FLOOR:
        number = int(place.rpartition(".")[2])
        return f"built-in floor: {layer.kinds[kind].deny[number]}"
    return f"{layer.file or layer.name}:{layer.kinds[kind].lines.get(place, 0)}"
