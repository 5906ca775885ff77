"""The official Python SDK on both sides of us: its servers over stdio and HTTP, its client in the agent, both eras of the protocol."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from opagent import paths
from opagent.client import Client
from tests.doubles import runtimes
from tests.doubles.patience import until
from tests.integration.conftest import Talk

DOUBLES = Path(__file__).parents[1] / "doubles"
SDK = "mcp>=2.3,<3"
ERAS = {"legacy": "2025-11-25", "auto": "2026-07-28"}
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def sdk(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The Python of an environment that has the SDK."""
    folder = tmp_path_factory.mktemp("sdk") / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    subprocess.run([str(folder / "bin/python"), "-m", "pip", "install", "--quiet", SDK], check=True, capture_output=True)
    return str(folder / "bin/python")


@pytest.fixture
def talk(home: Path, sdk: str) -> Iterator[Talk]:
    directory = home / "notes"
    directory.mkdir()
    runtimes.put("user", sdk, "-I", str(DOUBLES / "mcp_sdk_agent.py"))
    with Client("test") as client:
        yield Talk(client, directory)


def play(talk: Talk, mode: str, *calls: tuple[str, dict[str, Any]], server: str = "sums") -> dict[str, Any]:
    conversation = talk.create("user")
    turn = talk.say(conversation, json.dumps({"server": server, "mode": mode, "calls": calls}), 120)
    assert turn["state"] == "done", (turn, talk.client.request("process/logs", {"process": conversation["id"]}))
    said: dict[str, Any] = json.loads(talk.answer(conversation, turn["id"]))
    return said


@pytest.mark.parametrize("mode", ERAS)
def test_a_server_of_the_sdk_over_stdio(talk: Talk, sdk: str, mode: str) -> None:
    tools = {"sums": {"command": [sdk, "-I", str(DOUBLES / "mcp_sdk_server.py")]}}
    runtimes.bind(talk.client, talk.directory, "user", tools=tools, can={"mcp": {"allow": ["sums/*"], "deny": ["sums/variable"]}})
    calls = (
        ("add", {"a": 2, "b": 3}),
        ("fail", {"words": "on purpose"}),
        ("variable", {"name": "HOME"}),
        ("resources/read", {"uri": "notes://x"}),
    )
    said = play(talk, mode, *calls)
    assert said["version"] == ERAS[mode]
    assert said["tools"] == ["add", "fail"]
    added, failed, denied, note = said["calls"]
    assert added == [False, "5"]
    assert failed[0] is True and "fail" in failed[1]
    assert denied[0] is True and "denied by" in denied[1]
    assert note == [False, "the note x"]


@pytest.mark.parametrize("mode", ERAS)
@pytest.mark.parametrize("answers", ["stream", "json"])
def test_a_server_of_the_sdk_over_http_whose_key_the_proxy_puts_in(
    talk: Talk, sdk: str, home: Path, mode: str, answers: str
) -> None:
    key = "the-k3y-0f-sums"
    argv = [sdk, "-I", str(DOUBLES / "mcp_sdk_server.py"), "http", str(home / "port"), answers]
    with subprocess.Popen(argv, env={**os.environ, "SUMS_KEY": key}) as server:
        try:
            port = until(lambda: (home / "port").exists() and (home / "port").read_text())
            paths.user_config().parent.mkdir(parents=True, exist_ok=True)
            paths.user_config().write_text(
                yaml.safe_dump(
                    {"version": 1, "can": {"network": {"allow": [f"127.0.0.1:{port}"]}}, "secrets": {"sums": "env:SUMS_KEY_HERE"}}
                )
            )
            os.environ["SUMS_KEY_HERE"] = key
            url = {
                "url": f"http://127.0.0.1:{port}/mcp",
                "headers": {"Authorization": "Bearer {SUMS_KEY}"},
                "secrets": ["SUMS_KEY"],
            }
            can = {"mcp": {"allow": ["sums/*"]}, "secrets": {"SUMS_KEY": {"from": "user:sums", "to": f"127.0.0.1:{port}"}}}
            runtimes.bind(talk.client, talk.directory, "user", tools={"sums": url}, can=can)
            said = play(talk, mode, ("add", {"a": 20, "b": 22}), ("fail", {"words": "as wanted"}))
        finally:
            server.terminate()
            del os.environ["SUMS_KEY_HERE"]
    assert said["version"] == ERAS[mode]
    assert said["calls"][0] == [False, "42"] and said["calls"][1][0] is True
    used = talk.client.request("audit/query", {"kinds": ["secret.use"]})["records"]
    assert used and used[0]["obj"]["name"] == "SUMS_KEY"
