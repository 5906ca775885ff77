"""What is told of watched files, without files and clocks: names, rest, limits, and whether a look shows something new."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opagent.watch.changes import BATCH, LIMIT, MOST, REST, Quiet, Sightings, Signature, relevant

COARSE = 20_000_000
TICK = 0.001


@pytest.mark.parametrize(
    "name",
    ["c.md~", "4913", ".c.md.swp", ".c.md.swo", ".#c.md", "#c.md#", "sedAbCdEf", ".opagent-c.md.1.2", ".opagent-probe", "c.tmp", "c.md.tmp",
     ".c.md", ".c.md.AbCdEf", ".git/c.md", "a/.b/c.md", "a/.#c.md", "c.txt", "md", "c.MD", ""],
)  # fmt: skip
def test_names_that_do_not_matter(name: str) -> None:
    assert not relevant(name)


@pytest.mark.parametrize(
    "name", ["c.md", "a/b.c/d.md", "sedabc.md", "4913.md", "#c.md", "a b.md", "c\n.md", "\udcff.md", "..md..md"[2:]]
)
def test_names_that_matter(name: str) -> None:
    assert relevant(name)


def test_one_event_is_due_after_a_rest() -> None:
    quiet = Quiet()
    assert quiet.next_deadline() is None
    quiet.event("c", 10.0)
    assert quiet.next_deadline() == 10.0 + REST
    assert quiet.due(10.0 + REST - TICK) == () and "c" in quiet
    assert quiet.due(10.0 + REST) == ("c",) and "c" not in quiet
    assert quiet.due(99.0) == () and quiet.next_deadline() is None


def test_events_put_it_off_but_not_for_ever() -> None:
    quiet = Quiet()
    now = 0.0
    while now < 3 * LIMIT and not quiet.due(now):
        quiet.event("c", now)
        now += REST / 2
    assert LIMIT <= now < LIMIT + REST


def test_a_file_that_was_made_waits_for_its_writer() -> None:
    quiet = Quiet()
    quiet.event("c", 0.0, unfinished=True)
    assert quiet.due(LIMIT - TICK) == ()
    quiet.event("c", 0.2)
    assert quiet.due(0.2 + REST) == ("c",)
    quiet.event("d", 1.0, unfinished=True)  # a pipe, a second name: nobody closes it
    assert quiet.due(1.0 + LIMIT) == ("d",)


def test_it_is_full_at_a_limit() -> None:
    quiet = Quiet()
    for number in range(MOST):
        assert not quiet.full
        quiet.event(str(number), 0.0)
    assert quiet.full
    quiet.due(1.0)
    assert not quiet.full


def test_one_round_has_a_limit_and_the_rest_is_due_at_once() -> None:
    quiet = Quiet()
    names = [str(number) for number in range(2 * BATCH + 1)]
    for name in names:
        quiet.event(name, 0.0)
    first = quiet.due(1.0)
    assert first == tuple(names[:BATCH])
    assert quiet.next_deadline() == REST
    assert [*first, *quiet.due(1.0), *quiet.due(1.0)] == names


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 0.3), st.booleans()), min_size=1))
def test_every_path_is_told_after_its_last_event_and_in_time(steps: list[tuple[str, float, bool]]) -> None:
    """Whoever asks at each deadline hears of each event, no later than LIMIT after it, and only after a rest or LIMIT."""
    quiet, now = Quiet(), 0.0
    unheard: dict[str, tuple[float, float]] = {}  # path -> first and last event

    def ask(until: float) -> None:
        while (deadline := quiet.next_deadline()) is not None and deadline <= until:
            found = quiet.due(deadline)
            assert found
            for path in found:
                first, last = unheard.pop(path)
                assert deadline <= first + LIMIT
                assert deadline >= min(last + REST, first + LIMIT)

    for path, pause, unfinished in steps:
        now += pause
        ask(now)
        quiet.event(path, now, unfinished)
        unheard[path] = unheard.get(path, (now, now))[0], now
    ask(now + LIMIT)
    assert not unheard


def test_what_was_there_before_is_no_news() -> None:
    sightings = Sightings()
    old = Signature(5, 1, 1)
    sightings.start({"c": old})
    assert list(sightings.changed({"c": old})) == []
    assert sightings.changed({"d": old}) == ["c", "d"]
    assert sightings.differs("c", None) and sightings.differs("e", None), "it came and went"


@pytest.mark.parametrize("other", [Signature(6, 1, 1), Signature(5, 2, 1), Signature(5, 1, 2), Signature(4, 1, 1)])
def test_time_size_and_inode_each_tell(other: Signature) -> None:
    sightings = Sightings()
    sightings.note("c", Signature(5, 1, 1), COARSE + 6)
    assert not sightings.differs("c", Signature(5, 1, 1))
    assert sightings.differs("c", other)
    sightings.note("c", None, 0)
    assert not sightings.differs("c", None) and sightings.differs("c", other)


def test_a_look_within_a_tick_of_the_clock_is_not_trusted() -> None:
    """A second save in the same tick has the same time and may have the same size."""
    sightings = Sightings()
    saved = Signature(1_000_000_000, 1, 1)
    sightings.note("c", saved, saved.mtime_ns + COARSE)
    assert sightings.differs("c", saved)
    for later in (COARSE + 1, -COARSE - 1):  # it may come from a clock that is ahead
        sightings.note("c", saved, saved.mtime_ns + later)
        assert not sightings.differs("c", saved)
