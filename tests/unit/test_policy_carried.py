"""The rules of a caller as they travel to another machine, and the words by which a rule speaks of one."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from opagent.daemon import admitting
from opagent.errors import Usage
from opagent.model import Capabilities, Effect, Layer, RuleList
from opagent.policy import carried, decide, rules
from opagent.target import parse

CALLER = Capabilities(
    chain=(
        Layer(
            "/home/me/w/.agent.yaml",
            "/home/me/w",
            {
                "exec": RuleList(allow=(("git", ("status", "diff")),), deny=(("git", "push"),), lines={"deny.0": 7}),
                "network": RuleList(allow=("example.com",), default=Effect.DENY),
                "agents": RuleList(allow=("helper",)),
                "write": RuleList(deny=("**",)),
            },
        ),
    ),
    workspace="/home/me/w",
    max_depth=3,
)
CALLEE = Capabilities(
    chain=(Layer("/srv/.agent.yaml", "/srv", {kind: RuleList(default=Effect.ALLOW) for kind in ("exec", "network", "agents")}),),
    workspace="/srv",
)


def travelled(capabilities: Capabilities) -> Capabilities:
    return carried.from_json(json.loads(json.dumps(carried.as_json(capabilities))))


def test_what_travels_decides_the_same_but_for_files() -> None:
    there = travelled(CALLER)
    bound = replace(CALLEE, within=(there,))
    for kind, request in (
        ("exec", ("git", "push")), ("exec", ("git", "status")), ("network", "example.com:443"), ("network", "other.org:443"),
        ("agents", "helper"), ("agents", "third"),
    ):  # fmt: skip
        said = decide.decide(bound, kind, request)
        assert said.effect is decide.decide(replace(CALLEE, within=(CALLER,)), kind, request).effect
    assert decide.decide(bound, "exec", ("git", "push")).rule == decide.decide(CALLER, "exec", ("git", "push")).rule
    assert decide.decide(bound, "write", "/srv/a").effect is Effect.ALLOW
    assert decide.decide(bound, "write", "/home/me/w/a").effect is decide.decide(CALLEE, "write", "/home/me/w/a").effect
    assert (there.max_depth, there.max_children) == (3, 4)


@pytest.mark.parametrize(
    "said",
    [
        None, [], {}, {"ceilings": [], "chain": [], "defaults": [], "max_depth": True, "max_children": 4},
        {"ceilings": [{}], "chain": [], "defaults": [], "max_depth": 2, "max_children": 4},
        {**carried.as_json(CALLER), "chain": [{"name": "a", "base": "/", "file": "", "kinds": {"mcp": {"allow": [3]}}}]},
    ],
)  # fmt: skip
def test_what_is_no_rules_is_refused(said: object) -> None:
    with pytest.raises(Usage):
        carried.from_json(said)


@pytest.mark.parametrize(
    ("pattern", "request_", "matched"),
    [
        ("gpu1:/srv/docs", "gpu1:/srv/docs", True),
        ("ssh://gpu1/srv/docs", "gpu1:/srv/docs", True),
        ("ssh://gpu1/~/docs", "gpu1:docs", True),
        ("gpu1:docs", "gpu1:docs", True),
        ("gpu1:docs", ("gpu1:/home/me/docs", "gpu1:docs"), True),
        ("gpu1:/home/me/*", ("gpu1:/home/me/docs", "gpu1:docs"), True),
        ("gpu1:srv", ("gpu1:/home/me/docs", "gpu1:docs"), False),
        ("gpu1:/srv/*", "gpu1:/srv/docs", True),
        ("gpu1:/**", "gpu1:/srv/docs/a", True),
        ("gpu*:/**", "gpu2:/srv", True),
        ("ssh://ana@gpu1:2222/srv/**", "ssh://ana@gpu1:2222/srv/docs", True),
        ("gpu1:/srv/*", "gpu2:/srv/docs", False),
        ("gpu1:/srv/docs", "gpu1:/srv/docs/a", False),
        ("*", "gpu1:docs", False),
        ("**", "gpu1:docs", False),
        ("/**", "gpu1:/srv/docs", False),
        ("../**", "gpu1:/srv/docs", False),
        ("gpu1:/**", "/srv/docs", False),
        ("gpu1:*", "helper", False),
    ],
)
def test_rules_about_another_machine(pattern: str, request_: str | tuple[str, ...], matched: bool) -> None:
    assert rules.matches("agents", pattern, request_, "/home/me") is matched


def spelled(word: str, home: str = "") -> tuple[str, ...]:
    found = parse(word)
    assert found is not None
    return admitting.spellings(found, home)


def test_a_directory_there_has_one_name() -> None:
    words = ("gpu1:/srv/docs", "ssh://gpu1/srv/docs", "gpu1:/srv/x/../docs/", "gpu1://srv/docs")
    assert {spelled(word, home) for word in words for home in ("", "/home/me")} == {("gpu1:/srv/docs",)}
    assert spelled("gpu1:~/docs") == spelled("ssh://gpu1/~/docs") == ("gpu1:docs",)
    assert spelled("gpu1:") == spelled("gpu1:~") == ("gpu1:",)
    for word in ("gpu1:../bob", "gpu1:.."):
        with pytest.raises(Usage, match="names no directory"):
            spelled(word, "/home/me")


@pytest.mark.parametrize("word", ["gpu1:docs", "gpu1:~/docs", "gpu1:/home/me/docs", "gpu1:/home//me/x/../docs/"])
def test_below_a_home_that_is_known_there_are_two_words_for_one_directory(word: str) -> None:
    assert spelled(word, "/home/me") == ("gpu1:/home/me/docs", "gpu1:docs")
    assert spelled("gpu1:", "/home/me") == ("gpu1:/home/me", "gpu1:")
