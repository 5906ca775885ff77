"""A daemon whose clock is days away from that of its clients and of its files, as on another machine or a file server."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from opagent import oldcode
from opagent.client import Client
from tests.doubles import bare
from tests.doubles.clock import faked
from tests.doubles.patience import PATIENCE, until
from tests.doubles.sheet import Sheet
from tests.integration.conftest import Talk

DAY = 86400.0


@pytest.fixture(params=["-3d", "+3d"])
def talk(request: pytest.FixtureRequest, home: Path) -> Iterator[Talk]:
    directory = home / "notes"
    directory.mkdir()
    process = bare.start(bare.lay(home / "payload"), {**os.environ, **faked(request.param)})
    with Client("test", start=False) as client:
        started = datetime.fromisoformat(client.request("daemon/status")["started"])
        assert abs((datetime.now(UTC) - started).total_seconds()) > 2 * DAY, "its clock is the same as ours"
        yield Talk(client, directory)
        client.request("daemon/stop")
    assert process.wait(PATIENCE) == 0


def test_turns_saves_and_questions(talk: Talk) -> None:
    sheet = Sheet(talk, talk.create())
    assert talk.say(sheet.conversation, "from the command line")["state"] == "done"
    sheet.type("by a save\n\n/send")
    turn = until(lambda: next((each for each in talk.show(sheet.conversation)["turns"] if each["text"] == "by a save"), None))
    assert talk.ended(sheet.conversation, turn["id"])["state"] == "done"
    assert "by a save" in talk.file(sheet.conversation, "echo: by a save")
    asked = talk.start(sheet.conversation, "/permission")
    [question] = until(talk.approvals)
    talk.client.request("approval/answer", {"approval": question["id"], "allow": True})
    assert talk.ended(sheet.conversation, asked["id"])["state"] == "done"


def test_the_age_of_code_is_told_by_the_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, days in (("1" * 64, 0.0), ("2" * 64, 8.0)):
        (tmp_path / "rt" / name).mkdir(parents=True)
        (tmp_path / "rt" / name / ".ok").touch()
        os.utime(tmp_path / "rt" / name / ".ok", (time.time() - days * DAY,) * 2)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert oldcode.tidy(tmp_path, "0" * 64) == ["2" * 64]
