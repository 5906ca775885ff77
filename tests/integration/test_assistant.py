"""The assistant in its box at level strict, through the daemon and the command line, against a scripted model on loopback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from opagent import paths
from tests.doubles import libraries, runtimes, scripted_model
from tests.doubles.patience import PATIENCE, until
from tests.doubles.scripted_model import CACHED, INPUT, OUTPUT, Model, call, fail, say
from tests.integration.conftest import Talk

ROOT = Path(__file__).resolve().parents[2]
REAL = "sk-the-real-key-0123456789"


@pytest.fixture(scope="module")
def assistant() -> Iterator[Path]:
    with libraries.installed("assistant") as folder:
        yield folder


@pytest.fixture
def model() -> Iterator[Model]:
    with scripted_model.running() as serving:
        yield serving


@pytest.fixture(params=["chat", "messages"])
def interface(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def desk(talk: Talk, assistant: Path, model: Model, interface: str, monkeypatch: pytest.MonkeyPatch) -> Talk:
    libraries.lend(assistant)
    configure(model)
    for name, value in model.environment(interface).items():
        monkeypatch.setenv(name, value)
    (talk.directory / "a.md").write_text("one\ntwo\n")
    roles = {"writer": {"runtime": "assistant", "instructions": "Write short words."}}
    runtimes.bind(talk.client, talk.directory, "writer", roles=roles, sandbox={"level": "strict"})
    return talk


def configure(model: Model, **more: Any) -> None:
    """The person lets agents reach the model on this machine."""
    paths.user_config().parent.mkdir(parents=True, exist_ok=True)
    own = {"version": 1, "can": {"network": {"allow": [f"127.0.0.1:{model.port}"]}}, **more}
    paths.user_config().write_text(yaml.safe_dump(own))


def opagent(directory: Path, *words: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "opagent", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        argv, cwd=directory, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=4 * PATIENCE, check=False
    )  # fmt: skip


def test_a_conversation_with_tools_and_approvals(desk: Talk, model: Model) -> None:
    model.then(call("read", path="a.md"), say("It says one, two."))
    done = opagent(desk.directory, "open", ".", "-m", "what does a.md say?")
    assert done.returncode == 0, done.stderr
    assert "It says one, two." in done.stdout
    assert "Write short words." in model.asked[0].system
    [process] = json.loads(opagent(desk.directory, "ps", "--json").stdout)["processes"]
    assert process["level"] == "strict"

    model.then(
        call("edit", path="a.md", old="two", new="2"), call("run", command="cat a.md; echo $OPENAI_API_KEY$ANTHROPIC_API_KEY.")
    )
    model.then(say("changed"))
    done = opagent(desk.directory, "open", ".", "--last", "-m", "change it")
    assert done.returncode == 9, done.stderr
    for expected in ("a.md", "cat a.md"):
        [approval] = until(lambda expected=expected: [each for each in desk.approvals() if expected in each["subject"]])  # type: ignore[misc]
        assert opagent(desk.directory, "allow", approval["id"]).returncode == 0
    assert opagent(desk.directory, "wait", approval["conversation"], "--timeout", "60s").returncode == 0
    assert (desk.directory / "a.md").read_text() == "one\n2\n"
    assert "one\n2\n.\n" in model.asked[-1].texts[-1]
    text = next((desk.directory / "conversations").glob("*.md")).read_text()
    assert "It says one, two." in text and "changed" in text
    [row] = desk.client.request("usage/list", {})["usage"]
    assert (row["reported_input"], row["reported_output"]) == (5 * INPUT, 5 * OUTPUT)


def test_it_goes_on_after_it_was_killed(desk: Talk, model: Model) -> None:
    conversation = desk.create("writer")
    desk.say(conversation, "my name is Ada")
    [process] = json.loads(opagent(desk.directory, "ps", "--json").stdout)["processes"]
    os.kill(process["pid"], signal.SIGKILL)
    until(lambda: not psutil.pid_exists(process["pid"]))
    turn = desk.say(conversation, "who am I?")
    assert desk.answer(conversation, turn["id"]) == "you said: who am I?"
    told = "\n".join(model.asked[-1].texts)
    assert told.count("my name is Ada") == 2  # once by the person, once said again by the model
    desk.stop_daemon()
    desk.say(conversation, "still there?")
    assert model.asked[-1].texts[-1].endswith("still there?")
    assert "\n".join(model.asked[-1].texts).count("who am I?") == 2


def test_a_model_that_fails_is_waited_for_and_then_said(desk: Talk, model: Model) -> None:
    conversation = desk.create("writer")
    model.then(fail(429, "slow down", retry_after="0"), say("here"))
    turn = desk.say(conversation, "hello")
    assert (turn["state"], desk.answer(conversation, turn["id"])) == ("done", "here")
    notes = [each["body"].get("text", "") for each in desk.show(conversation)["events"] if each["kind"] == "note"]
    assert any("429: slow down; asked again" in each for each in notes)
    model.then(fail(400, "no such model"))
    assert desk.say(conversation, "hello")["state"] == "failed"
    desk.file(conversation, "no such model")


def test_a_turn_is_cancelled_in_the_stream(desk: Talk, model: Model) -> None:

    model.then(say("a long answer", hold=threading.Event()))
    conversation = desk.create("writer")
    turn = desk.start(conversation, "hello")
    until(lambda: desk.answer(conversation, turn["id"]))
    desk.client.request("turn/cancel", {"conversation": conversation["id"]})
    assert desk.ended(conversation, turn["id"])["state"] == "cancelled"
    assert desk.say(conversation, "again")["state"] == "done"


def test_role_and_mode_of_the_binding(desk: Talk, model: Model) -> None:
    roles = {"planner": {"runtime": "assistant", "model": "clever", "mode": "plan"}}
    runtimes.bind(desk.client, desk.directory, "planner", roles=roles)
    model.then(call("write", path="b.md", text="x"), say("I would write b.md."))
    done = opagent(desk.directory, "open", ".", "-m", "write b.md")
    assert done.returncode == 0, done.stderr
    assert model.asked[0].body["model"] == "clever"
    assert set(model.asked[0].tools) >= {"read", "list", "search"} and "write" not in model.asked[0].tools
    assert not (desk.directory / "b.md").exists()


def test_it_edits_where_only_such_files_may_be_written(desk: Talk, model: Model) -> None:
    roles = {"writer": {"runtime": "assistant", "mode": "auto"}}
    can = {"write": {"allow": ["**/*.md"], "default": "deny"}}
    runtimes.bind(desk.client, desk.directory, "writer", roles=roles, can=can, sandbox={"level": "strict"})
    model.then(call("edit", path="a.md", old="two", new="2"), call("write", path="b.txt", text="x"), say("done"))
    conversation = desk.create("writer")
    assert desk.say(conversation, "change it")["state"] == "done"
    assert (desk.directory / "a.md").read_text() == "one\n2\n"
    assert "Read-only file system" in model.asked[-1].texts[-1]


@pytest.mark.parametrize("name", ["writer", "coder", "reviewer", "researcher"])
def test_a_template_is_a_binding_that_works(desk: Talk, model: Model, name: str) -> None:
    directory = desk.directory.parent / name
    assert opagent(desk.directory, "init", str(directory), "--template", name).returncode == 0
    runtimes.trust(desk.client, directory)
    done = opagent(directory, "open", ".", "-m", "hello")
    assert done.returncode == 0, done.stderr
    assert "you said: hello" in done.stdout
    heading = (directory / f"{name.upper()}.md").read_text().splitlines()[0]
    assert heading in model.asked[-1].system
    assert ("write" in model.asked[-1].tools) == (name != "reviewer")


def test_the_key_stays_with_the_proxy(
    talk: Talk, assistant: Path, model: Model, interface: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guide: a key without the key. In both interfaces, counted by the proxy."""
    libraries.lend(assistant)
    configure(model, secrets={"model": "env:MY_OWN_NAME"})
    monkeypatch.setenv("MY_OWN_NAME", REAL)
    key, address = ("OPENAI_API_KEY", "OPENAI_BASE_URL") if interface == "chat" else ("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL")
    monkeypatch.setenv(address, model.environment(interface)[address])
    secrets = {key: {"from": "user:model", "to": f"127.0.0.1:{model.port}"}}
    roles = {"writer": {"runtime": "assistant", "mode": "auto", "model": "scripted"}}
    runtimes.bind(talk.client, talk.directory, "writer", roles=roles, can={"secrets": secrets}, sandbox={"level": "strict"})
    model.then(call("run", command="tr '\\0' '\\n' < /proc/$PPID/environ"), say("done"))
    conversation = talk.create("writer")
    assert talk.say(conversation, "show your environment")["state"] == "done"
    sent = model.asked[0].headers
    assert REAL in (sent.get("authorization", ""), sent.get("x-api-key"), sent.get("authorization", "").removeprefix("Bearer "))
    assert f"{key}=opagent-" in model.asked[1].texts[-1]
    assert REAL not in model.asked[1].texts[-1]
    read = INPUT if interface == "chat" else INPUT - CACHED  # what the interface itself calls input
    row = until(lambda: (found := talk.client.request("usage/list", {})["usage"]) and found[0]["metered_output"] and found[0])
    assert (row["metered_input"], row["metered_output"]) == (2 * read, 2 * OUTPUT)


def test_without_a_model_the_turn_fails_and_says_how_to_get_one(talk: Talk, assistant: Path) -> None:
    libraries.lend(assistant)
    runtimes.bind(talk.client, talk.directory, "assistant")
    done = opagent(talk.directory, "open", ".", "-m", "hello")
    assert done.returncode == 10
    assert "OPENAI_API_KEY" in done.stdout and "librarian" in done.stdout
    assert "no model is configured" in done.stderr
