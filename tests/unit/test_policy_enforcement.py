"""How firmly each kind of rule holds, by level, runtime and pattern: the table of the design, and that nothing is promised more."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opagent.model import Effect
from opagent.policy.decide import BUILT_IN, OUTSIDE
from opagent.policy.enforcement import LEGEND, Ground, enforced, legend

ALL = frozenset(("network", "agents", "mcp", "secrets"))
FS = frozenset(("fs", "terminal"))
NONE, STRICT, LANDLOCK = Ground(), Ground("strict"), Ground("landlock")
ASKS, STRICT_ASKS = Ground(services=FS), Ground("strict", FS, ALL)


@pytest.mark.parametrize(
    ("kind", "effect", "pattern", "ground", "word", "really"),
    [
        ("read", "deny", "secrets/", STRICT, "os", "deny"),
        ("read", "deny", "secrets/**", STRICT, "os", "deny"),
        ("read", "deny", "a/key.pem", STRICT, "os", "deny"),
        ("read", "deny", "**/.env*", STRICT, "advisory", "deny"),
        ("read", "deny", "**/.env*", STRICT_ASKS, "acp", "deny"),
        ("read", "deny", "", STRICT, "advisory", "deny"),
        ("write", "deny", "", STRICT, "os", "deny"),
        ("write", "ask", "*.md", STRICT, "os", "deny"),
        ("write", "ask", "docs/", STRICT_ASKS, "os", "ask"),
        ("write", "ask", "*.md", STRICT_ASKS, "acp", "ask"),
        ("write", "deny", "docs/", LANDLOCK, "advisory", "deny"),
        ("write", "deny", OUTSIDE, LANDLOCK, "os", "deny"),
        ("read", "deny", OUTSIDE, STRICT, "os", "deny"),
        ("read", "deny", OUTSIDE, NONE, "advisory", "deny"),
        ("read", "deny", "secrets/", NONE, "advisory", "deny"),
        ("read", "deny", "secrets/", ASKS, "acp", "deny"),
        ("exec", "deny", ("rm",), STRICT, "advisory", "deny"),
        ("exec", "deny", ("rm",), ASKS, "acp", "deny"),
        ("network", "allow", "e.org", NONE, "advisory", "allow"),
        ("network", "allow", "e.org", STRICT, "os", "deny"),
        ("network", "ask", "", STRICT_ASKS, "proxy", "ask"),
        ("mcp", "ask", "", STRICT_ASKS, "proxy", "ask"),
        ("agents", "deny", "", NONE, "advisory", "deny"),
        ("secrets", "allow", "KEY", STRICT_ASKS, "proxy", "allow"),
        ("secrets", "allow", "KEY", Ground("strict", FS, ALL, frozenset({"KEY"})), "advisory", "allow"),
        ("secrets", "deny", "", STRICT, "proxy", "deny"),
    ],
)
def test_the_table(kind: str, effect: str, pattern: Any, ground: Ground, word: str, really: str) -> None:
    found = enforced(kind, Effect[effect.upper()], pattern, ground)
    assert (found.word, found.effect.word) == (word, really)
    assert found.effect.word == effect or found.reason, "what becomes of a rule otherwise is said"


_grounds = st.builds(
    Ground,
    st.sampled_from(["strict", "landlock", "advisory", "off"]),
    st.frozensets(st.sampled_from(["fs", "terminal"])),
    st.frozensets(st.sampled_from(sorted(ALL))),
)


@given(
    st.sampled_from(sorted(BUILT_IN)), st.sampled_from(list(Effect)), st.sampled_from(["", "a/", "**/x", "a.md", "*"]), _grounds
)
def test_no_word_says_more_than_there_is(kind: str, effect: Effect, pattern: str, ground: Ground) -> None:
    found = enforced(kind, effect, pattern, ground)
    assert found.word in LEGEND
    assert found.effect >= effect, "a rule never becomes weaker than it is written"
    if ground.level in ("off", "advisory"):
        assert found.word in ("acp", "advisory") or kind in ground.proxied or (kind, effect) == ("secrets", Effect.ALLOW)
        assert found.effect is effect
    if found.word == "acp":
        assert ground.services


def test_the_legend_names_the_words_that_are_used_the_firmest_first() -> None:
    assert [line.partition(":")[0] for line in legend(["advisory", "os", "os"])] == ["os", "advisory"]
