"""The decision: floor, ceilings, defaults, chain."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from opagent.model import Capabilities, Effect, Layer, RuleList
from opagent.policy import rules
from opagent.policy.decide import BUILT_IN, FLOOR, MACHINE, USER, decide
from tests.doubles.steps import steps

W = "/home/u/w"


def layer(name: str, base: str = W, /, **kinds: RuleList) -> Layer:
    return Layer(name, base, kinds, name)


def numbered(allow: tuple = (), ask: tuple = (), deny: tuple = (), default: Effect | None = None) -> RuleList:
    lines = {
        f"{word}.{index}": 10 + index
        for word, each in (("allow", allow), ("ask", ask), ("deny", deny))
        for index, _ in enumerate(each)
    }
    return RuleList(allow, ask, deny, default, lines | {"default": 9})


FLOOR_LAYER = layer(
    FLOOR, read=RuleList(deny=("/home/u/.ssh/",)), write=RuleList(deny=("**/.agent.yaml", "**/.git/", "conversations/"))
)


def can(*chain: Layer, ceilings: tuple = (), defaults: tuple = (), secrets: Mapping | None = None) -> Capabilities:
    return Capabilities((FLOOR_LAYER, *ceilings), chain, secrets=secrets or {}, defaults=defaults, workspace=W)


def word(capabilities: Capabilities, kind: str, request: object) -> str:
    return decide(capabilities, kind, request).effect.word  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "request_", "is_"),
    [
        ("read", "a.md", "allow"),
        ("read", f"{W}/a.md", "allow"),
        ("read", ".", "allow"),
        ("write", "a.md", "allow"),
        ("exec", ("git", "push"), "allow"),
        ("network", "example.com", "ask"),
        ("agents", "reviewer", "ask"),
        ("mcp", "fs/read", "ask"),
        ("secrets", "KEY", "deny"),
        ("read", "/etc/passwd", "deny"),
        ("read", "../x", "deny"),
        ("read", "a/../../x", "deny"),
        ("read", "/home/u/.ssh/id", "deny"),
        ("write", "x/.agent.yaml", "deny"),
        ("write", ".git/config", "deny"),
        ("write", "x/../.git/config", "deny"),
        ("write", "conversations/a.md", "deny"),
        ("read", "conversations/a.md", "allow"),
        ("network", "127.0.0.1", "deny"),
        ("network", "169.254.169.254", "deny"),
    ],
)
def test_what_holds_when_nobody_speaks(kind: str, request_: object, is_: str) -> None:
    assert word(can(), kind, request_) == is_


def test_every_kind_has_a_default() -> None:
    assert set(BUILT_IN) == set(rules.KINDS)
    with pytest.raises(ValueError, match="no such kind"):
        decide(can(), "sing", "x")


def test_the_answer_names_its_rule_and_layer() -> None:
    chain = (
        layer("/w/.agent.yaml", write=numbered(("*.md",), default=Effect.DENY)),
        layer("/w/a/.agent.yaml", write=numbered(ask=("x.md",))),
    )
    assert decide(can(*chain), "write", "a.md").rule == "/w/.agent.yaml:10"
    assert decide(can(*chain), "write", "a.py").rule == "/w/.agent.yaml:9"
    found = decide(can(*chain), "write", "x.md")
    assert (found.effect, found.rule, found.layer, found.pattern) == (
        Effect.ASK,
        "/w/a/.agent.yaml:10",
        "/w/a/.agent.yaml",
        "x.md",
    )
    assert decide(can(), "write", ".git/x").rule == "built-in floor: **/.git/"
    assert decide(can(), "network", "e.org").rule == "built-in default of network"


def test_a_trusted_outermost_binding_may_lower_a_built_in_default() -> None:
    assert word(can(layer("f", network=numbered(("e.org",)))), "network", "e.org") == "allow"
    assert word(can(layer("f", network=numbered(default=Effect.ALLOW))), "network", "e.org") == "allow"


def test_a_deeper_one_never_may() -> None:
    top = layer("f")
    assert word(can(top, layer("g", network=numbered(("e.org",)))), "network", "e.org") == "ask"
    closed = layer("f", network=numbered(("e.org",), default=Effect.DENY))
    assert word(can(closed, layer("g", network=numbered(("x.org",)))), "network", "x.org") == "deny"
    assert word(can(closed, layer("g", network=numbered(ask=("e.org",)))), "network", "e.org") == "ask"


def test_no_binding_lowers_the_floor() -> None:
    greedy = layer("f", read=numbered(("**",)), write=numbered(("**",)), network=numbered(("*", "127.0.0.1")))
    for kind, request in (("read", "/etc/passwd"), ("write", ".git/config"), ("write", ".agent.yaml"), ("network", "127.0.0.1")):
        assert word(can(greedy), kind, request) == "deny"


def test_the_user_lifts_the_exceptions_by_naming_them() -> None:
    user = layer(USER, read=numbered(("/srv/data/",)), write=numbered(("**/.git/",)), network=numbered(("127.0.0.1:8080", "*:*")))
    allowed = can(defaults=(user,))
    assert word(allowed, "read", "/srv/data/x") == "allow"
    assert word(allowed, "read", "/srv/other") == "deny"
    assert word(allowed, "write", "/srv/data/x") == "deny"
    assert word(allowed, "network", "127.0.0.1:8080") == "allow"
    assert word(allowed, "network", "10.0.0.1:80") == "deny", "a star names nothing"
    assert word(allowed, "write", ".git/config") == "deny", "this part of the floor has no exceptions"
    home = can(defaults=(layer("/home/u/.agent.yaml", "/home/u", read=numbered(("x/",)), network=numbered(("127.0.0.1",))),))
    assert word(home, "read", "/home/u/x/y") == "deny", "only the user's own configuration lifts the floor"
    assert word(home, "network", "127.0.0.1") == "deny"


def test_the_users_allow_replaces_the_built_in_default_only() -> None:
    user = layer(USER, network=numbered(("e.org",)))
    assert word(can(defaults=(user,)), "network", "e.org") == "allow"
    assert word(can(layer("f", network=numbered(ask=("e.org",))), defaults=(user,)), "network", "e.org") == "ask"
    assert word(can(layer("f", network=numbered(default=Effect.DENY)), defaults=(user,)), "network", "e.org") == "deny"


def test_the_users_ask_and_deny_are_a_ceiling() -> None:
    user = layer(USER, network=numbered(ask=("a.org",), deny=("d.org",)))
    greedy = can(layer("f", network=numbered(("a.org", "d.org", "e.org"))), defaults=(user,))
    assert [word(greedy, "network", host) for host in ("a.org", "d.org", "e.org")] == ["ask", "deny", "allow"]


def test_a_users_default_beats_the_default_of_a_binding_but_no_explicit_rule() -> None:
    user = layer(USER, network=numbered(default=Effect.DENY))
    binding = can(layer("f", network=numbered(("e.org",), default=Effect.ALLOW)), defaults=(user,))
    assert word(binding, "network", "e.org") == "allow"
    assert word(binding, "network", "x.org") == "deny"
    assert word(can(defaults=(user,)), "network", "x.org") == "deny"
    open_ = layer(USER, network=numbered(default=Effect.ALLOW))
    assert word(can(layer("f", network=numbered(default=Effect.ASK)), defaults=(open_,)), "network", "x.org") == "ask"


def test_the_machine_is_a_ceiling_with_its_default() -> None:
    machine = layer(MACHINE, network=numbered(("e.org",), default=Effect.DENY))
    greedy = can(layer("f", network=numbered(("e.org", "x.org"))), ceilings=(machine,))
    assert word(greedy, "network", "e.org") == "allow"
    assert word(greedy, "network", "x.org") == "deny"
    assert word(can(ceilings=(machine,)), "network", "e.org") == "ask", "a ceiling permits nothing"


def test_a_secret_that_a_deeper_list_leaves_out_is_gone() -> None:
    top = layer("f", secrets=RuleList(allow=("A", "B")))
    assert word(can(top, secrets={"A": {}, "B": {}}), "secrets", "A") == "allow"
    assert word(can(top, secrets={"B": {}}), "secrets", "A") == "deny"


def test_a_decision_looks_at_each_rule_once() -> None:
    """Four layers with 200 rules each."""
    big = numbered(
        tuple(f"src/m{i}/**" for i in range(100)),
        tuple(f"docs/{i}/*" for i in range(50)),
        tuple(f"**/secret{i}*" for i in range(50)),
    )
    capabilities = can(*(layer(f"f{i}", read=big) for i in range(4)))
    decide(capabilities, "read", "src/m99/deep/er/file.py")
    assert steps(lambda: decide(capabilities, "read", "src/m99/deep/er/another.py")) < 40 * 4 * 200
