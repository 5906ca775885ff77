"""Generated chains of files: a deeper one never widens, trusted or not, and every value has an origin."""

from __future__ import annotations

import json
import random
from types import SimpleNamespace
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from opagent.binding import resolve, source, trust
from opagent.binding.resolve import Given, Standing
from opagent.binding.source import Source
from opagent.model import Binding, Layer, RuleList
from opagent.policy.decide import FLOOR, decide

USUAL = settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))

_globs = st.sampled_from(["a", "b/", "**", "*.py", "**/.env*", "!a", "{a,b}/*", "a/**"])
_hosts = st.sampled_from(["a.org", "*.a.org", "*", "!b.a.org", "10.0.0.1"])
_commands = st.sampled_from([["git"], ["git", ["status", "push"]], ["rm"], ["sh"]])
_effects = st.sampled_from(["allow", "ask", "deny"])


def _rules(patterns: st.SearchStrategy[Any], default: bool) -> st.SearchStrategy[dict[str, Any]]:
    lists = {name: st.lists(patterns, max_size=3) for name in ("allow", "ask", "deny")}
    return st.fixed_dictionaries({}, optional=lists | ({"default": _effects} if default else {})).map(_without_clashes)


def _without_clashes(rules: dict[str, Any]) -> dict[str, Any]:
    """The same pattern in allow and deny is a load error."""
    return rules | {"allow": [each for each in rules.get("allow", []) if each not in rules.get("deny", [])]}


def _file(top: bool) -> st.SearchStrategy[dict[str, Any]]:
    names = st.lists(st.sampled_from(["LANG", "CI", "TERM"]), max_size=3, unique=True)
    secrets = st.dictionaries(st.sampled_from(["A", "B"]), st.just({"from": "keyring:x"}), max_size=2)
    agents = st.fixed_dictionaries({}, optional={"max_depth": st.integers(0, 9), "max_children": st.integers(0, 9)})
    can = {
        "read": _rules(_globs, top), "write": _rules(_globs, top), "network": _rules(_hosts, top), "exec": _rules(_commands, top),
        "env": names, "secrets": secrets, "agents": agents,
    }  # fmt: skip
    rest = {
        "budget": st.fixed_dictionaries({}, optional={"turns": st.integers(0, 99), "wall": st.sampled_from(["1h", "5m", "90s"])}),
        "limits": st.fixed_dictionaries({}, optional={"files": st.integers(16, 99), "memory": st.sampled_from(["1G", "512M"])}),
        "sandbox": st.fixed_dictionaries({}, optional={"level": st.sampled_from(["auto", "strict", "landlock"])}),
        "agent": st.sampled_from(["x", "y"]),
        "instructions": st.just("some words"),
    }
    return st.fixed_dictionaries({}, optional={"can": st.fixed_dictionaries({}, optional=can), **rest})


def _chains() -> st.SearchStrategy[list[dict[str, Any]]]:
    return st.tuples(_file(top=True), st.lists(_file(top=False), min_size=1, max_size=3)).map(lambda pair: [pair[0], *pair[1]])


def parsed(files: list[dict[str, Any]]) -> list[Source]:
    """Nearest first, each in a directory below the one before: /w, /w/d, /w/d/d, ..."""
    found = []
    for depth, data in enumerate(files):
        base = "/w" + "/d" * depth
        content = SimpleNamespace(content=json.dumps(data).encode(), uid=0, mode=0)
        found.append(source.parse(f"{base}/.agent.yaml", base, source.WORKSPACE, content, "/home/u"))
    return found[::-1]


def merged(chain: list[Source], trusted: set[str] | None, workspace: str) -> Binding:
    floor = Layer(FLOOR, workspace, {"write": RuleList(deny=("**/.git/",))})
    needs = {each.path: trust.needs_trust(each, lambda runtime: "") for each in chain}
    return resolve.resolve(chain, Standing(needs, trusted), Given(workspace, floor))


REQUESTS = (
    *(
        (kind, path)
        for kind in ("read", "write")
        for path in ("a", "b/c", "x.py", ".env", "d/a", "d/d/x.py", "d/d/d/a", ".git/x")
    ),
    *(("network", host) for host in ("a.org", "b.a.org", "c.org", "10.0.0.1")),
    *(("exec", tuple(words.split())) for words in ("git push", "git", "rm -r x", "sh -c x", "ls")),
    ("secrets", "A"),
    ("secrets", "B"),
)
_NUMBERS = ("turns", "wall", "files", "memory")


def widened(outer: Binding, inner: Binding) -> list[str]:
    """What the inner binding may do that the outer one may not; paths are looked at below the inner workspace."""
    found = []
    for kind, asked in REQUESTS:
        request = f"{inner.workspace}/{asked}" if kind in ("read", "write") else asked
        if decide(inner.capabilities, kind, request).effect < decide(outer.capabilities, kind, request).effect:
            found.append(f"{kind} {asked}")
    for numbers in ("budget", "limits"):
        before, after = getattr(outer, numbers), getattr(inner, numbers)
        found += [key for key in _NUMBERS if key in before and not (key in after and after[key] <= before[key])]
    levels = [resolve.LEVELS.index(each.sandbox.get("level", "off")) for each in (outer, inner)]
    found += ["sandbox"] if levels[1] < levels[0] else []
    found += sorted(set(inner.capabilities.env) - set(outer.capabilities.env))
    found += sorted(set(inner.capabilities.secrets) - set(outer.capabilities.secrets))
    return found + [
        key for key in ("max_depth", "max_children") if getattr(inner.capabilities, key) > getattr(outer.capabilities, key)
    ]


@USUAL
@given(_chains())
def test_a_deeper_file_never_widens(files: list[dict[str, Any]]) -> None:
    chain = parsed(files)
    assert widened(merged(chain[1:], None, chain[1].base), merged(chain, None, chain[0].base)) == []


@USUAL
@given(_chains(), st.sets(st.integers(0, 3)))
def test_nor_does_one_without_trust(files: list[dict[str, Any]], trusted: set[int]) -> None:
    chain = parsed(files)
    paths = {each.path for index, each in enumerate(chain) if index in trusted} - {chain[0].path}
    outer, inner = merged(chain[1:], paths, chain[1].base), merged(chain, paths, chain[0].base)
    assert widened(outer, inner) == []
    assert len(inner.instructions) <= sum(each.trusted for each in inner.chain)


@USUAL
@given(_chains())
def test_without_trust_nothing_is_wider_than_with_it(files: list[dict[str, Any]]) -> None:
    chain = parsed(files)
    assert widened(merged(chain, None, chain[0].base), merged(chain, set(), chain[0].base)) == []


@USUAL
@given(_chains())
def test_every_value_has_an_origin_and_every_narrowing_names_an_outer_file(files: list[dict[str, Any]]) -> None:
    chain = parsed(files)
    binding = merged(chain, None, chain[0].base)
    for section in ("budget", "limits", "sandbox"):
        assert all(f"{section}.{key}" in binding.origins for key in getattr(binding, section))
    if binding.agent:
        assert "agent" in binding.origins
    depth = {"built-in": 0} | {each.path: len(each.base) for each in chain}
    for key, outer in binding.narrowed.items():
        assert all(depth[each.file] < depth[binding.origins[key].file] for each in outer), key


@USUAL
@given(_chains(), st.randoms(use_true_random=False))
def test_the_order_of_keys_and_of_lists_does_not_matter(files: list[dict[str, Any]], chance: random.Random) -> None:
    """But for `!`, whose meaning is its place."""
    plain = json.loads(json.dumps(files).replace("!", ""))
    plain = [each | {"can": {kind: _without_clashes(said) if isinstance(said, dict) and kind in KINDS else said
                             for kind, said in each["can"].items()}} if "can" in each else each for each in plain]  # fmt: skip
    one, other = parsed(plain), parsed([_shuffled(each, chance) for each in plain])
    first, second = merged(one, None, one[0].base), merged(other, None, other[0].base)
    assert widened(first, second) == [] and widened(second, first) == []


KINDS = ("read", "write", "network", "exec")


def _shuffled(value: Any, chance: random.Random) -> Any:
    if isinstance(value, dict):
        return {key: _shuffled(value[key], chance) for key in chance.sample(list(value), len(value))}
    if isinstance(value, list) and not any(isinstance(each, list) for each in value):
        return value if value[:1] == ["git"] or value[:1] == ["rm"] else chance.sample(value, len(value))
    return chance.sample(value, len(value)) if isinstance(value, list) and value[:1] != ["git"] else value


def test_the_comparison_sees_a_widening() -> None:
    """The properties above would be worth nothing otherwise."""
    open_, closed = ({"can": {"network": {word: ["a.org"]}}} for word in ("allow", "deny"))
    assert widened(merged(parsed([closed]), None, "/w"), merged(parsed([open_]), None, "/w")) == ["network a.org"]
    assert widened(merged(parsed([open_]), None, "/w"), merged(parsed([closed]), None, "/w")) == []
