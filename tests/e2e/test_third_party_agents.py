"""Seven agents of seven vendors, none of them written here: installed, probed, and talked to, each led by its description alone.

Each is installed once per user (opagent runtime install, from npm, 100 to 600 MB); the model is the scripted one of the probe.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from opagent import paths
from opagent.packages import catalog
from opagent.packages.rehearsal import server
from tests.doubles import desk as desks
from tests.doubles.acpeditor import editor
from tests.doubles.desk import Desk
from tests.doubles.patience import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
ROOT = Path(__file__).resolve().parents[2]
ALL = {"ask", "cancel", "resume", "usage", "mcp"}


@dataclass(frozen=True, slots=True)
class Expected:
    """What a probe sees of it, and whether it asks in a conversation before it writes."""

    can: frozenset[str]
    mcp: str = "stdio"
    asks: bool = True


AGENTS = {
    "claude": Expected(frozenset(ALL)),
    "codex": Expected(frozenset(ALL - {"ask"}), asks=False),
    "copilot": Expected(frozenset(ALL), mcp="http"),
    "gemini": Expected(frozenset(ALL - {"usage", "resume"})),
    "opencode": Expected(frozenset(ALL)),
    "pi": Expected(frozenset({"cancel", "resume"}), mcp="", asks=False),
    "qwen": Expected(frozenset(ALL - {"usage"})),
}


@pytest.fixture(scope="module", params=sorted(AGENTS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def packages(name: str) -> Path:
    return desks.packages(name, catalog.find(name).install["version"])


@pytest.fixture
def model(tmp_path: Path) -> Iterator[server.Model]:
    model = server.Model(0, str(tmp_path / "journal"))
    model.begin()
    yield model
    model.shutdown()
    model.server_close()


@pytest.fixture
def desk(home: Path, name: str, packages: Path, model: server.Model) -> Iterator[Desk]:
    """A directory bound to the agent, trusted; its settings in the home and its variables lead it to the model."""
    spec, url = catalog.find(name), f"http://127.0.0.1:{model.server_address[1]}"
    for file, text in spec.probe.get("files", {}).items():
        path = home / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace("{url}", url))
    variables = {variable: text.replace("{url}", url) for variable, text in spec.probe.get("env", {}).items()}
    passed = sorted(set(variables) - {*spec.pass_env, *spec.env})
    variables |= {spec.model["key"]: "x"} if "key" in spec.model else {}
    if "base_url" in spec.model:
        variables[spec.model["base_url"]] = url + spec.model.get("path", "")
    directory = home / "notes"
    directory.mkdir()
    (directory / ".agent.yaml").write_text(f"agent: {name}\n" + (f"can: {{env: [{', '.join(passed)}]}}\n" if passed else ""))
    paths.user_config().parent.mkdir(parents=True)
    paths.user_config().write_text("sandbox: {level: off}\n")  # in the box no model on loopback is reached
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_DATA_HOME": str(packages)} | variables
    desk = Desk(directory, environment)
    desks.trust(desk)
    yield desk
    desk.run("daemon", "stop")
    until(lambda: not desk.processes())


def order(verb: str, *words: str) -> str:
    return f"opagent-probe: {verb} {' '.join(words)}".rstrip()


def asked(tmp_path: Path) -> list[dict[str, Any]]:
    """Requests that offered tools."""
    journal = map(json.loads, (tmp_path / "journal").read_text().splitlines())
    return [entry for entry in journal if entry["kind"] == "model" and entry["tools"]]


def test_a_probe_sees_what_it_does(home: Path, name: str, packages: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_DATA_HOME": str(packages)}
    desk = Desk(home, environment)
    record = json.loads(desk.run("runtime", "probe", name, "--json").stdout)
    desk.run("daemon", "stop")
    seen = {need for need, able in record["can"].items() if able}
    assert (seen, record["mcp"], record["problem"]) == (AGENTS[name].can, AGENTS[name].mcp, ""), record
    assert record["version"] == catalog.find(name).install["version"]


def test_a_conversation_through_opagent(desk: Desk, name: str, tmp_path: Path) -> None:
    """A plain turn, a file with an approval, the agent killed in between, and it still knows what was said."""
    assert "hello" in desk.run("open", ".", "-m", "My word is marmalade.\n" + order("hello")).stdout

    new = desk.directory / "new.md"
    said = desk.ask(order("write", str(new), "fresh"), status=9 if AGENTS[name].asks else 0)
    if AGENTS[name].asks:
        assert not new.exists()
        approval = desk.approval()
        assert f"opagent allow {approval['id']}" in said
        desk.run("allow", approval["id"])
        desk.run("wait", approval["conversation"], "--timeout", "60s")
    assert new.read_text() == "fresh"

    [agent] = json.loads(desk.run("ps", "--json").stdout)["processes"]
    desk.kill()
    until(lambda: agent["id"] not in desk.run("ps", "--json").stdout)
    before = len(asked(tmp_path))
    assert "hello" in desk.ask("Are you there?\n" + order("hello"))
    assert "marmalade" in asked(tmp_path)[before]["words"]
    text = desk.conversation()
    assert text.count("Are you there?") == 1 and "marmalade" in text
    assert shlex.quote(name) in text


def test_a_conversation_from_an_editor(desk: Desk, name: str) -> None:
    """The same through `opagent acp`: the question is a button, the agent is killed, another editor goes on."""
    new, once = desk.directory / "new.md", {key: text for key, text in desk.environment.items() if os.environ.get(key) != text}
    with editor(cwd=desk.directory, **once) as one:
        session = one.open()
        assert "hello" in one.prompt(order("hello"))[0]
        number = one.ask(order("write", str(new), "fresh"))
        if AGENTS[name].asks:
            question = one.asked()
            assert not new.exists()
            one.choose(question, "once")
        assert one.answer_to(number)["result"]["stopReason"] == "end_turn"
        assert new.read_text() == "fresh"
        assert [update for update in one.updates() if update["sessionUpdate"] == "tool_call"]
    [agent] = json.loads(desk.run("ps", "--json").stdout)["processes"]
    desk.kill()
    until(lambda: agent["id"] not in desk.run("ps", "--json").stdout)
    with editor(cwd=desk.directory, **once) as other:
        other.initialize()
        assert "hello" in json.dumps(other.load(session))
        assert "hello" in other.prompt(order("hello"))[0]
