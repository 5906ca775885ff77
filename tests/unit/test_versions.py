"""Versions of runtimes: how they are compared, which one a binding gets, what is left of work that was interrupted."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from opagent import paths
from opagent.errors import Conflict, FileRefused, NotFound
from opagent.packages import tree, versions

NUMBERS = st.lists(st.integers(0, 99), min_size=1, max_size=4)


def put(name: str, version: str, content: str = "x") -> versions.Installed:
    """A version as an installation leaves it; it does not count yet."""
    with versions.exclusive(name), versions.staging() as (place, _):
        ready = place / "ready"
        (ready / name).mkdir(parents=True)
        (ready / name / "file").write_text(content)
        (ready / "lock.json").write_text(json.dumps({"name": name, "version": version}))
        return versions.publish(ready, name, version)


@pytest.mark.parametrize(
    "line",
    ["0.9 0.10 1.0", "1.9.9 1.18.3 1.18.33", "2.0-alpha 2.0-beta.2 2.0-beta.11 2.0", "1.0 1.0.1", "1.0 1.0+abc"],
)
def test_versions_are_sorted_as_people_count(line: str) -> None:
    assert sorted(line.split(), key=versions.order) == line.split()


@given(NUMBERS, NUMBERS)
def test_numbers_decide(one: list[int], other: list[int]) -> None:
    first, second = (".".join(map(str, each)) for each in (one, other))
    assert (versions.order(first) < versions.order(second)) == (one < other)


@given(NUMBERS, st.integers(0, 5))
def test_a_version_fits_each_of_its_beginnings_and_no_other(numbers: list[int], more: int) -> None:
    version = ".".join(map(str, numbers))
    for length in range(1, len(numbers) + 1):
        assert versions.fits(version, ".".join(map(str, numbers[:length])))
    assert not versions.fits(f"{version}{more}", version)
    assert not versions.fits(f"{version}.{more}-rc.1", version)


def test_the_version_that_counts_wins_where_it_fits() -> None:
    for version in ("1.18.2", "1.18.33", "1.19.0", "2.0.0-beta"):
        put("mine", version)
    assert versions.matching("mine", "1.18") == "1.18.33"
    versions.activate("mine", "1.18.2")
    assert versions.matching("mine", "1.18") == "1.18.2"
    assert versions.matching("mine", "1") == "1.18.2"
    assert versions.matching("mine", "1.19") == "1.19.0"
    assert versions.matching("mine", "2") == ""
    assert versions.matching("mine", "2.0.0-beta") == "2.0.0-beta"
    assert versions.matching("nobody", "1") == ""


def test_back_and_back_again() -> None:
    for version in ("1", "2", "3"):
        put("mine", version)
        versions.activate("mine", version)
    assert versions.previous("mine") == "2"
    versions.activate("mine", "2")
    assert versions.previous("mine") == "3"
    versions.forget("mine", "3")
    assert versions.previous("mine") == "1"
    versions.forget("mine", "1")
    with pytest.raises(Conflict, match="no version to go back to"):
        versions.previous("mine")
    with pytest.raises(NotFound):
        versions.activate("mine", "3")


def test_what_is_not_whole_is_no_version() -> None:
    (versions.home("mine") / "1.0/mine").mkdir(parents=True)
    assert versions.of("mine") == [] and versions.names() == []
    (versions.home("mine") / "active.json").write_text("{")
    with pytest.raises(FileRefused):
        versions.active("mine")


def test_a_version_is_never_replaced() -> None:
    put("mine", "1.0", "first")
    with pytest.raises(Conflict, match="installed already"):
        put("mine", "1.0", "second")
    assert (versions.home("mine") / "1.0/mine/file").read_text() == "first"


def test_only_what_nobody_holds_is_swept() -> None:
    with versions.staging() as (held, _):
        pass_on = os.open(held / ".held", os.O_RDWR)
        left = paths.installed_runtimes() / ".staging/new-left"
        left.mkdir()
        assert versions.sweep() == 1 and held.exists() and not left.exists()
    os.close(pass_on)
    assert not held.exists()


def test_a_child_that_lives_holds_the_place() -> None:
    """What npm writes to after its parent was killed is not taken away under it."""
    base = paths.installed_runtimes() / ".staging"
    with versions.staging() as (place, fd):
        child = os.dup(fd)
    place.mkdir()
    (place / ".held").touch()
    fresh = os.open(place / ".held", os.O_RDWR)
    fcntl.flock(fresh, fcntl.LOCK_EX)
    assert versions.sweep() == 0
    os.close(fresh)
    os.close(child)
    assert versions.sweep() == 1 and [each.name for each in base.iterdir()] == [".lock"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(
    st.dictionaries(st.from_regex(r"[a-z]{1,3}(/[a-z]{1,3})?", fullmatch=True), st.binary(max_size=20), min_size=1, max_size=5)
)
def test_a_digest_tells_trees_apart(tmp_path: Path, content: dict[str, bytes]) -> None:
    place = tmp_path / "tree"
    tree.remove(place)
    place.mkdir()
    for name, data in content.items():
        path = place / name
        if path.is_dir() or any(parent.is_file() for parent in path.parents):
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    before = tree.digest(str(place))
    assert before == tree.digest(str(place))
    first = next(path for path in sorted(place.rglob("*")) if path.is_file())
    first.write_bytes(first.read_bytes() + b"!")
    changed = tree.digest(str(place))[0]
    first.chmod(0o755)
    assert len({before[0], changed, tree.digest(str(place))[0]}) == 3
    (place / "__pycache__").mkdir()
    (place / "__pycache__/x.pyc").write_bytes(b"x")
    assert tree.digest(str(place))[1] == before[1]
