"""The same daemon where nothing of ours is installed: `python -I -S`, pure Python beside it, and nothing else."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from opagent.client import Client
from tests.doubles import bare
from tests.doubles.patience import PATIENCE, until
from tests.doubles.sheet import Sheet
from tests.integration.conftest import Talk


@pytest.fixture
def talk(home: Path) -> Iterator[Talk]:
    directory = home / "notes"
    directory.mkdir()
    process = bare.start(bare.lay(home / "payload"))
    with Client("test", start=False) as client:
        assert client.greeting.daemon == process.pid
        yield Talk(client, directory)
        client.request("daemon/stop")
    assert process.wait(PATIENCE) == 0


def test_what_must_be_absent_is_absent(tmp_path: Path) -> None:
    place = bare.lay(tmp_path / "payload")
    code = "from importlib.util import find_spec; print([name for name in sys.argv[1:] if find_spec(name)])"
    said = subprocess.run(bare.python(place, code, *bare.ABSENT), capture_output=True, text=True, check=True)
    assert said.stdout == "[]\n"


def test_an_agent_answers(talk: Talk) -> None:
    conversation = talk.create("echo")
    turn = talk.say(conversation, "hello there")
    assert turn["state"] == "done"
    assert "hello there" in talk.answer(conversation, turn["id"])
    talk.file(conversation, "hello there")


def test_a_save_sends(talk: Talk) -> None:
    (talk.directory / "moles.md").write_text("# Moles\n\nA mole digs tunnels in the meadow.\n")
    sheet = Sheet(talk, talk.create("librarian"))
    sheet.type("what does a mole dig?\n\n/send")
    turn = sheet.sent(1)
    assert talk.ended(sheet.conversation, turn["id"])["state"] == "done"
    assert "tunnels" in sheet.said(turn)


def test_what_agents_use_is_shown(talk: Talk) -> None:
    conversation = talk.create("echo")
    talk.say(conversation, "hello")

    def idle() -> dict[str, Any] | None:
        [row] = talk.client.request("process/list", {"ports": True, "tree": True})["processes"]
        return row if row["state"] == "ready" else None

    row = until(idle)
    assert row["ports"] == row["children"] == []
    assert row["memory"] > 2**20 and row["processes"] == 1 and row["cpu"] >= 0
