"""What a scenario is: a directory, a binding, and an agent's acts, each with what must become of it. Words only, runs nothing."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Act = Mapping[str, Any]


class Wanted(enum.Enum):
    """What must become of an act."""

    DONE = "done"  # without a question
    ASKED = "asked"  # a person is asked, says yes, and it happens
    REFUSED = "refused"  # a person is asked, says no, and it does not happen
    DENIED = "denied"  # nobody is asked, and it does not happen


@dataclass(frozen=True, slots=True)
class Step:
    act: Act
    wanted: Wanted
    holds: str | None = None  # what the report of the act must hold; of a denied one: what it must not


@dataclass(frozen=True, slots=True)
class Scenario:
    """`files` are there before; `nested` are bindings of directories below; `opened` is the directory that is opened.

    `served`: the runtime wants the client's file and terminal services. `git`: the directory is a repository with one commit.
    """

    name: str
    steps: tuple[Step, ...]
    binding: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    nested: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    opened: str = "."
    served: bool = False
    git: bool = False

    @property
    def attacks(self) -> bool:
        return any(step.wanted in (Wanted.DENIED, Wanted.REFUSED) for step in self.steps)


def done(do: str, path: str = "", holds: str | None = None, **more: Any) -> Step:
    return Step(_act(do, path, more), Wanted.DONE, holds)


def asked(do: str, path: str = "", holds: str | None = None, **more: Any) -> Step:
    return Step(_act(do, path, more), Wanted.ASKED, holds)


def refused(do: str, path: str = "", holds: str | None = None, **more: Any) -> Step:
    return Step(_act(do, path, more), Wanted.REFUSED, holds)


def denied(do: str, path: str = "", holds: str | None = None, **more: Any) -> Step:
    return Step(_act(do, path, more), Wanted.DENIED, holds)


def _act(do: str, path: str, more: Mapping[str, Any]) -> Act:
    return {"do": do, **({"path": path} if path else {}), **more}
