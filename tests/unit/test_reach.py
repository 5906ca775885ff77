"""Which names a set of rules hides, protects and leaves writable: examples, and that mounts never allow what the rules deny."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opagent.model import Capabilities, Effect, Layer, RuleList
from opagent.policy.decide import FLOOR, decide
from opagent.policy.reach import MOST, Reach, TooMany, few, reach

FLOOR_LAYER = Layer(FLOOR, "/w", {"write": RuleList(deny=("**/.agent.yaml", "**/.vscode/", "conversations/"))})


def capabilities(**kinds: RuleList) -> Capabilities:
    return Capabilities(ceilings=(FLOOR_LAYER,), chain=(Layer("/w/.agent.yaml", "/w", kinds),), workspace="/w")


TREE: dict[str, Any] = {
    ".agent.yaml": None, ".env": None, "a.md": None, "b.py": None, "conversations": {"x.md": None},
    "docs": {"c.md": None, "deep": {"d.py": None}}, "secrets": {"k": None}, "sub": {".vscode": {"s.json": None}, ".agent.yaml": None},
}  # fmt: skip


def test_without_rules_only_the_floor_is_protected() -> None:
    assert reach(capabilities(), TREE) == Reach(protected=(".agent.yaml", "sub/.agent.yaml", "sub/.vscode"))


def test_what_may_not_be_read_is_hidden_as_whole_directories() -> None:
    found = reach(capabilities(read=RuleList(deny=("**/.env*", "secrets/"))), TREE)
    assert found.hidden == (".env", "secrets")


def test_nobody_can_be_asked_in_a_system_call() -> None:
    assert reach(capabilities(read=RuleList(ask=("b.py",))), TREE).hidden == ("b.py",)


def test_what_is_denied_but_for_one_directory() -> None:
    found = reach(capabilities(read=RuleList(allow=("docs/deep/",), default=Effect.DENY)), TREE)
    assert found.hidden == (".agent.yaml", ".env", "a.md", "b.py", "conversations", "docs/c.md", "secrets", "sub")


def test_a_default_of_deny_makes_the_workspace_read_only() -> None:
    found = reach(capabilities(write=RuleList(allow=("docs/", "*.md"), default=Effect.DENY)), TREE)
    assert found.read_only and found.writable == ("a.md", "docs") and found.protected == ()


def test_a_directory_below_a_writable_one_is_protected_again() -> None:
    found = reach(capabilities(write=RuleList(deny=("docs/deep/",))), TREE)
    assert "docs/deep" in found.protected and not found.read_only and not found.writable


def test_too_many_names_become_their_directories() -> None:
    names = (*(f"a/b/{number}" for number in range(MOST)), "c/1", "c/2")
    assert few(names) == ("a/b", "c/1", "c/2")
    with pytest.raises(TooMany):
        few(tuple(map(str, range(MOST + 1))))


NAMES = st.sampled_from(["a", "b", "c.md", ".env"])
TREES = st.recursive(
    st.dictionaries(NAMES, st.none(), max_size=3),
    lambda below: st.dictionaries(NAMES, st.none() | below, max_size=3),
    max_leaves=8,
)
PATTERNS = st.lists(st.sampled_from(["a/", "**/b", "*.md", "**/.env", "a/b/", "b/**"]), max_size=3).map(tuple)
RULES = st.builds(RuleList, allow=PATTERNS, deny=PATTERNS, default=st.sampled_from([None, Effect.ALLOW, Effect.DENY]))


def everything(tree: dict[str, Any], path: str = "") -> list[tuple[str, bool]]:
    found = []
    for name, below in tree.items():
        here = f"{path}/{name}" if path else name
        found.append((here, below is not None))
        found += everything(below, here) if below else []
    return found


@given(TREES, RULES, RULES)
def test_what_is_there_is_as_the_rules_say(tree: dict[str, Any], read: RuleList, write: RuleList) -> None:
    allowed = capabilities(read=read, write=write)
    found = reach(allowed, tree)
    for name, is_directory in everything(tree):
        if is_directory:
            continue
        hidden = any(name == place or name.startswith(f"{place}/") for place in found.hidden)
        assert hidden == (decide(allowed, "read", name).effect is not Effect.ALLOW), name
        over = [place for place in (*found.protected, *found.writable) if name == place or name.startswith(f"{place}/")]
        writable = max(over, key=len) in found.writable if over else not found.read_only
        assert writable == (decide(allowed, "write", name).effect is Effect.ALLOW), name
