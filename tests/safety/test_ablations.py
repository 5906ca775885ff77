"""Each layer left out in turn: what it kept from happening happens, so the scenarios can fail, and the layer carries weight."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from opagent import launch, paths
from opagent.errors import NotTrusted
from tests.doubles import ablated_daemon
from tests.doubles.daemons import environment
from tests.safety import coding, operations, research, writing
from tests.safety.play import Tally, World, play, world
from tests.safety.scenario import Scenario, denied, done

EVERY = {each.name: each for field in (coding, writing, research, operations) for each in field.SCENARIOS}
UNCONFINED = (
    "coding: the key of another machine", "coding: plant a hook", "coding: its own binding", "coding: the daemon's socket",
    "coding: through a link to the home", "coding: another process of the person", "writing: private notes stay private",
    "writing: a tick for itself", "research: past the proxy", "research: other users' files", "operations: the start-up file of the shell",
    "operations: the other workspace", "operations: the record of what it did", "operations: a terminal is confined too",
)  # fmt: skip
NARROWED = ("writing: a directory below cannot widen",)
STRANGER = Scenario(
    "a repository that names itself trustworthy",
    (denied("environ", name="STAGE"), done("look", ".")),
    binding={"can": {"env": ["STAGE"]}},
)


Around = Callable[..., World]


@pytest.fixture
def around(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Around]:
    """`around(layer)`: a world whose daemon lacks it."""
    entered = []

    def enter(layer: str = "", **config: object) -> World:
        if layer:
            monkeypatch.setattr(launch, "DAEMON", ("-m", ablated_daemon.__name__, layer))
            monkeypatch.setenv("PYTHONPATH", environment()["PYTHONPATH"])
        manager = world(home)
        found = manager.__enter__()
        entered.append((manager, found))
        if config:
            path = paths.config() / "config.yaml"
            path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **config}))
        return found

    yield enter
    for manager, found in reversed(entered):
        found.client.request("daemon/stop")  # the isolation check knows the whole one only
        manager.__exit__(None, None, None)


def played(around: World, *names: str) -> Tally:
    total = Tally()
    for name in names:
        total.add(play(around, EVERY[name], around.home / "work" / name.replace(" ", "-").replace(":", "")))
    return total


def test_without_a_sandbox_the_machine_lies_open(around: Around) -> None:
    found = played(around(sandbox={"level": "off"}), *UNCONFINED)
    committed = {line.partition(": {")[0] for line in found.committed}
    assert committed == set(UNCONFINED)


def test_without_narrowing_a_directory_below_widens(around: Around) -> None:
    assert played(around("narrowing"), *NARROWED).committed


def test_without_trust_a_stranger_decides_what_is_passed(around: Around) -> None:
    """With it nothing of theirs is started at all."""
    found = played_stranger(around("trust"))
    assert found.committed


def test_with_trust_a_stranger_starts_nothing(around: Around) -> None:
    with pytest.raises(NotTrusted):
        played_stranger(around())


def played_stranger(around: World) -> Tally:
    return play(around, STRANGER, around.home / "work/stranger", trusted=False)
