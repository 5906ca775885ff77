"""A real third-party agent from the npm registry, driven through the command line against a scripted model on loopback."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from opagent import paths
from opagent.packages import catalog
from tests.doubles import desk as desks
from tests.doubles import model_server
from tests.doubles.desk import Desk, trust
from tests.doubles.patience import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
ROOT = Path(__file__).resolve().parents[2]
AGENT = "opencode"
SWITCHES = ("OPENCODE_DISABLE_MODELS_FETCH", "OPENCODE_DISABLE_LSP_DOWNLOAD")


@pytest.fixture(scope="session")
def packages() -> Path:
    return desks.packages(AGENT, catalog.find(AGENT).install["version"])


@pytest.fixture
def model() -> Iterator[model_server.Model]:
    with model_server.running() as serving:
        yield serving


@pytest.fixture
def desk(home: Path, packages: Path, model: model_server.Model) -> Iterator[Desk]:
    directory = home / "notes"
    directory.mkdir()
    (directory / "secret.md").write_text("the secret word is tulip\n")
    (directory / ".agent.yaml").write_text(f"agent: {AGENT}\ncan:\n  env: [{', '.join(SWITCHES)}]\n")
    address = f"localhost:{model.server_address[1]}"
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "options": {"baseURL": f"http://{address}/v1", "apiKey": "x"},
        "models": {"scripted": {"name": "Scripted"}},
    }
    settings = {
        "model": "local/scripted", "small_model": "local/scripted", "share": "disabled",
        "provider": {"local": provider}, "permission": {"edit": "ask", "bash": "ask"},
    }  # fmt: skip
    configuration = home / ".config/opencode/opencode.json"
    configuration.parent.mkdir(parents=True)
    configuration.write_text(json.dumps(settings))
    paths.user_config().parent.mkdir(parents=True)
    paths.user_config().write_text(f"can:\n  network: {{allow: ['{address}'], default: deny}}\n")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_DATA_HOME": str(packages)}
    desk = Desk(directory, environment | dict.fromkeys(SWITCHES, "1"))
    yield desk
    desk.run("daemon", "stop")
    assert not desk.processes()


def order(tool: str, **arguments: str) -> str:
    """What the scripted model takes for a command to call a tool."""
    return f"do {tool} {json.dumps(arguments)}"


def test_a_conversation_with_tools(desk: Desk, model: model_server.Model) -> None:
    assert "not trusted" in desk.run("open", ".", "-m", "hello", status=6).stderr
    assert not model.asked
    trust(desk)
    assert desk.run("open", ".", "-m", "hello").stdout.startswith("you said: hello")

    assert "the secret word is tulip" in desk.ask(order("read", filePath=f"{desk.directory}/secret.md"))

    new = desk.directory / "new.md"
    said = desk.ask(order("write", filePath=str(new), content="fresh words"), status=9)
    approval = desk.approval()
    assert f"opagent allow {approval['id']}" in said
    assert "fresh words" in approval["subject"] and str(new) in approval["subject"]
    assert not new.exists()
    desk.run("allow", approval["id"])
    desk.run("wait", approval["conversation"], "--timeout", "60s")
    assert new.read_text() == "fresh words"

    desk.ask(order("bash", command="touch made-by-shell", description="makes a file"), status=9)
    approval = desk.approval()
    assert "touch made-by-shell" in approval["subject"]
    desk.run("deny", approval["id"])
    desk.run("wait", approval["conversation"], "--timeout", "60s")
    assert not (desk.directory / "made-by-shell").exists()

    text = desk.conversation()
    for shown in ("hello", "you said: hello", "tulip", "fresh words", "allowed", "denied", "touch made-by-shell"):
        assert shown in text
    assert text.count(" done ") >= 4


def test_it_remembers_after_it_was_killed(desk: Desk, model: model_server.Model) -> None:
    trust(desk)
    desk.run("open", ".", "-m", "my name is Ada")
    [agent] = json.loads(desk.run("ps", "--json").stdout)["processes"]
    assert agent["level"] == "strict"
    desk.kill()
    until(lambda: agent["id"] not in desk.run("ps", "--json").stdout)
    assert "you said: who am I" in desk.ask("who am I")
    assert any("my name is Ada" in said for said in model.conversations()[-1])
    assert model.conversations()[-1].count("my name is Ada") == 1
    desk.run("daemon", "stop")
    assert not desk.processes()
    assert "you said: still there?" in desk.ask("still there?")
    assert model.conversations()[-1][0] == "my name is Ada"
    assert desk.conversation().count("you said: ") == 3
