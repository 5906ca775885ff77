"""Files and questions of an agent that says anything: paths, ids, sessions; over the real daemon."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from opagent.errors import Usage
from tests.doubles.patience import until
from tests.doubles.strings import Strings
from tests.integration.conftest import Talk

OPTIONS = [{"optionId": "y", "name": "Yes", "kind": "allow_once"}, {"optionId": "n", "name": "No", "kind": "reject_once"}]


# ---- files -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "content"),
    [
        ({}, "one\ntwo\nthree\n"),
        ({"line": 2}, "two\nthree\n"),
        ({"line": 2, "limit": 1}, "two\n"),
        ({"limit": 0}, ""),
        ({"line": 9}, ""),
        ({"line": 0, "limit": 2**31}, "one\ntwo\nthree\n"),
        ({"line": None, "limit": None}, "one\ntwo\nthree\n"),
    ],
)
def test_a_file_is_read(free: Strings, more: dict[str, Any], content: str) -> None:
    path = str(free.talk.directory / "a.md")
    assert free.ask("fs/read_text_file", path=path, **more)["result"] == {"content": content}


@pytest.mark.parametrize("more", [{"line": "2"}, {"line": [2]}, {"limit": -5}, {"line": -1}, {"line": 2.5}, {"limit": True}])
def test_odd_lines_and_limits_are_answered_somehow(free: Strings, more: dict[str, Any]) -> None:
    answer = free.ask("fs/read_text_file", path=str(free.talk.directory / "a.md"), **more)
    assert (
        answer["result"]["content"] in ("", "one\ntwo\nthree\n", "one\n")
        if "result" in answer
        else answer["error"]["code"] == -32602
    )


def hostile(directory: Path) -> list[str]:
    """Paths that must lead nowhere."""
    (directory / "link").symlink_to("../outside.md")
    (directory / "up").symlink_to("..")
    (directory / "chain").symlink_to("up")
    (directory / "root").symlink_to("/proc/self/root")
    outside = str(directory.parent / "outside.md")
    return [
        "../outside.md", f"{directory}/../outside.md", outside, "link", f"{directory}/link", "up/outside.md", "chain/outside.md",
        f"root{outside}", "/proc/self/environ", "/proc/self/cwd/a.md", "/dev/fd/0", f"{directory}-twin/a.md", "a/../../outside.md",
        "./../outside.md", "//etc/passwd", "~/outside.md",
    ]  # fmt: skip


def test_nothing_outside_the_workspace_is_read_or_written(free: Strings) -> None:
    outside = free.talk.directory.parent / "outside.md"
    for path in hostile(free.talk.directory):
        read = free.ask("fs/read_text_file", path=path)
        assert "private" not in json.dumps(read) and "error" in read, path
        free.ask("fs/write_text_file", path=path, content="changed")
        assert outside.read_text() == "private", path
    assert not (free.talk.directory.parent / "notes-twin").exists()


@pytest.mark.parametrize("path", ["", "\0", "a\0.md", "x/" * 2500 + "y", "n" * 5000, 5, None, ["a.md"], ".", "/", "a.md/b"])
def test_impossible_paths_are_errors_and_the_conversation_goes_on(free: Strings, path: Any) -> None:
    for method in ("fs/read_text_file", "fs/write_text_file"):
        answer = free.ask(method, path=path, content="x")
        assert "error" in answer
        assert len(answer["error"]["message"]) < 1000
    assert "result" in free.ask("fs/read_text_file", path=str(free.talk.directory / "a.md"))


def test_only_plain_files_of_some_size_are_read(free: Strings) -> None:
    os.mkfifo(free.talk.directory / "pipe")
    with (free.talk.directory / "big").open("wb") as big:
        big.truncate(10 * 2**30)
    (free.talk.directory / "odd.md").write_bytes(b"caf\xe9")
    for name in ("pipe", "big", "."):
        assert "error" in free.ask("fs/read_text_file", path=str(free.talk.directory / name)), name
    assert free.ask("fs/read_text_file", path=str(free.talk.directory / "odd.md"))["result"]["content"] == "caf\ufffd"
    missing = free.ask("fs/read_text_file", path=str(free.talk.directory / "missing.md"))
    assert missing["error"]["code"] == -32002


def test_a_file_is_written_whole_and_never_through_a_hard_link(free: Strings) -> None:
    directory = free.talk.directory
    (directory / "hard.md").hardlink_to(directory.parent / "outside.md")
    script = directory / "run.sh"
    script.write_text("old")
    script.chmod(0o755)
    for name, content in (("hard.md", "mine"), ("run.sh", "new"), ("deep/er/new.md", "über\n"), ("empty.md", "")):
        assert free.ask("fs/write_text_file", path=str(directory / name), content=content)["result"] == {}, name
        assert (directory / name).read_text() == content
    assert (directory.parent / "outside.md").read_text() == "private"
    assert script.stat().st_mode & 0o777 == 0o755
    assert [file.name for file in directory.iterdir() if file.name.endswith(".tmp")] == []


def test_the_rules_decide_on_the_real_path(talk: Talk) -> None:
    for folder in ("secrets", ".git/hooks", "open"):
        (talk.directory / folder).mkdir(parents=True)
    (talk.directory / "secrets/key").write_text("private")
    (talk.directory / "open/a").write_text("free")
    for name, target in {"pub": "secrets", "k": "secrets/key", "d": ".git/hooks", "o": "open"}.items():
        (talk.directory / name).symlink_to(target)
    rules = {"read": {"default": "allow", "deny": ["secrets/"]}, "write": {"default": "allow", "deny": ["secrets/"]}}
    strings = Strings(talk, can=rules)
    for path, what in {"pub/key": "read", "k": "read", "pub/new": "write", "d/pre-commit": "write"}.items():
        answer = strings.ask(f"fs/{what}_text_file", path=str(talk.directory / path), content="x")
        assert answer["error"]["code"] == -32003, path
    assert not (talk.directory / ".git/hooks/pre-commit").exists() and not (talk.directory / "secrets/new").exists()
    assert strings.ask("fs/read_text_file", path="o/a")["result"] == {"content": "free"}
    assert strings.ask("fs/write_text_file", path="o/new/b", content="x")["result"] == {}
    assert (talk.directory / "open/new/b").read_text() == "x"


def test_a_remembered_no_is_not_asked_again(talk: Talk) -> None:
    strings = Strings(talk, can={"read": {"ask": ["a.md"]}})
    question = {"id": 7, "method": "fs/read_text_file", "params": {"path": "a.md"}}
    turn = strings.start(question)
    said = {"approval": until(talk.approvals)[0]["id"], "allow": False, "scope": "conversation"}
    talk.client.request("approval/answer", said)
    assert strings.answers(turn)[0]["error"]["code"] == -32003
    assert "earlier answer" in strings.answers(strings.start(question))[0]["error"]["message"]


def test_a_link_that_is_put_there_while_a_person_is_asked_is_not_followed(talk: Talk) -> None:
    for folder in ("docs", "secrets"):
        (talk.directory / folder).mkdir()
        (talk.directory / folder / "a").write_text(folder)
    strings = Strings(talk, can={"read": {"default": "allow", "ask": ["docs/"], "deny": ["secrets/"]}})
    turn = strings.start({"id": 7, "method": "fs/read_text_file", "params": {"path": "docs/a"}})
    until(talk.approvals)
    (talk.directory / "docs").rename(talk.directory / "old")
    (talk.directory / "docs").symlink_to("secrets")
    strings.decide(True)
    assert "error" in strings.answers(turn)[0]


def test_the_rules_decide_on_what_is_done(talk: Talk) -> None:
    rules = {"read": {"default": "allow", "deny": ["a.md"]}, "write": {"ask": ["b.md"], "deny": ["c.md"], "default": "allow"}}
    strings = Strings(talk, can=rules)
    denied = strings.ask("fs/read_text_file", path=str(talk.directory / "a.md"))
    assert denied["error"]["code"] == -32003
    assert ".agent.yaml" in denied["error"]["message"]
    assert "error" in strings.ask("fs/write_text_file", path=str(talk.directory / "c.md"), content="x")
    for allow in (False, True):
        turn = strings.start(
            {"id": 7, "method": "fs/write_text_file", "params": {"path": str(talk.directory / "b.md"), "content": "x"}}
        )
        assert "write b.md" in strings.decide(allow)["subject"]
        assert ("result" in strings.answers(turn)[0]) is allow
        assert (talk.directory / "b.md").exists() is allow


# ---- questions -------------------------------------------------------------------------------------------------------------------


def question(ident: Any, **properties: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    params = {"message": "Your name?", "mode": "form", "requestedSchema": schema}
    return {"id": ident, "method": "elicitation/create", "params": params}


@pytest.mark.parametrize(
    ("field", "words", "content"),
    [
        ({"type": "string"}, "Alice B.", "Alice B."),
        ({"type": "string", "enum": ["red", "blue"]}, "blue", "blue"),
        ({"type": "string", "oneOf": [{"const": "r", "title": "Red"}, {"const": "b", "title": "Blue"}]}, " RED ", "r"),
        ({"type": "boolean"}, "no", False),
        ({"type": "boolean"}, "", True),
    ],
)
def test_a_question_is_put_to_a_person(free: Strings, field: dict[str, Any], words: str, content: object) -> None:
    turn = free.start(question(3, name=field))
    asked = until(free.talk.approvals)[0]
    assert (asked["kind"], asked["subject"]) == ("question", "Your name?")
    said = {"approval": asked["id"], "allow": True, **({"answer": words} if words else {})}
    answered = free.talk.client.request("approval/answer", said)
    assert answered["state"] == "allowed"
    assert free.answers(turn) == [{"id": 3, "result": {"action": "accept", "content": {"name": content}}}]


def test_what_is_no_answer_is_refused_and_the_question_waits_on(free: Strings) -> None:
    turn = free.start(question(3, name={"type": "string", "enum": ["red", "blue"]}))
    asked = until(free.talk.approvals)[0]["id"]
    for words in ("", "green"):
        with pytest.raises(Usage, match="it asks for one of: red, blue"):
            free.talk.client.request("approval/answer", {"approval": asked, "allow": True, "answer": words})
    free.decide(False)
    assert free.answers(turn) == [{"id": 3, "result": {"action": "decline"}}]


def test_a_question_without_fields_only_wants_to_be_seen(free: Strings) -> None:
    turn = free.start(question(3))
    free.decide(True)
    assert free.answers(turn) == [{"id": 3, "result": {"action": "accept", "content": {}}}]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"mode": "url"}, "it is no form"),
        ({"requestedSchema": {"properties": {"a": {"type": "string"}, "b": {"type": "string"}}}}, "it has 2 fields"),
        ({"requestedSchema": {"properties": {"a": {"type": "array", "items": {}}}}}, "of the type array"),
        ({"requestedSchema": {"properties": {"a": {"type": "string", "enum": ["x", "x"]}}}}, "two of its options are the same"),
        ({"requestedSchema": {"properties": {"a": "?"}, "required": [{}, 1, None]}}, "of the type that it does not say"),
    ],
)
def test_a_question_that_nobody_can_be_asked_is_declined_and_said(free: Strings, change: dict[str, Any], why: str) -> None:
    params = {**question(3)["params"], **change}
    assert free.ask("elicitation/create", **params)["result"] == {"action": "decline"}
    assert "Your name?" in free.notes() and why in free.notes()
    assert free.talk.approvals() == []


def permission(ident: Any, title: str, **more: Any) -> dict[str, Any]:
    call = {"toolCallId": "t", "title": title, **more}
    return {"id": ident, "method": "session/request_permission", "params": {"toolCall": call, "options": OPTIONS}}


def test_an_agent_takes_its_question_back(free: Strings) -> None:
    turn = free.start(permission(4, "Make tea"), {"method": "$/cancel_request", "params": {"requestId": 4}})
    [answer] = free.answers(turn)
    assert answer["error"]["code"] == -32800
    assert free.talk.approvals() == []
    assert "result" in free.ask("fs/read_text_file", path=str(free.talk.directory / "a.md"))


def test_one_id_for_two_questions_is_one_question(free: Strings) -> None:
    turn = free.start(permission(4, "Make tea"), "!" + json.dumps(permission(4, "Delete everything")))
    assert free.decide(True)["subject"] == "Make tea"
    assert free.answers(turn) == [{"id": 4, "result": {"outcome": {"outcome": "selected", "optionId": "y"}}}]
    assert "is in use" in free.notes()


def test_an_id_may_come_again_when_it_was_answered(free: Strings) -> None:
    for allow, option in ((True, "y"), (False, "n")):
        turn = free.start(permission(0, "Make tea"))
        free.decide(allow)
        assert free.answers(turn)[0]["result"]["outcome"]["optionId"] == option


def test_a_rule_binds_what_an_agent_calls_a_reading(talk: Talk) -> None:
    strings = Strings(talk, can={"write": {"deny": ["a.md"]}})
    diff = {"type": "diff", "path": str(talk.directory / "a.md"), "oldText": "one", "newText": "two"}
    [answer] = strings.answers(strings.start(permission(1, "Look at it", kind="read", content=[diff])))
    assert answer["result"]["outcome"]["optionId"] == "n"
    assert "denied by" in strings.notes()


def test_spoilt_requests_are_answered(free: Strings) -> None:
    lines = ['!{"jsonrpc":"1.0","id":"a","method":"x"}', '!{"jsonrpc":"2.0","id":"b","method":"x","params":[1]}', "!noise"]
    answers = free.answers(free.start(*lines, {"id": "c", "method": "fs/read_text_file", "params": {"path": "a.md"}}))
    assert {(answer["id"], answer.get("error", {}).get("code")) for answer in answers} == {
        ("a", -32600),
        ("b", -32602),
        ("c", None),
    }


def test_what_is_said_in_another_session_is_not_said_here(free: Strings) -> None:
    def chunk(text: str, **more: Any) -> dict[str, Any]:
        update = {"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": text}}
        return {"method": "session/update", "params": {"update": update, **more}}

    turn = free.start(chunk("[", sessionId="child"), chunk("", sessionId=""), {"id": 1, "method": "x/y"})
    assert free.answers(turn)[0]["error"]["code"] == -32601
