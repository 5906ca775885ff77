"""The echo agent in Node, installed as a user installs it and driven over stdio: OpAgent's agents may be of any language."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from opagent import paths
from opagent.errors import RuntimeNotInstalled
from opagent.packages import catalog
from tests.doubles.echo_node import SOURCE, install
from tests.doubles.stdio_agent import StdioAgent, running


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(tmp_path_factory.mktemp("runtimes"))


@pytest.fixture
def echo(package: Path, tmp_path: Path) -> Iterator[StdioAgent]:
    with running(["node", str(package / "index.mjs")], tmp_path) as agent:
        agent.begin(tmp_path)
        yield agent


def test_nothing_in_the_folder_names_a_registry_or_a_loose_version() -> None:
    lock = (SOURCE / "package-lock.json").read_text()
    assert "resolved" not in lock
    assert re.search(r'"@agentclientprotocol/sdk": "\d+\.\d+\.\d+"', (SOURCE / "package.json").read_text())
    assert not (SOURCE / "node_modules").exists()


def test_a_copy_in_the_data_directory_runs_as_the_catalogue_says(package: Path, tmp_path: Path) -> None:
    search = os.environ["PATH"]
    with pytest.raises(RuntimeNotInstalled):
        catalog.installed(catalog.find("echo-node"), search, (), "")
    place = paths.runtime_directories()[1]
    shutil.copytree(package, place / "echo-node", symlinks=True)
    spec = catalog.find("echo-node")
    assert spec.source == "installed"
    assert len(catalog.digest(spec)) == 64
    with running(catalog.installed(spec, search, (), ""), tmp_path) as agent:
        agent.begin(tmp_path)
        assert agent.prompt("hello")[0] == "echo: hello"


def test_a_prompt_comes_back_word_by_word(echo: StdioAgent) -> None:
    assert echo.prompt("hello  wörld\nagain ") == ("echo: hello  wörld\nagain ", {"stopReason": "end_turn"})
    assert len(echo.updates()) == 5
    assert echo.prompt("/constructor")[0] == "echo: /constructor"


def test_directives_run_in_order(echo: StdioAgent) -> None:
    text, _ = echo.prompt("/plan\n/tool\n/slow 3 0\nbye")
    assert text == "planned tool completed 1 2 3 echo: bye"
    tools = [u["status"] for u in echo.updates() if u["sessionUpdate"].startswith("tool_call")]
    assert tools == ["pending", "in_progress", "completed"]
    plans = [u["entries"] for u in echo.updates() if u["sessionUpdate"] == "plan"]
    assert [entry["status"] for entry in plans[-1]] == ["completed"] * 3


def test_cancel_ends_a_slow_turn(echo: StdioAgent) -> None:
    turn = echo.ask("/slow 1000 0.05")
    echo.until(lambda m: m.get("method") == "session/update")
    assert echo.answer_to(echo.ask("too soon"))["error"]["code"] == -32600
    echo.notify("session/cancel", sessionId=echo.session)
    assert echo.answer_to(turn)["result"] == {"stopReason": "cancelled"}
    assert echo.prompt("still here")[0] == "echo: still here"


@pytest.mark.parametrize("kind", ["allow_once", "allow_always", "reject_once"])
def test_permission_is_told_and_kept_to(echo: StdioAgent, tmp_path: Path, kind: str) -> None:
    turn = echo.ask("/permission write tea.txt two cups")
    request = echo.requested("session/request_permission")
    option = next(o["optionId"] for o in request["params"]["options"] if o["kind"] == kind)
    outcome = {"outcome": "selected", "optionId": option}
    echo.send({"jsonrpc": "2.0", "id": request["id"], "result": {"outcome": outcome}})
    echo.answer_to(turn)
    assert echo.text() == f"permission: {kind} "
    assert (tmp_path / "tea.txt").exists() is kind.startswith("allow")


def test_unknown_methods_and_sessions_are_errors(echo: StdioAgent) -> None:
    assert echo.answer_to(echo.post("_x/y"))["error"]["code"] == -32601
    assert echo.answer_to(echo.post("session/prompt", sessionId="nobody", prompt=[]))["error"]["code"] == -32002


@pytest.mark.parametrize(("directive", "status"), [("/crash", 70), ("/crash 3", 3), ("/crash SIGKILL", -9)])
def test_the_process_ends_in_a_turn(echo: StdioAgent, directive: str, status: int) -> None:
    echo.ask(directive)
    assert echo.ended() == status
    assert b"ending as asked" in echo.errors


def test_the_end_of_input_ends_the_process(echo: StdioAgent) -> None:
    echo.close_input()
    assert echo.ended() == 0
