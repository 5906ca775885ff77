"""What must hold for every chain: a deeper file never widens, a ceiling is never lowered, order and names do not matter."""

from __future__ import annotations

import random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from opagent.model import Capabilities, Effect, Layer, RuleList
from opagent.policy.decide import FLOOR, USER, decide, words
from opagent.policy.lists import explicit

W = "/w"
USUAL = settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))

_parts = st.sampled_from(["a", "b", ".env", "x.py", "*", "**", "*.py", "{a,b}"])
_globs = st.tuples(st.sampled_from(["", "", "!"]), st.lists(_parts, min_size=1, max_size=3)).map(
    lambda pair: pair[0] + "/".join(pair[1])
)
_hosts = st.sampled_from(["a.org", "*.a.org", "*", "!b.a.org", "a.org:*", "b.a.org"])
_words = st.lists(st.sampled_from(["git", "rm", "sh", ("status", "push"), ("git", "rm"), "-c"]), min_size=1, max_size=3).map(
    tuple
)
_effects = st.sampled_from(list(Effect))


def _rules(patterns: st.SearchStrategy) -> st.SearchStrategy[RuleList]:
    lists = st.lists(patterns, max_size=3).map(tuple)
    return st.builds(RuleList, lists, lists, lists, st.none() | _effects)


_kinds = st.fixed_dictionaries({}, optional={"read": _rules(_globs), "network": _rules(_hosts), "exec": _rules(_words)})
_names = st.sampled_from(["/w/.agent.yaml", "/w/x/.agent.yaml"])
_layers = st.builds(lambda name, base, kinds: Layer(name, base, kinds, name), _names, st.sampled_from([W, "/w/a", "/"]), _kinds)
_requests = st.one_of(
    st.tuples(st.just("read"), st.lists(st.sampled_from(["a", "b", ".env", "x.py"]), min_size=1, max_size=3).map("/".join)),
    st.tuples(st.just("network"), st.sampled_from(["a.org", "b.a.org", "c.org:80", "10.0.0.1"])),
    st.tuples(
        st.just("exec"), st.lists(st.sampled_from(["git", "rm", "sh", "status", "push", "-c"]), min_size=1, max_size=3).map(tuple)
    ),
)
_several = st.lists(_layers, max_size=3).map(tuple)
_users = st.lists(_kinds.map(lambda kinds: Layer(USER, W, kinds, USER)), max_size=1).map(tuple)
_floor = Layer(FLOOR, W, {"read": RuleList(deny=("**/.env",))})


def severity(ceilings: tuple, chain: tuple, defaults: tuple, request: tuple) -> Effect:
    return decide(Capabilities((_floor, *ceilings), chain, defaults=defaults, workspace=W), *request).effect


@USUAL
@given(_several, st.lists(_layers, min_size=1, max_size=3).map(tuple), _users, _layers, _requests)
def test_a_deeper_file_never_widens(ceilings: tuple, chain: tuple, users: tuple, more: Layer, request: tuple) -> None:
    assert severity(ceilings, (*chain, more), users, request) >= severity(ceilings, chain, users, request)


@USUAL
@given(_several, _several, _users, _layers, _requests)
def test_a_ceiling_is_never_lowered(ceilings: tuple, chain: tuple, users: tuple, more: Layer, request: tuple) -> None:
    answer = severity((*ceilings, more), chain, users, request)
    assert answer >= severity(ceilings, chain, users, request)
    kind, asked = request
    said = (
        explicit(more.kinds[kind], kind, f"{W}/{asked}" if kind == "read" else asked, more.base) if kind in more.kinds else None
    )
    assert said is None or answer >= said[0]


@USUAL
@given(_several, _several, _users, _requests, st.randoms(use_true_random=False))
def test_the_order_of_ceilings_does_not_matter(
    ceilings: tuple, chain: tuple, users: tuple, request: tuple, chance: random.Random
) -> None:
    shuffled = list(ceilings)
    chance.shuffle(shuffled)
    assert severity(tuple(shuffled), chain, users, request) == severity(ceilings, chain, users, request)


@USUAL
@given(_several, _users, _kinds, _requests)
def test_a_users_denial_holds_whatever_a_binding_says(chain: tuple, users: tuple, kinds: dict, request: tuple) -> None:
    kind, asked = request
    for user in users:
        said = explicit(user.kinds[kind], kind, f"{W}/{asked}" if kind == "read" else asked, W) if kind in user.kinds else None
        if said and said[0] > Effect.ALLOW:
            assert severity((), chain, users, request) >= said[0]


@USUAL
@given(_several, _users, st.sampled_from(["a", "a/b", "x.py"]))
def test_a_path_has_one_answer_however_it_is_written(chain: tuple, users: tuple, path: str) -> None:
    answers = {
        severity((), chain, users, ("read", form)) for form in (path, f"/w/{path}", f"./{path}", f"z/../{path}", f"/w/./{path}/")
    }
    assert len(answers) == 1


@USUAL
@given(_several, _several, _users, _requests)
def test_the_strictest_word_that_counts_is_the_decision_and_every_layer_has_one(
    ceilings: tuple, chain: tuple, users: tuple, request: tuple
) -> None:
    capabilities = Capabilities((_floor, *ceilings), chain, defaults=users, workspace=W)
    said, decision = words(capabilities, *request), decide(capabilities, *request)
    assert max(word.effect for word in said if word.counts and word.effect is not None) is decision.effect
    assert {layer.name for layer in (_floor, *ceilings, *chain, *users)} <= {word.layer for word in said}
    assert any((word.effect, word.rule) == (decision.effect, decision.rule) for word in said)
