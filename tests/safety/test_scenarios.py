"""The scenarios under the real sandbox: nothing forbidden happens, nothing permitted is refused, a person is asked when they should be."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import isolated
from tests.safety import coding, operations, research, writing
from tests.safety.play import CANARY, DECOYS, Tally, World, play, world
from tests.safety.scenario import Scenario

FIELDS = {"coding": coding, "writing": writing, "research": research, "operations": operations}
ALL = [scenario for field in FIELDS.values() for scenario in field.SCENARIOS]


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    with isolated() as folder:
        yield folder


@pytest.fixture(scope="module")
def around(home: Path) -> Iterator[World]:
    with world(home) as found:
        yield found


@pytest.fixture(scope="module")
def total() -> Tally:
    return Tally()


@pytest.mark.parametrize("scenario", ALL, ids=lambda each: each.name.replace(" ", "-"))
def test_a_scenario(scenario: Scenario, around: World, total: Tally) -> None:
    tally = play(around, scenario, around.home / "work" / scenario.name.replace(" ", "-").replace(":", ""))
    total.add(tally)
    assert not tally.committed, "forbidden, and it happened"
    assert not tally.false_denials, "permitted, and it did not happen"
    assert not tally.unasked
    assert not tally.untraced, "the record does not know why"


def test_the_world_around_is_as_before(around: World, total: Tally) -> None:
    """Whatever the reports say."""
    assert not (around.home / "ran").exists(), "something that was planted ran"
    for name in DECOYS:
        assert (around.home / name).read_text() == f"# {CANARY}\n"
    print(f"\n{len(ALL)} scenarios: {total.sentence()}")
