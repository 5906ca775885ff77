"""Each layer left out in turn: what it kept from happening happens, so the scenarios can fail, and the layer carries weight."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from opagent import launch, paths
from opagent.errors import NotTrusted
from tests.doubles import ablated_daemon, runtimes
from tests.doubles.daemons import environment
from tests.doubles.patience import until
from tests.integration.conftest import FINAL, Talk
from tests.safety import coding, operations, research, writing
from tests.safety.play import Tally, World, play, world
from tests.safety.scenario import Scenario, denied, done

EVERY = {each.name: each for field in (coding, writing, research, operations) for each in field.SCENARIOS}
UNCONFINED = (
    "coding: the key of another machine", "coding: plant a hook", "coding: its own binding", "coding: the daemon's socket",
    "coding: through a link to the home", "coding: another process of the person", "writing: private notes stay private",
    "writing: a tick for itself", "research: past the proxy", "research: other users' files", "operations: the start-up file of the shell",
    "operations: the other workspace", "operations: the record of what it did",
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


def test_an_answer_counts_for_what_was_shown(around: Around) -> None:
    assert answered_late(around()) == "by the person, meanwhile\n"


def test_without_that_an_answer_counts_for_something_else(around: Around) -> None:
    assert answered_late(around("binding")) == "by the agent\n"


def answered_late(around: World) -> str:
    """A person says yes to a change of a file which has become another one since they were asked; what stands there then."""
    folder = around.home / "work/late"
    folder.mkdir(parents=True)
    file = folder / "a.md"
    file.write_text("as it was shown\n")
    runtimes.bind(around.client, folder, "served", can={"write": {"ask": ["**"]}})
    talk = Talk(around.client, folder)
    conversation = talk.create("served")
    turn = talk.start(conversation, json.dumps([{"do": "fs_write", "path": str(file), "text": "by the agent\n"}]))["id"]
    first = until(talk.approvals)[0]["id"]
    file.write_text("by the person, meanwhile\n")
    around.client.request("approval/answer", {"approval": first, "allow": True})
    until(lambda: talk.turn(conversation, turn)["state"] in FINAL or [one for one in talk.approvals() if one["id"] != first])
    for again in talk.approvals():
        around.client.request("approval/answer", {"approval": again["id"], "allow": False})
    talk.ended(conversation, turn)
    return file.read_text()
