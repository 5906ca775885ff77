"""How firmly a rule holds: what the kernel refuses, what has to pass us, what holds only when an agent asks. Pure.

`os`: the kernel refuses. `proxy`: the daemon or its proxy stands in the way. `acp`: only when the agent asks us. `advisory`:
nothing stops it. (Design: security.md, "Enforcement".)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from opagent.model import Effect
from opagent.policy import rules
from opagent.policy.decide import OUTSIDE

OS, PROXY, ACP, ADVISORY = "os", "proxy", "acp", "advisory"
STRICT, LANDLOCK, NOTHING = "strict", "landlock", "off"  # levels of a sandbox; any other word is none
LEGEND = {
    OS: "the kernel refuses it",
    PROXY: "it has to pass OpAgent",
    ACP: "only when the agent asks OpAgent",
    ADVISORY: "nothing stops it",
}


@dataclass(frozen=True, slots=True)
class Ground:
    """What stands between an agent and what it wants here.

    `services`: what its runtime asks us to do, `fs` and `terminal`. `proxied`: the kinds whose requests have to pass us, since
    nothing else leads out of the sandbox. `exposed`: secrets that stand in the agent's environment; the proxy puts in the others.
    """

    level: str = NOTHING
    services: frozenset[str] = frozenset()
    proxied: frozenset[str] = frozenset()
    exposed: frozenset[str] = frozenset()

    @property
    def confined(self) -> bool:
        return self.level == STRICT


@dataclass(frozen=True, slots=True)
class Enforced:
    """`effect`: what really becomes of it, where that is stricter than the rule. `reason`: a sentence, if any."""

    word: str
    effect: Effect
    reason: str = ""


def enforced(kind: str, effect: Effect, pattern: Any, ground: Ground) -> Enforced:
    """Of one rule; `pattern` "" is what holds for all else. Raises KeyError for an unknown kind."""
    return _KINDS[kind](kind, effect, pattern, ground)


def _paths(kind: str, effect: Effect, pattern: Any, ground: Ground) -> Enforced:
    asked = ACP if "fs" in ground.services else ADVISORY
    if pattern == OUTSIDE and ground.level in (STRICT, LANDLOCK):
        return Enforced(OS, effect)
    if ground.level == LANDLOCK:
        return Enforced(asked, effect, "the kernel keeps it in the workspace; inside that, this holds as said")
    if ground.level != STRICT:
        return Enforced(asked, effect)
    silent = effect is Effect.ASK and asked != ACP
    reasons = ["nobody can be asked in the middle of a system call, and this runtime asks for no file"] if silent else []
    really = Effect.DENY if silent else effect
    if _whole(kind, effect, pattern):
        return Enforced(OS, really, *reasons)
    return Enforced(
        asked, really, "; ".join([*reasons, "the kernel holds it for the names that are there when the agent starts"])
    )


def _whole(kind: str, effect: Effect, pattern: Any) -> bool:
    """Whether mounts hold it for names that come later too: a directory, one name, or a workspace that is read-only."""
    text = str(pattern).removeprefix("!")
    if not text:
        return effect is Effect.ALLOW or kind == "write"
    return not set(text.removesuffix("/**")) & set("*?{")


def _commands(kind: str, effect: Effect, pattern: Any, ground: Ground) -> Enforced:
    """What runs is confined; which program it is, is not."""
    said = "any program that is mounted can be started; the sandbox holds it as it holds the agent" if ground.confined else ""
    return Enforced(ACP if "terminal" in ground.services else ADVISORY, effect, said)


def _passing(kind: str, effect: Effect, pattern: Any, ground: Ground) -> Enforced:
    if kind in ground.proxied:
        return Enforced(PROXY, effect)
    if ground.level == LANDLOCK and kind == "agents":
        return Enforced(OS, Effect.DENY, "at this level no agent can come to another" if effect is not Effect.DENY else "")
    if ground.level == STRICT:
        return Enforced(OS, Effect.DENY, "nothing of the kind reaches the sandbox" if effect is not Effect.DENY else "")
    return Enforced(ADVISORY, effect)


def _secrets(kind: str, effect: Effect, pattern: Any, ground: Ground) -> Enforced:
    if effect is not Effect.ALLOW:
        return Enforced(PROXY if ground.level == STRICT else ADVISORY, effect)
    if pattern in ground.exposed:
        return Enforced(ADVISORY, effect, "it stands in the agent's environment, which may give it to anybody")
    return Enforced(PROXY, effect, "the proxy puts it in; the agent does not hold it")


_KINDS = {
    **dict.fromkeys(rules.PATHS, _paths),
    "exec": _commands,
    **dict.fromkeys(("network", "agents", "mcp"), _passing),
    "secrets": _secrets,
}


def legend(words: Sequence[str]) -> list[str]:
    """What the words mean, one line each, the firmest first."""
    return [f"{word}: {meaning}" for word, meaning in LEGEND.items() if word in words]
