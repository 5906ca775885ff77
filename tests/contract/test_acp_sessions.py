"""How a conversation comes back to its agent, in which order things are said, and what an agent says that it should not; over the
real daemon with the echo agent.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from opagent import paths
from opagent.errors import AlreadyDecided
from tests.doubles import runtimes
from tests.doubles.patience import until
from tests.integration.conftest import Talk


def open_with(talk: Talk, *arguments: str, binding: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """A conversation with an echo agent of these arguments."""
    name = runtimes.echo("own", *arguments, **more)
    runtimes.bind(talk.client, talk.directory, name, **(binding or {}))
    return talk.create(name)


def said(talk: Talk, conversation: dict[str, Any], text: str) -> str:
    turn = talk.say(conversation, text)
    assert turn["state"] == "done", turn
    return talk.answer(conversation, turn["id"])


def process(talk: Talk) -> dict[str, Any]:
    [found] = talk.client.request("process/list", {})["processes"]
    return dict(found)


def restart_agent(talk: Talk, conversation: dict[str, Any]) -> None:
    talk.client.request("process/restart", {"process": conversation["id"]})


def kill_agent(talk: Talk, conversation: dict[str, Any]) -> None:
    pid = process(talk)["pid"]
    os.kill(pid, signal.SIGKILL)
    until(lambda: all(row["state"] != "ready" for row in talk.client.request("process/list", {})["processes"]))


def stop_daemon(talk: Talk, conversation: dict[str, Any]) -> None:
    """The client of the test starts the next one by itself."""
    talk.stop_daemon()


def notes(talk: Talk, conversation: dict[str, Any]) -> list[str]:
    return [e["body"]["text"] for e in talk.show(conversation)["events"] if e["kind"] == "note" and e["body"].get("text")]


# ---- coming back -------------------------------------------------------------------------------------------------------------

WAYS = [
    ("", "new=0 load=0 resume=1 prompt=1"),
    ("resume", "new=0 load=1 resume=0 prompt=1"),
]


@pytest.mark.parametrize("end", [restart_agent, kill_agent, stop_daemon])
@pytest.mark.parametrize(("without", "calls"), WAYS)
def test_the_same_session_is_taken_up_again(talk: Talk, tmp_path: Path, without: str, calls: str, end: Any) -> None:
    conversation = open_with(talk, f"--without={without}", "--state={state}")
    said(talk, conversation, "my name is Ada")
    end(talk, conversation)
    shown = said(talk, conversation, "/context")
    assert calls in shown
    assert "remembered: 1 turns" in shown
    assert "block 1: /context" in shown and "block 2" not in shown
    assert talk.file(conversation, "block 1").count("echo: my name is Ada") == 1  # a replay is not shown again


@pytest.mark.parametrize("end", [restart_agent, kill_agent, stop_daemon])
def test_an_agent_that_remembers_nothing_is_told_the_conversation_so_far(talk: Talk, tmp_path: Path, end: Any) -> None:
    conversation = open_with(talk, "--without=load,resume", binding={"instructions": {"text": "Be short."}})
    first = said(talk, conversation, "/context")
    assert "new=1 load=0 resume=0 prompt=1" in first
    assert "Be short." in first and "my name" not in first
    said(talk, conversation, "my name is Ada")
    end(talk, conversation)
    shown = said(talk, conversation, "/context")
    assert "new=1 load=0 resume=0 prompt=1" in shown
    for words in ("Be short.", "my name is Ada", "echo: my name is Ada"):
        assert shown.count(words) >= 1, words
    again = said(talk, conversation, "/context")
    assert "prompt=2" in again and "block 1: /context" in again  # told once per session


def test_a_session_that_the_agent_lost_begins_anew_with_the_conversation_so_far(talk: Talk, tmp_path: Path) -> None:
    state = paths.agent_state(str(talk.directory), "own")
    conversation = open_with(talk, "--state={state}")
    said(talk, conversation, "my name is Ada")
    kill_agent(talk, conversation)
    for file in state.iterdir():
        file.unlink()
    shown = said(talk, conversation, "/context")
    assert "new=1 load=0 resume=1 prompt=1" in shown
    assert "my name is Ada" in shown
    restart_agent(talk, conversation)
    assert "new=0 load=0 resume=1" in said(talk, conversation, "/context")  # the new session was remembered


def test_a_new_session_counts_only_when_it_has_answered(talk: Talk, tmp_path: Path) -> None:
    """Else a process that died before its first prompt would be resumed later, and know nothing of the conversation."""
    state = paths.agent_state(str(talk.directory), "own")
    conversation = open_with(talk, "--state={state}")
    said(talk, conversation, "my name is Ada")
    for ending in ("", "/crash"):
        kill_agent(talk, conversation) if process(talk)["state"] == "ready" else None
        for file in state.iterdir():
            file.unlink()
        restart_agent(talk, conversation)
        until(lambda: process(talk)["state"] == "ready")
        if ending:
            talk.say(conversation, ending)
    shown = said(talk, conversation, "/context")
    assert "new=1" in shown
    assert "my name is Ada" in shown


# ---- order -------------------------------------------------------------------------------------------------------------------


def test_what_comes_before_the_session_stands_at_the_head_of_the_first_turn(talk: Talk) -> None:
    conversation = open_with(talk, "--early")
    assert said(talk, conversation, "hello") == "early bird echo: hello"


def test_what_comes_after_the_answer_and_between_turns_stands_in_the_next_one(talk: Talk, tmp_path: Path) -> None:
    log = tmp_path / "wire.log"
    conversation = open_with(talk, log=log)
    assert said(talk, conversation, "/early") == "before the answer "
    until(lambda: "between turns" in log.read_text())
    assert said(talk, conversation, "hello") == "after the answer between turns echo: hello"
    assert said(talk, conversation, "hello") == "echo: hello"


def test_several_prompts_wait_their_turn(talk: Talk) -> None:
    conversation = open_with(talk)
    turns = [talk.start(conversation, text) for text in ("/slow 3 0.05", "/error 1 no", "third", "/refuse", "fifth")]
    states = [talk.ended(conversation, turn["id"])["state"] for turn in turns]
    assert states == ["done", "failed", "done", "failed", "done"]
    order = [
        e["turn"] for e in talk.show(conversation)["events"] if e["kind"] == "turn_state" and e["body"]["state"] == "running"
    ]
    assert order == [turn["id"] for turn in turns]


# ---- permission ----------------------------------------------------------------------------------------------------------------


def test_cancel_answers_every_open_question(talk: Talk) -> None:
    conversation = open_with(talk)
    turn = talk.start(conversation, "/permissions 3")
    asked = until(lambda: len(found := talk.approvals()) == 3 and found)
    talk.client.request("turn/cancel", {"conversation": conversation["id"]})
    assert talk.ended(conversation, turn["id"])["state"] == "cancelled"
    assert talk.approvals() == []
    with pytest.raises(AlreadyDecided):  # an answer that comes late changes nothing
        talk.client.request("approval/answer", {"approval": asked[0]["id"], "allow": True})
    assert said(talk, conversation, "next") == "echo: next"
    until(lambda: process(talk)["state"] == "ready")


def test_the_last_of_several_answers_lets_the_turn_go_on(talk: Talk) -> None:
    conversation = open_with(talk)
    turn = talk.start(conversation, "/permissions 3")
    asked = until(lambda: len(found := talk.approvals()) == 3 and found)
    for approval, allow in zip(reversed(asked), (True, False, True), strict=True):
        assert process(talk)["state"] == "waiting"
        talk.client.request("approval/answer", {"approval": approval["id"], "allow": allow})
    talk.ended(conversation, turn["id"])
    assert talk.answer(conversation, turn["id"]) == "permissions: allow_once reject_once allow_once "


@pytest.mark.parametrize("kind", ["none", "many", "same", "kinds"])
def test_a_malformed_question_is_cancelled_and_noted(talk: Talk, kind: str) -> None:
    conversation = open_with(talk)
    assert talk.say(conversation, f"/badoptions {kind}")["state"] in ("cancelled", "done")
    assert any("form that cannot be answered" in note for note in notes(talk, conversation))
    assert talk.approvals() == []


@pytest.mark.parametrize(("allow", "told"), [(True, None), (False, "badoptions: reject_once ")])
def test_misleading_names_do_not_matter(talk: Talk, allow: bool, told: str | None) -> None:
    conversation = open_with(talk)
    turn = talk.start(conversation, "/badoptions misnamed")
    approval = until(talk.approvals)[0]
    talk.client.request("approval/answer", {"approval": approval["id"], "allow": allow})
    talk.ended(conversation, turn["id"])
    answer = talk.answer(conversation, turn["id"])
    assert "allow_always" not in answer
    if told:
        assert answer == told
    else:
        assert any("no option that says this" in note for note in notes(talk, conversation))


# ---- what an agent says -----------------------------------------------------------------------------------------------------------


def test_settings_of_the_role_reach_the_session(talk: Talk) -> None:
    roles = {"loud": {"runtime": "own", "model": "Upper", "mode": "slow"}, "odd": {"runtime": "own", "model": "nonsense"}}
    open_with(talk, binding={"roles": roles})
    assert said(talk, talk.create("loud"), "hi") == "ECHO: HI"
    odd = talk.create("odd")
    assert said(talk, odd, "hi") == "echo: hi"
    talk.file(odd, "echo: hi")
    assert any("refused session/set_config_option" in note for note in notes(talk, odd))


def test_unheard_of_things_are_refused_or_passed_by(talk: Talk) -> None:
    conversation = open_with(talk)
    shown = said(talk, conversation, "/unknown stop")
    assert shown.count("error -32601") == 2
    assert "known " in shown
    kept = [e["body"]["update"] for e in talk.show(conversation)["events"] if "update" in e["body"]]
    assert [update["sessionUpdate"] for update in kept] == ["telepathy"]
    assert said(talk, conversation, "hi") == "echo: hi"


def test_garbage_between_messages_is_shown_as_such_and_never_taken_for_an_answer(talk: Talk) -> None:
    conversation = open_with(talk, "--garbage")
    shown = said(talk, conversation, "/garbage")
    assert "MUST NOT APPEAR" not in shown
    assert shown.endswith("valid end ")
    assert notes(talk, conversation)
    assert len(notes(talk, conversation)) <= 20
    assert said(talk, conversation, "hi").endswith("echo: hi")


def test_services_that_were_not_asked_for_are_refused(talk: Talk) -> None:
    conversation = open_with(talk)
    (talk.directory / "a.md").write_text("text")
    shown = said(talk, conversation, "/fs a.md\n/terminal ls")
    assert shown.count("error -32601") == 2


# ---- agents that cannot be used ------------------------------------------------------------------------------------------------------


def failed(talk: Talk, conversation: dict[str, Any]) -> dict[str, Any]:
    turn = talk.say(conversation, "hello")
    assert turn["state"] == "failed"
    return next(
        e["body"] for e in talk.show(conversation)["events"] if e["body"].get("state") == "failed" and e["kind"] == "turn_state"
    )


@pytest.mark.parametrize("stage", ["session", "prompt", "initialize"])
def test_an_agent_that_wants_an_account_says_how(talk: Talk, stage: str) -> None:
    conversation = open_with(talk, f"--fail={stage}:-32000", signin="own-agent login")
    body = failed(talk, conversation)
    assert "sign in" in body["sentence"]
    assert body["hint"] == "own-agent login"
    talk.file(conversation, "sign in")


@pytest.mark.parametrize(
    ("arguments", "words"), [(["--fail=initialize"], "initialize"), (["--fail=session:-32603"], "session/new")]
)
def test_an_agent_that_refuses_to_begin(talk: Talk, arguments: list[str], words: str) -> None:
    assert words in failed(talk, open_with(talk, *arguments))["sentence"]


def test_version_2_is_tolerated_and_7_is_not(talk: Talk) -> None:
    assert said(talk, open_with(talk, "--v2"), "hello") == "echo: hello"
    name = runtimes.put("seven", *runtimes.SPEAKS_7)
    runtimes.bind(talk.client, talk.directory, name)
    body = failed(talk, talk.create(name))
    assert "another protocol" in body["sentence"]
    assert "version 7" in body["sentence"]


def test_a_line_over_the_limit_is_dropped_and_the_next_one_counts(talk: Talk) -> None:
    conversation = open_with(talk)
    turn = talk.say(conversation, "/huge 17")
    assert turn["state"] == "done"
    assert len(talk.answer(conversation, turn["id"])) < 1000
    assert any("was dropped" in note for note in notes(talk, conversation))
    assert said(talk, conversation, "hi").endswith("echo: hi")


def test_an_agent_that_prints_and_prints_no_message_is_ended(talk: Talk) -> None:
    name = runtimes.put("yes", "/usr/bin/yes", "no message")
    runtimes.bind(talk.client, talk.directory, name)
    body = failed(talk, talk.create(name))
    assert "does not speak the protocol" in body["sentence"]
    assert not [row for row in talk.client.request("process/list", {})["processes"] if row["state"] in ("starting", "ready")]
