"""One short soak of the suite; `python -m tests.soak --minutes 10` runs as many seeds as fit into that time."""

from __future__ import annotations

import pytest

from tests.bench.place import Place
from tests.soak.run import soak

SEED = 12


@pytest.mark.slow
def test_a_person_an_agent_and_a_daemon_that_is_killed() -> None:
    with Place() as place:
        report = soak(place, SEED, seconds=20)
    assert not report.wrong, "\n".join(report.wrong)
    assert report.numbers["kills"] > 3 and report.numbers["saves"] > 20 and report.numbers["chunks"] > 500, report.numbers
