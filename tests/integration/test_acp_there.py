"""`opagent acp` for a directory on another machine: the same sessions, over losses of the link; a directory here may lead there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from opagent.client import Client
from tests.doubles.acpeditor import editor
from tests.doubles.far import Far, far, kill
from tests.doubles.patience import until
from tests.doubles.runtimes import bind

COUNTED = "".join(f"{number} " for number in range(1, 31))


@pytest.fixture
def there(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Far]:
    with far(home.parent / "there") as place:
        (place.docs / ".agent.yaml").write_text("version: 1\nagent: echo\n")
        monkeypatch.setenv("OPAGENT_SSH_CONFIG", place.server.config)
        yield place


@pytest.fixture
def here(home: Path) -> Path:
    folder = home / "project"
    folder.mkdir()
    return folder


def test_a_target_there(there: Far, here: Path) -> None:
    with editor(there.target, cwd=here) as one:
        session = one.open()
        assert one.prompt("hello")[0] == "echo: hello"
        number = one.ask("/permission")
        one.choose(one.asked(), "once")
        assert one.answer_to(number)["result"]["stopReason"] == "end_turn"
        assert one.call("session/set_mode", sessionId=session, modeId="slow") == {}
        (row,) = one.call("session/list", cwd=str(here))["sessions"]
        assert row["sessionId"] == session and row["_meta"]["opagent"]["workspace"] == str(there.docs)
        assert one.call("_opagent/workspace/info")["machine"] == "there" and one.call("_opagent/ping")["version"]
    with editor("--host", "there", "docs", cwd=here) as other:
        other.initialize()
        other.load(session)
        assert "echo: hello" in other.said("agent_message_chunk")
        assert other.call("session/close", sessionId=session) == {}
    assert "echo: hello" in next((there.docs / "conversations").glob("*.md")).read_text()


def test_a_directory_here_that_leads_there(there: Far, here: Path) -> None:
    with Client("test") as client:
        bind(client, here, "echo", host=there.target)
    with editor(cwd=here) as one:
        session = one.open()
        assert one.prompt("hello")[0] == "echo: hello"
        assert [row["sessionId"] for row in one.call("session/list", cwd=str(here))["sessions"]] == [session]
    with editor(cwd=here) as other:
        other.initialize()
        other.load(session)
        assert other.prompt("more")[0] == "echo: more"
        assert other.call("session/delete", sessionId=session) == {}
        assert other.call("session/list", cwd=str(here))["sessions"] == []


def test_the_link_is_lost_in_the_middle_of_a_turn(there: Far, here: Path) -> None:
    with editor(there.target, cwd=here) as one:
        one.open()
        one.prompt("hello")
        start = len(one.messages)
        number = one.ask("/slow 30 0.05")
        one.update("agent_message_chunk", after=start)
        there.line.refuse()
        one.update("notice", "is lost")
        one.notify("session/cancel", sessionId="somebody else")  # it still listens
        assert one.error("session/teleport")["code"] == -32601
        waiting = one.ask("said meanwhile")
        there.line.mend()
        assert one.answer_to(number)["result"]["stopReason"] == "end_turn"
        assert one.answer_to(waiting)["result"]["stopReason"] == "end_turn"
        assert one.said("agent_message_chunk", start) == COUNTED + "echo: said meanwhile"


def test_the_daemon_there_is_killed(there: Far, here: Path) -> None:
    with editor(there.target, cwd=here) as one:
        one.open()
        number = one.ask("/wait")
        one.update("agent_message_chunk")
        kill(there.daemon_there())
        assert "interrupted" in one.answer_to(number)["error"]["message"]
        assert one.prompt("after")[0] == "echo: after"


def test_the_daemon_here_is_killed(there: Far, here: Path) -> None:
    with editor(there.target, cwd=here) as one:
        one.open()
        start = len(one.messages)
        number = one.ask("/slow 30 0.05")
        one.update("agent_message_chunk", after=start)
        kill(there.daemon_here())
        assert one.answer_to(number)["result"]["stopReason"] == "end_turn"
        assert one.said("agent_message_chunk", start) == COUNTED


def test_a_machine_that_nobody_reaches(there: Far, here: Path) -> None:
    there.line.refuse()
    with editor(there.target, cwd=here) as one:
        one.initialize()
        error = one.error("session/new", cwd=str(here), mcpServers=[])
        assert error["data"]["exit"] == 7
        there.line.mend()
        one.session = one.call("session/new", cwd=str(here), mcpServers=[])["sessionId"]
        assert one.prompt("hello")[0] == "echo: hello"


def test_leaving_while_the_link_is_lost(there: Far, here: Path) -> None:
    with editor(there.target, cwd=here) as one:
        one.open()
        one.prompt("hello")
        there.line.refuse()
        one.update("notice", "is lost")
        one.close_input()
        assert one.ended() == 0
    there.line.mend()
    until(lambda: there.state() != "lost")
