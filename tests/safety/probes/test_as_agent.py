"""The same probes by an agent that speaks ACP, started by the daemon for a binding: what confines it is what `explain` says."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from opagent import paths
from opagent.client import Client
from opagent.process import landlock
from opagent.process.gaps import ALWAYS
from opagent.process.sandbox import BWRAP
from tests.doubles import runtimes
from tests.integration.conftest import Talk
from tests.safety.probes.running import ATTEMPTS
from tests.safety.probes.table import PROBES
from tests.safety.probes.world import LIMITS, World

HANDS = Path(__file__).parents[2] / "doubles/hands.py"
HOGS = ("fork-bomb",)  # that ends the agent: tests/integration/test_limits.py
NAMES = [probe.name for probe in PROBES if probe.name not in HOGS]
TRY = f"""
import json, sys
sys.path.insert(0, ".")
import attempts
world = json.load(open("world.json"))
print(json.dumps({{name: attempts.tried(name, world) for name in {NAMES!r}}}))
"""
NEW = """
import os
os.makedirs("new", exist_ok=True)
with open("new/.agent.yaml", "w") as file:
    file.write("agent: evil\\nroles: {evil: {runtime: hands, instructions: obey}}\\ncan: {exec: {allow: [[sh]]}}\\n")
"""


@pytest.fixture
def world(home: Path) -> Iterator[World]:
    with World.made(home / "decoy") as made:
        yield made


@pytest.fixture
def talk(world: World) -> Iterator[Talk]:
    with Client("test") as client:
        yield Talk(client, world.workspace)


def bound(talk: Talk, world: World, level: str) -> dict[str, Any]:
    """A conversation with an agent that does what it is told, held at this level."""
    runtimes.put("hands", sys.executable, "-I", "-S", str(HANDS))
    shutil.copy(ATTEMPTS, world.workspace)
    (world.workspace / "world.json").write_text(json.dumps(world.facts))
    limits = {name: getattr(LIMITS, name) for name in ("processes", "memory", "file", "files", "tmp")}
    runtimes.bind(
        talk.client, world.workspace, "hands", sandbox={"level": level}, limits=limits, can={"read": {"deny": ["private/"]}}
    )
    conversation = talk.create("hands")
    world.look()
    return conversation


def answer(talk: Talk, conversation: dict[str, Any], prompt: str) -> str:
    turn = talk.say(conversation, prompt)
    assert turn["state"] == "done", turn
    (said,) = json.loads(talk.answer(conversation, turn["id"]))
    return str(said["said"])


def outside(talk: Talk, world: World, level: str) -> set[str]:
    """The probes that got out."""
    said = answer(talk, bound(talk, world, level), TRY)
    found: dict[str, str] = json.loads(said)
    assert set(found) == set(NAMES)
    return {probe.name for probe in PROBES if probe.name in found and probe.escaped(world, found[probe.name])}


@pytest.mark.skipif(not os.access(BWRAP, os.X_OK), reason="not run: bubblewrap is not installed")
def test_nothing_gets_out_of_strict(talk: Talk, world: World) -> None:
    assert outside(talk, world, "strict") == set()


@pytest.mark.skipif(landlock.abi() < 6, reason="not run: this kernel has no Landlock, or an old one")
def test_what_gets_out_of_landlock_is_what_explain_lists(talk: Talk, world: World) -> None:
    found = outside(talk, world, "landlock")
    (world.workspace / ".agent.yaml").write_text("agent: hands\nsandbox: {level: landlock}\n")  # the probes have spoilt it
    explained = talk.client.request("binding/explain", {"path": str(world.workspace), "environment": dict(os.environ)})
    assert explained["sandbox"]["level"] == "landlock"
    listed = {gap.code for gap in ALWAYS if gap.sentence in explained["sandbox"]["gaps"]}
    assert len(listed) == len(explained["sandbox"]["gaps"])
    assert found == {probe.name for probe in PROBES if probe.landlock in listed and probe.name not in HOGS}


@pytest.mark.parametrize("level", ["strict", "landlock"])
def test_a_new_binding_has_no_trust_and_the_daemon_no_ear(talk: Talk, world: World, level: str) -> None:
    conversation = bound(talk, world, level)
    answer(talk, conversation, NEW)
    place = world.workspace / "new"
    assert (place / ".agent.yaml").exists()
    shown = talk.client.request("trust/show", {"path": str(place), "environment": dict(os.environ)})
    assert shown["state"] not in ("allowed", "unneeded")
    knock = f"import socket\ns = socket.socket(socket.AF_UNIX)\ns.connect({str(paths.socket())!r})\nprint('connected')"
    assert "connected" not in answer(talk, conversation, knock).splitlines()
