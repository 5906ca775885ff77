"""An agent that gives away a secret of its environment: in whatever way, cut wherever; it is found nowhere afterwards."""

from __future__ import annotations

import base64
import itertools
import json
import os
import subprocess
import sys
import urllib.parse
from pathlib import Path
from typing import Any

import pytest

from opagent import paths
from tests.doubles import runtimes
from tests.doubles.patience import until
from tests.doubles.secrets import PEM
from tests.integration.conftest import Talk

SECRET = "p1ant/d-V4lue+7Qz=x9"
HIDDEN = "«redacted:API_TOKEN»"
LEAKY = Path(__file__).parents[1] / "doubles/leaky_agent.py"
ALL, FIRST, REST = "{{:}}", "{{:9}}", "{{9:}}"


@pytest.fixture
def leaky(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> Talk:
    monkeypatch.setenv("API_TOKEN", SECRET)
    runtimes.put("leaky", sys.executable, "-I", "-S", str(LEAKY), pass_env=["API_TOKEN"], client=["fs", "terminal"])
    runtimes.bind(talk.client, talk.directory, "leaky")
    return talk


def update(kind: str, /, **more: Any) -> str:
    return json.dumps({"method": "session/update", "params": {"update": {"sessionUpdate": kind, **more}}}, ensure_ascii=False)


def chunk(text: str, kind: str = "agent_message_chunk") -> str:
    return update(kind, content={"type": "text", "text": text})


def found(home: Path) -> list[str]:
    """Where the secret stands, by grep: in every file of the test's home and of the daemon's state, in four spellings."""
    data = SECRET.encode()
    spellings = [
        SECRET,
        SECRET[:12],
        SECRET[8:],
        data.hex(),
        base64.b64encode(data).decode(),
        urllib.parse.quote(SECRET, safe=""),
    ]
    patterns = [word for spelling in spellings for word in ("-e", spelling)]
    places = [str(home.parent), str(paths.state())]
    return subprocess.run(["grep", "-rlaF", *patterns, *places], capture_output=True, text=True).stdout.splitlines()


def test_text_is_hidden_however_it_is_cut(leaky: Talk, home: Path) -> None:
    conversation = leaky.create("leaky")
    lines = [chunk("a\r\nbefore "), *(chunk(f"{{{{{n}:{n + 1}}}}}") for n in range(len(SECRET))), chunk(" between "),
             chunk(FIRST), update("usage_update", used=5, size=10), update("current_mode_update", currentModeId=ALL), chunk(REST),
             chunk(" after \x1b[3"), chunk("1mred\x1b[0m ünd p1ant/d"), chunk(" p1a"), chunk("nt and "), chunk("{{:4}}\x1b[1m{{4:}}"),
             chunk(" " + base64.b64encode(b"user:" + SECRET.encode()).decode()[:4] + " p1")]  # fmt: skip
    turn = leaky.say(conversation, "\n".join(lines))
    assert turn["state"] == "done"
    said = f"a\nbefore {HIDDEN} between {HIDDEN} after red ünd p1ant/d p1ant and {HIDDEN} dXNl p1[]"
    assert leaky.answer(conversation, turn["id"]) == said
    assert said in leaky.file(conversation, f"/{turn['id']} done")
    assert not found(home)


def test_everything_else_that_an_agent_says_is_hidden(leaky: Talk, home: Path) -> None:
    conversation = leaky.create("leaky")
    call = {"toolCallId": "t1", "title": f"Run {ALL}", "kind": "execute", "status": "pending"}
    diff = {"type": "diff", "path": f"/x/{ALL}", "oldText": f"a {ALL}\r\n", "newText": f"b {ALL}\n"}
    output = {"type": "content", "content": {"type": "text", "text": "line\n" * 60 + f"last {{{{:4}}}}\x1b[1m{{{{4:}}}} {ALL}\n"}}
    lines = [
        chunk(f"thinking of {FIRST}", "agent_thought_chunk"),
        chunk(f"{REST} still", "agent_thought_chunk"),
        update("plan", entries=[{"content": f"use {ALL}", "priority": "high", "status": "pending"}]),
        chunk("one"),
        update("tool_call", **call, rawInput={"command": ["curl", f"-H{ALL}"], ALL: 1}, locations=[{"path": f"/y/{ALL}"}]),
        update(
            "tool_call_update", toolCallId="t1", status="completed", content=[output, diff], rawOutput={"out": json.dumps(PEM)}
        ),
        chunk("two"),
        update("notice", title=f"careful with {ALL}", severity="warning"),
        update("something_new", what=[ALL, {"deep": [ALL]}]),
        update("available_commands_update", availableCommands=[{"name": ALL, "description": ALL}]),
        update("session_info_update", title=f"about {ALL}"),
        f"!no message {ALL}",
        "!no message, cut somewhere " + "x" * 150 + ALL,
        f"2> warning: {ALL}",
        json.dumps({"id": "q1", "method": "unknown/method", "params": {"a": ALL}}),
        chunk("three"),
    ]
    turn = leaky.say(conversation, "\n".join(lines))
    assert turn["state"] == "done"
    assert leaky.answer(conversation, turn["id"]).startswith("onetwothree[")
    events = [event for event in leaky.show(conversation)["events"] if event["turn"] == turn["id"]]
    kinds = [event["kind"] for event in events if event["kind"] in ("text", "thought", "plan", "tool_call")]
    order = [kind for kind, _ in itertools.groupby(kinds)]  # one read of the agent's words may end anywhere
    assert order[:5] == ["thought", "plan", "text", "tool_call", "text"]
    thought = "".join(event["body"]["text"] for event in events if event["kind"] == "thought")
    assert thought == f"thinking of {HIDDEN} still"
    text = leaky.file(conversation, f"/{turn['id']} done")
    assert f"run <code>Run {HIDDEN}" in text or f"-H{HIDDEN}" in text
    blob = next((leaky.directory / ".opagent/blobs").iterdir()).read_text()
    assert blob == "line\n" * 60 + f"last {HIDDEN} {HIDDEN}"
    log = next(paths.agent_log("x").parent.iterdir())
    until(lambda: log.read_text() == f"warning: {HIDDEN}\n")
    assert not found(home)
    raw = next(event["body"]["rawOutput"] for event in events if "rawOutput" in event["body"])
    assert raw == {"out": '"«redacted:private key»"'}


def test_questions_name_the_secret_and_mean_the_real_action(leaky: Talk, home: Path) -> None:
    conversation = leaky.create("leaky")
    options = [
        {"optionId": "y", "name": f"Yes, {ALL}", "kind": "allow_once"},
        {"optionId": "n", "name": "No", "kind": "reject_once"},
    ]
    raw = {"command": f"curl -H {ALL} x", "cwd": f"/{ALL}"}
    permission = {"id": "p", "method": "session/request_permission",
                  "params": {"toolCall": {"toolCallId": "t", "title": f"T {ALL}", "kind": "execute", "rawInput": raw}, "options": options}}  # fmt: skip
    command = {"id": "c", "method": "terminal/create", "params": {"command": "printf", "args": ["%s", ALL]}}
    turn = leaky.start(conversation, "\n".join([chunk("I ask "), json.dumps(permission), json.dumps(command)]))
    asked = until(lambda: len(leaky.approvals()) == 2 and leaky.approvals())
    assert all(HIDDEN in approval["subject"] for approval in asked)
    assert HIDDEN in until(lambda: leaky.client.request("process/list", {})["processes"][0]["sentence"])
    until(lambda: HIDDEN in Path(conversation["path"]).read_text())
    assert not found(home)
    for approval in asked:
        leaky.client.request("approval/answer", {"approval": approval["id"], "allow": True})
    assert leaky.ended(conversation, turn["id"])["state"] == "done"
    answers = json.loads(leaky.answer(conversation, turn["id"]).removeprefix("I ask "))
    assert {answer["id"] for answer in answers} == {"p", "c"}
    assert not found(home)


def test_an_agent_is_answered_as_it_asks(leaky: Talk, home: Path) -> None:
    """What goes back to the agent is not touched: its own file, its own command's output."""
    (leaky.directory / "mine.md").write_text(f"key: {SECRET}\n")
    conversation = leaky.create("leaky")
    read = {"id": "r", "method": "fs/read_text_file", "params": {"path": str(leaky.directory / "mine.md")}}
    write = {
        "id": "w",
        "method": "fs/write_text_file",
        "params": {"path": str(leaky.directory / "new.md"), "content": f"k {ALL}\n"},
    }
    turn = leaky.say(conversation, "\n".join(map(json.dumps, (read, write))))
    assert f"key: {HIDDEN}" in leaky.answer(conversation, turn["id"])  # the agent says what it got, and that is hidden again
    assert (leaky.directory / "new.md").read_text() == f"k {SECRET}\n"
    assert sorted(Path(path).name for path in found(home)) == ["mine.md", "new.md"]


def test_errors_of_an_agent_and_its_last_words(leaky: Talk, home: Path) -> None:
    conversation = leaky.create("leaky")
    turn = leaky.say(conversation, f"{chunk('so ' + FIRST)}\n2> dying of {FIRST}\n2> and {ALL}\nexit 3")
    assert turn["state"] == "interrupted"
    text = leaky.file(conversation, f"/{turn['id']} interrupted")
    assert f"so {HIDDEN}\n" in text and f"it said: and {HIDDEN}" in text
    assert HIDDEN in leaky.client.request("process/list", {"all": True})["processes"][0]["sentence"]
    refusal = {"id": 3, "error": {"code": -32603, "message": "Internal error", "data": {"details": f"bad key {ALL}"}}}
    turn = leaky.say(conversation, "!" + json.dumps(refusal))
    assert turn["state"] == "failed"
    assert f"bad key {HIDDEN}" in leaky.file(conversation, f"/{turn['id']} failed")
    assert not found(home)


def test_what_a_person_typed_stays_and_is_told(leaky: Talk, home: Path) -> None:
    conversation = leaky.create("leaky", title=f"use {SECRET}")
    assert SECRET not in conversation["path"] and SECRET not in conversation["title"]
    turn = leaky.say(conversation, chunk("fine") + "\n2> my key is " + SECRET)
    text = leaky.file(conversation, f"/{turn['id']} done")
    assert f"2> my key is {SECRET}" in text
    assert "The message holds a secret (API_TOKEN). It stays as it was typed" in text
    quiet = leaky.say(conversation, chunk("no secret"))
    notes = [event for event in leaky.show(conversation)["events"] if event["kind"] == "note"]
    assert [note["turn"] for note in notes] == [turn["id"]] and quiet["state"] == "done"
    file, work, log = conversation["path"], str(leaky.directory / ".opagent/tmp"), str(paths.database())
    assert not [path for path in found(home) if not path.startswith((file, work, log))]  # not in a log of the agent or the daemon


def test_a_secret_of_a_client_is_hidden_although_no_agent_got_it(
    leaky: Talk, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTHER_PASSWORD", "b4ttery-st4ple-horse")
    leaky.client.request("workspace/open", {"path": str(leaky.directory), "environment": dict(os.environ)})
    conversation = leaky.create("leaky")
    turn = leaky.say(conversation, chunk("from somewhere: {{:0}}b4ttery-st4ple{{:0}}") + "\n" + chunk("-horse"))
    assert leaky.answer(conversation, turn["id"]) == "from somewhere: «redacted:OTHER_PASSWORD»[]"


def test_no_record_of_an_effect_holds_it(leaky: Talk, home: Path) -> None:
    """In the words of a command, in the name of a file, in an error: the name of the secret stands there."""
    conversation = leaky.create("leaky")
    runtimes.bind(leaky.client, leaky.directory, "leaky", can={"write": {"default": "allow"}, "read": {"default": "allow"}})
    for number, (method, params) in enumerate(
        [
            ("terminal/create", {"command": "sh", "args": ["-c", f": {ALL}"]}),
            ("fs/read_text_file", {"path": f"{ALL}.md"}),
            ("fs/write_text_file", {"path": "plain.md", "content": "nothing"}),
        ]
    ):
        turn = leaky.start(conversation, json.dumps({"id": number, "method": method, "params": params}))
        if method == "terminal/create":
            leaky.client.request("approval/answer", {"approval": until(leaky.approvals)[0]["id"], "allow": True})
        assert leaky.ended(conversation, turn["id"])["state"] == "done"
    records = leaky.client.request("audit/query", {"kinds": ["exec.*", "fs.*"]})["records"]
    assert {row["kind"] for row in records} == {"exec.start", "exec.end", "fs.read", "fs.write"}
    assert HIDDEN in json.dumps([row for row in records if row["kind"] == "exec.start"], ensure_ascii=False)
    assert HIDDEN in json.dumps([row for row in records if row["kind"] == "fs.read"], ensure_ascii=False)
    leaky.stop_daemon()
    assert found(home) == []
