"""Every line of real conversations, ours and the agents', against the official JSON Schema and the models of the Python SDK."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.doubles import runtimes
from tests.doubles.acpschema import Line, checked, fits
from tests.doubles.patience import until
from tests.integration.conftest import Talk


def wire(log: Path) -> list[Line]:
    names = {"> ": "ours", "< ": "theirs"}
    return [(names[line[:2]], json.loads(line[2:])) for line in log.read_text().splitlines()]


def test_the_oracle_refuses_what_is_wrong() -> None:
    for name, body in (("InitializeRequest", {}), ("PromptRequest", {"sessionId": 1, "prompt": []}), ("Error", {"code": "x"})):
        with pytest.raises(AssertionError):
            fits(name, body)
    with pytest.raises(KeyError):
        checked([("ours", {"jsonrpc": "2.0", "id": 1, "method": "session/teleport", "params": {}})])


def test_a_whole_conversation_with_echo(talk: Talk, tmp_path: Path) -> None:
    log = tmp_path / "wire.log"
    name = runtimes.echo("taped", "--early", "--state={state}", log=log, client=["fs", "terminal"])
    runtimes.bind(
        talk.client,
        talk.directory,
        name,
        instructions="Be short.",
        can={"read": {"default": "allow"}, "write": {"default": "allow"}},
    )
    conversation = talk.create(name)
    for text in ("hello", "/thought a\n/plan\n/tool\n/tool fail\n/usage\n/title T\n/mode slow\nwords", "/refuse", "/error",
                 "/fs a.md", "/fs new.md text", "/fs ../out", "/fs /etc/passwd"):  # fmt: skip
        talk.say(conversation, text)
    for text, allow in (
        ("/permission", True),
        ("/permission", False),
        ("/terminal echo hi", True),
        ("/terminal no-such-thing", True),
        ("/question yes", True),
        ("/question yes", False),
    ):
        turn = talk.start(conversation, text)
        approval = until(talk.approvals)[0]
        talk.client.request("approval/answer", {"approval": approval["id"], "allow": allow})
        talk.ended(conversation, turn["id"])
    for text in ("/wait", "/permissions 2", "/question text"):
        turn = talk.start(conversation, text)
        until(lambda turn=turn: talk.approvals() or talk.answer(conversation, turn["id"]))  # type: ignore[misc]
        talk.client.request("turn/cancel", {"conversation": conversation["id"]})
        assert talk.ended(conversation, turn["id"])["state"] == "cancelled"
    talk.client.request("process/restart", {"process": conversation["id"]})
    talk.say(conversation, "back again")
    met = checked(wire(log))
    ours = {name.removeprefix("ours ") for name in met if name.startswith("ours ")}
    assert ours == {
        "InitializeRequest", "NewSessionRequest", "ResumeSessionRequest", "PromptRequest", "CancelNotification", "Error",
        "RequestPermissionResponse", "CreateElicitationResponse", "ReadTextFileResponse", "WriteTextFileResponse", "CreateTerminalResponse",
        "WaitForTerminalExitResponse", "TerminalOutputResponse", "ReleaseTerminalResponse",
    }  # fmt: skip
    theirs = ("SessionNotification", "PromptResponse", "RequestPermissionRequest", "CreateElicitationRequest")
    assert {f"theirs {name}" for name in theirs} <= met


def test_what_we_say_to_an_agent_that_says_unheard_of_things(talk: Talk, tmp_path: Path) -> None:
    log = tmp_path / "wire.log"
    name = runtimes.echo("taped", log=log)
    runtimes.bind(talk.client, talk.directory, name)
    conversation = talk.create(name)
    for text in ("/unknown", "/unknown stop", "/badoptions many", "/badoptions kinds", "/fs a.md", "/terminal ls"):
        talk.say(conversation, text)
    assert checked(wire(log), of=("ours",)) >= {"ours Error", "ours RequestPermissionResponse"}


@pytest.mark.parametrize(("without", "coming_back"), [("resume", "LoadSessionRequest"), ("load,resume", "NewSessionRequest")])
def test_settings_and_coming_back(talk: Talk, tmp_path: Path, without: str, coming_back: str) -> None:
    log = tmp_path / "wire.log"
    name = runtimes.echo("taped", f"--without={without}", "--state={state}", log=log)
    runtimes.bind(talk.client, talk.directory, "role", roles={"role": {"runtime": name, "model": "upper", "mode": "slow"}})
    conversation = talk.create("role")
    talk.say(conversation, "hello")
    talk.client.request("process/restart", {"process": conversation["id"]})
    log.write_text("")
    talk.say(conversation, "again")
    talk.client.request("process/restart", {"process": conversation["id"]})
    talk.say(conversation, "and again")
    met = checked(wire(log))
    assert {f"ours {coming_back}", "ours SetSessionConfigOptionRequest", "ours SetSessionModeRequest"} <= met


def test_a_whole_conversation_with_the_librarian(talk: Talk, tmp_path: Path) -> None:
    log = tmp_path / "wire.log"
    program = runtimes.ROOT / "runtimes/librarian"
    (talk.directory / "guide.md").write_text("# Style\n\nHeadings are written in sentence case.\n")
    runtimes.unconfined()
    name = runtimes.put("taped", "{python}", runtimes.TEE, str(log), "{python}", "-I", "-S", "-B", str(program))
    runtimes.bind(talk.client, talk.directory, name)
    conversation = talk.create(name)
    for text in ("How should headings be written?", "/toc", "/links", "/find case", "nothing like this"):
        assert talk.say(conversation, text)["state"] == "done"
    turn = talk.start(conversation, "/index")
    approval = until(talk.approvals)[0]
    talk.client.request("approval/answer", {"approval": approval["id"], "allow": True})
    assert talk.ended(conversation, turn["id"])["state"] == "done"
    assert "theirs RequestPermissionRequest" in checked(wire(log))
