"""The one inbox: what is remembered and forgotten, what an answer is bound to, who may answer, what happens to too many questions."""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from pathlib import Path
from typing import Any

import pytest

from opagent import paths
from opagent.client import Client
from opagent.errors import AlreadyDecided, ApprovalNotFound, Denied, NotFound, Usage
from tests.doubles import runtimes
from tests.doubles.daemons import kill
from tests.doubles.patience import until
from tests.doubles.strings import FREE, Strings
from tests.integration.conftest import Talk

OPTIONS = [{"optionId": "y", "name": "Yes", "kind": "allow_once"}, {"optionId": "n", "name": "No", "kind": "reject_once"}]
ASKING = {"read": {"default": "allow"}, "write": {"ask": ["b.md", "c.md", "sub/"]}}


def permission(ident: Any, *words: str, **more: Any) -> dict[str, Any]:
    call = {"toolCallId": f"t{ident}", "title": words[0], "kind": "execute", "rawInput": {"command": list(words)}, **more}
    return {"id": ident, "method": "session/request_permission", "params": {"toolCall": call, "options": OPTIONS}}


def write(talk: Talk, name: str, content: str = "new") -> dict[str, Any]:
    return {"id": 9, "method": "fs/write_text_file", "params": {"path": str(talk.directory / name), "content": content}}


def answer(talk: Talk, **said: Any) -> dict[str, Any]:
    approval = until(talk.approvals)[0]
    return talk.client.request("approval/answer", {"approval": approval["id"], "allow": True, **said})


def chosen(strings: Strings, turn: dict[str, Any]) -> str:
    """What the agent heard: the option, or the code of a refusal."""
    [heard] = strings.answers(turn)
    return (
        str(heard["result"]["outcome"]["optionId"])
        if "outcome" in heard.get("result", {})
        else ("result" in heard and "y") or "n"
    )


def unconfined() -> None:
    """The user's own word, and no binding's."""
    paths.config().mkdir(parents=True, exist_ok=True)
    paths.user_config().write_text("version: 1\nsandbox: {level: off}\n")


def remembered(talk: Talk) -> list[dict[str, Any]]:
    return list(talk.client.request("approval/remembered", {})["remembered"])


# ---- remembering -------------------------------------------------------------------------------------------------------------


def test_an_answer_for_the_conversation_counts_there_and_outlives_the_daemon(talk: Talk) -> None:
    strings = Strings(talk, can=FREE)
    turn = strings.start(permission(1, "make", "test", "unit"))
    waits = until(talk.approvals)[0]
    assert (waits["same"], waits["wider"]) == ("make test unit", "make test *")
    answer(talk, scope="conversation")
    assert chosen(strings, turn) == "y"
    talk.stop_daemon()
    assert chosen(strings, strings.start(permission(2, "make", "test", "unit"))) == "y"
    assert f"your earlier answer in this conversation ({waits['id']})" in strings.notes()
    strings.start(permission(3, "make", "test", "other"))
    assert until(talk.approvals)[0]["subject"] == "make test other", "it was given for exactly that"
    answer(talk)
    strings.conversation = talk.create("puppet")
    strings.start(permission(4, "make", "test", "unit"))
    assert until(talk.approvals), "another conversation asks again"
    answer(talk, allow=False)


def test_an_answer_for_the_binding_counts_until_what_decides_changes(talk: Talk) -> None:
    strings = Strings(talk, can=FREE)
    first = strings.start(permission(1, "make", "test", "unit"))
    answer(talk, scope="binding", wider=True)
    assert chosen(strings, first) == "y"
    [kept] = remembered(talk)
    assert (kept["pattern"], kept["scope"], kept["effect"]) == ("make test *", "binding", "allow")
    strings.conversation = talk.create("puppet")
    assert chosen(strings, strings.start(permission(2, "make", "test", "other"))) == "y"
    for words in (("make", "clean", "x"), ("make", "test", "--evil"), ("make", "test", "a", "b")):
        turn = strings.start(permission(3, *words))
        answer(talk, allow=False)
        assert chosen(strings, turn) == "n"
    paths.user_config().write_text("version: 1\ncan: {exec: {ask: [[make]]}}\n")
    talk.client.request("process/stop", {"process": strings.conversation["id"]})
    turn = strings.start(permission(4, "make", "test", "other"))
    assert until(talk.approvals), "a rule was added since"
    answer(talk, allow=False)
    assert chosen(strings, turn) == "n"


def test_a_rule_answers_for_a_person_only_where_a_sandbox_holds_the_agent(talk: Talk) -> None:
    """And a default never does."""
    rules = {"exec": {"allow": [["make", "tea"]], "deny": [["make", "war"]]}}
    strings = Strings(talk, can=rules)
    turn = strings.start(permission(1, "make", "tea", "now"))
    if talk.client.request("binding/explain", {"path": str(talk.directory)})["sandbox"]["level"] == "strict":
        assert chosen(strings, turn) == "y" and "allowed by" in strings.notes()
    else:
        answer(talk)
    assert chosen(strings, strings.start(permission(2, "make", "war"))) == "n", "a denial needs no sandbox"
    turn = strings.start(permission(3, "make", "coffee"))
    answer(talk)
    assert chosen(strings, turn) == "y"
    unconfined()
    strings = Strings(talk, can=rules)
    turn = strings.start(permission(4, "make", "tea", "now"))
    answer(talk, allow=False)
    assert chosen(strings, turn) == "n"


def test_what_is_forgotten_is_asked_again_and_a_no_is_remembered_too(talk: Talk) -> None:
    strings = Strings(talk, can=ASKING)
    turn = strings.start(write(talk, "b.md"))
    answer(talk, allow=False, scope="binding", reason="use c.md")
    [refused] = strings.answers(turn)
    rule = f"{talk.directory}/.agent.yaml:"
    assert "use c.md" in refused["error"]["message"] and rule in refused["error"]["message"]
    [refused] = strings.answers(strings.start(write(talk, "b.md")))
    assert "denied by your earlier answer here" in refused["error"]["message"]
    [kept] = remembered(talk)
    why = talk.client.request("audit/why", {"id": kept["id"]})
    assert (why["kind"], why["state"], why["title"]) == ("remembered", "deny", kept["pattern"])
    assert {"prompt", "asked", "rule", "answered", "remembered"} <= {step["what"] for step in why["steps"]}
    assert f"{kept['id']}: deny write b.md, for puppet in {talk.directory}" in told(why, "remembered")
    assert f"by human:{os.getuid()}; opagent approvals forget {kept['id']}" in told(why, "remembered")
    assert "use c.md" in told(why, "answered")
    with pytest.raises(ApprovalNotFound):
        talk.client.request("approval/forget", {"remembered": [kept["id"], "r99"]})
    assert remembered(talk) == [kept], "all or none"
    assert talk.client.request("approval/forget", {"remembered": [kept["id"]]})["forgotten"] == [kept]
    turn = strings.start(write(talk, "b.md"))
    answer(talk)
    assert chosen(strings, turn) == "y" and (talk.directory / "b.md").read_text() == "new"


def test_why_of_what_an_earlier_answer_decided(talk: Talk) -> None:
    strings = Strings(talk, can=ASKING)
    turn = strings.start(write(talk, "b.md"))
    answer(talk, scope="conversation")
    assert strings.answers(turn)
    assert strings.answers(strings.start(write(talk, "b.md")))
    [kept] = remembered(talk)
    why = talk.client.request("audit/why", {"id": str(talk.directory / "b.md")})
    assert f"your earlier answer in this conversation ({kept['approval']})" in told(why, "rule")
    said = f"{kept['id']}: allow write b.md, for puppet in {strings.conversation['id']}, as long as the same rules decide"
    assert said in told(why, "remembered") and f"opagent why {kept['approval']}" in told(why, "remembered")
    talk.client.request("approval/forget", {"remembered": [kept["id"]]})
    why = talk.client.request("audit/why", {"id": str(talk.directory / "b.md")})
    assert (
        told(why, "remembered") == f"the answer to {kept['approval']}, which is forgotten since; opagent why {kept['approval']}"
    )
    with pytest.raises(NotFound):
        talk.client.request("audit/why", {"id": kept["id"]})


def told(why: dict[str, Any], what: str) -> str:
    return "\n".join(step["text"] for step in why["steps"] if step["what"] == what)


def test_leaving_the_sandbox_is_never_remembered(talk: Talk) -> None:
    unconfined()
    strings = Strings(talk, can=FREE)
    request = {"id": 1, "method": "terminal/create", "params": {"command": "true", "args": ["a", "b"]}}
    turn = strings.start(request)
    waits = until(talk.approvals)[0]
    assert "same" not in waits
    for scope in ("conversation", "binding"):
        with pytest.raises(Usage, match="counts once"):
            answer(talk, scope=scope)
    with pytest.raises(Usage):
        answer(talk, wider=True)
    answer(talk)
    strings.answers(turn)
    strings.start(request)
    assert until(talk.approvals)[0]["id"] != waits["id"]
    answer(talk, allow=False)
    assert remembered(talk) == []


def test_a_secret_in_a_remembered_command_lies_nowhere(talk: Talk) -> None:
    secret = "ghp_" + "a1B2" * 8
    strings = Strings(talk, can=FREE)
    strings.start(permission(1, "push", "--token", secret))
    answer(talk, scope="binding")
    assert "push --token" in remembered(talk)[0]["pattern"]
    talk.stop_daemon()
    stored = [path for path in paths.state().rglob("*") if path.is_file()]
    with sqlite3.connect(paths.database()) as db:
        rows = str(db.execute("select * from remembered").fetchall() + db.execute("select * from approval").fetchall())
    assert secret not in rows and stored


# ---- bound to the exact action ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", ["old", None])
def test_a_file_that_changes_before_the_answer_makes_it_void(talk: Talk, before: str | None) -> None:
    strings, target = Strings(talk, can=ASKING), talk.directory / "b.md"
    if before:
        target.write_text(before)
    turn = strings.start(write(talk, "b.md"))
    first = until(talk.approvals)[0]
    target.write_text("a person's")
    answer(talk)
    second = until(lambda: (waits := talk.approvals()) and waits[0]["id"] != first["id"] and waits)[0]
    assert target.read_text() == "a person's" and "-a person's" in second["subject"]
    states = {each["id"]: each["state"] for each in talk.client.request("approval/list", {"all": True})["approvals"]}
    assert states[first["id"]] == "void"
    told = [step["what"] for step in talk.client.request("audit/why", {"id": first["id"]})["steps"]]
    assert told.count("void") == 1 and "told" not in told
    answer(talk)
    assert chosen(strings, turn) == "y" and target.read_text() == "new"


def test_a_directory_that_becomes_a_link_makes_the_answer_void(talk: Talk) -> None:
    strings, other = Strings(talk, can=ASKING), talk.directory / "other"
    (talk.directory / "sub").mkdir()
    other.mkdir()
    turn = strings.start(write(talk, "sub/a.md"))
    until(talk.approvals)
    (talk.directory / "sub").rename(talk.directory / "was")
    (talk.directory / "sub").symlink_to("other")
    answer(talk)
    assert chosen(strings, turn) == "y", "where it leads now nothing asks: it is decided anew"
    assert (other / "a.md").read_text() == "new" and not (talk.directory / "was/a.md").exists()


def test_an_answer_after_the_turn_was_cancelled_does_nothing(talk: Talk) -> None:
    strings = Strings(talk, can=ASKING)
    turn = strings.start(write(talk, "b.md"))
    waits = until(talk.approvals)[0]
    talk.client.request("turn/cancel", {"conversation": strings.conversation["id"]})
    assert talk.ended(strings.conversation, turn["id"])["state"] == "cancelled"
    with pytest.raises(AlreadyDecided):
        talk.client.request("approval/answer", {"approval": waits["id"], "allow": True})
    assert not (talk.directory / "b.md").exists()


# ---- who ---------------------------------------------------------------------------------------------------------------------


def test_who_answered_is_recorded_as_the_kernel_says(talk: Talk) -> None:
    strings = Strings(talk, can=FREE)
    turn = strings.start(permission(1, "make", "tea"))
    waits = until(talk.approvals)[0]
    with Client("other") as second:
        second.request("approval/answer", {"approval": waits["id"], "allow": False, "reason": "no tea"})
        with pytest.raises(AlreadyDecided):
            answer_again = {"approval": waits["id"], "allow": True}
            talk.client.request("approval/answer", answer_again)
    assert chosen(strings, turn) == "n"
    found = talk.client.request("audit/why", {"id": waits["id"]})
    steps = {step["what"]: step["text"] for step in found["steps"]}
    assert found["state"] == "denied" and [step["what"] for step in found["steps"]][:3] == ["prompt", "asked", "rule"]
    assert f"denied by human:{os.getuid()} via other (uid {os.getuid()}, pid {os.getpid()}" in steps["answered"]
    assert "no tea" in steps["answered"] and "make tea" in steps["asked"] and "puppet (x" in steps["asked"]
    assert steps["told"] and "done" in steps["ended"]


ANSWERS = """
import json, subprocess, sys
for line in sys.stdin:
    message = json.loads(line)
    method, ident = message.get("method"), message.get("id")
    def say(**more): print(json.dumps({"jsonrpc": "2.0", **more}), flush=True)
    if method == "initialize": say(id=ident, result={"protocolVersion": 1, "agentCapabilities": {}})
    elif method == "session/new": say(id=ident, result={"sessionId": "s"})
    elif method == "session/prompt":
        prompt = ident
        call = {"toolCallId": "t", "title": "make tea", "kind": "execute", "rawInput": {"command": ["make", "tea"]}}
        options = [{"optionId": "y", "name": "Yes", "kind": "allow_once"}, {"optionId": "n", "name": "No", "kind": "reject_once"}]
        say(id="q", method="session/request_permission", params={"sessionId": "s", "toolCall": call, "options": options})
        said = []
        while True:
            listed = json.loads(subprocess.run([*CLI, "approvals", "--json"], capture_output=True, text=True).stdout)
            if listed["approvals"]: break
        words = listed["approvals"][0]["id"]
        for command in (["allow", words], ["setsid", "-w", *CLI, "allow", words], ["approvals", "forget", "--all"]):
            argv = command if command[0] == "setsid" else [*CLI, *command]
            ran = subprocess.run(argv, capture_output=True, text=True)
            said.append([ran.returncode, ran.stderr])
        say(method="session/update", params={"sessionId": "s", "update": {"sessionUpdate": "agent_message_chunk",
            "content": {"type": "text", "text": json.dumps(said)}}})
    elif ident == "q": say(id=prompt, result={"stopReason": "end_turn"})
"""


def test_an_agent_cannot_answer_by_the_command_line(talk: Talk, tmp_path: Path) -> None:
    """A real agent that tries, directly and from a session of its own."""
    unconfined()  # in a sandbox it does not even find the socket
    script = tmp_path / "agent.py"
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-m", "opagent"]
    script.write_text(f"import os, sys\nsys.path.insert(0, {str(root)!r})\nos.chdir({str(root)!r})\nCLI = {command!r}\n{ANSWERS}")
    state = {name: os.environ[name] for name in ("XDG_STATE_HOME", "XDG_CONFIG_HOME")}
    runtimes.bind(talk.client, talk.directory, runtimes.put("liar", sys.executable, str(script), env=state))
    conversation = talk.create("liar")
    turn = talk.start(conversation, "go")
    said = json.loads(until(lambda: talk.answer(conversation, turn["id"])))
    assert [code for code, _ in said] == [5, 5, 5], said
    assert all("an agent cannot speak for a person" in words for _, words in said)
    assert len(talk.approvals()) == 1, "it waits still"
    answer(talk, allow=False)
    assert talk.ended(conversation, turn["id"])["state"] == "done"


# ---- too many ------------------------------------------------------------------------------------------------------------------


def many(count: int) -> list[dict[str, Any]]:
    return [permission(number, "make", f"tea-{number}") for number in range(count)]


def test_more_than_twenty_questions_wait_behind_one(talk: Talk) -> None:
    strings = Strings(talk, can=FREE)
    turn = strings.start(*many(30))
    found = until(lambda: len(waits := talk.approvals()) == 21 and waits)
    [pause] = [each for each in found if each["kind"] == "pause"]
    assert "20 questions in 10 minutes" in pause["subject"] and "same" not in pause
    talk.client.request("approval/answer", {"approval": pause["id"], "allow": True})
    found = until(lambda: len(waits := talk.approvals()) == 30 and waits)
    assert all(each["kind"] == "execute" and each["state"] == "pending" for each in found), "a yes answers none of them"
    for each in found:
        talk.client.request("approval/answer", {"approval": each["id"], "allow": False})
    assert all(heard["result"]["outcome"]["optionId"] == "n" for heard in strings.answers(turn))


def test_who_says_no_to_more_questions_ends_the_turn(talk: Talk) -> None:
    strings = Strings(talk, can=FREE)
    turn = strings.start(*many(25))
    found = until(lambda: len(waits := talk.approvals()) == 21 and waits)
    [pause] = [each for each in found if each["kind"] == "pause"]
    talk.client.request("approval/answer", {"approval": pause["id"], "allow": False})
    heard = strings.answers(turn)
    assert talk.turn(strings.conversation, turn["id"])["reason"] == "asked too much"
    assert all(each["result"]["outcome"] == {"outcome": "cancelled"} for each in heard) and talk.approvals() == []


def test_what_waited_when_the_daemon_died_is_void_and_listed(talk: Talk) -> None:
    strings = Strings(talk, can=FREE)
    strings.start(permission(1, "make", "tea"))
    waits = until(talk.approvals)[0]
    kill(talk.client.request("daemon/status", {})["pid"])
    [row] = [one for one in talk.client.request("approval/list", {"all": True})["approvals"] if one["id"] == waits["id"]]
    assert row["state"] == "void" and "daemon ended" in row["reason"]
    with pytest.raises(AlreadyDecided):
        talk.client.request("approval/answer", {"approval": waits["id"], "allow": True})


def test_an_agent_that_is_told_who_it_is_is_denied(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The marker counts too: a process that carries it was started by an agent."""
    import subprocess

    talk.client.request("daemon/status", {})
    code = "from opagent.client import Client; Client().request('approval/forget', {'remembered': []})"
    root = str(Path(__file__).resolve().parents[2])
    env = {**os.environ, "OPAGENT_PROCESS": "x123456", "PYTHONPATH": root}
    ran = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert Denied.__name__ in ran.stderr
