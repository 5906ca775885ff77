"""`opagent acp`: several editors, the terminal and the file on one conversation; questions, whose first answer wins; what outlives whom."""

from __future__ import annotations

import base64
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from opagent.client import Client
from opagent.process import tree
from tests.doubles import runtimes
from tests.doubles.acpeditor import AcpEditor, editor
from tests.doubles.daemons import kill
from tests.doubles.patience import until
from tests.doubles.strings import PUPPET
from tests.integration.conftest import Talk

PIXEL = base64.b64encode(
    bytes.fromhex(
        "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
        "1f15c4890000000d49444154789c6360606060000000050001a5f645400000000049454e44ae426082"
    )
).decode()


@pytest.fixture
def bound(talk: Talk) -> Talk:
    (talk.directory / ".agent.yaml").write_text("version: 1\nagent: echo\n")
    (talk.directory / "a.md").write_text("one\n")
    return talk


@pytest.fixture
def pair(bound: Talk) -> Iterator[tuple[AcpEditor, AcpEditor]]:
    """Two editors on one conversation."""
    with editor(cwd=bound.directory) as one, editor(cwd=bound.directory, able={}) as other:
        session = one.open()
        one.prompt("hello")
        other.initialize()
        other.load(session)
        yield one, other


def one_conversation(talk: Talk) -> dict[str, Any]:
    (found,) = talk.client.request("conversation/list", {"path": str(talk.directory)})["conversations"]
    return dict(found)


# ---- together ----------------------------------------------------------------------------------------------------------------


def test_each_sees_what_the_other_says(bound: Talk, pair: tuple[AcpEditor, AcpEditor]) -> None:
    one, other = pair
    start = len(other.messages)
    assert one.prompt("from one")[0] == "echo: from one"
    assert other.update("user_message_chunk", "from one", start)["_meta"]["opagent"]["via"] == "acp"
    other.until(lambda _: "echo: from one" in other.said("agent_message_chunk", start))
    here = len(one.messages)
    assert other.prompt("from other")[0] == "echo: from other"
    one.update("user_message_chunk", "from other", here)
    one.until(lambda _: "echo: from other" in one.said("agent_message_chunk", here))


def test_two_prompts_at_once_are_two_turns(pair: tuple[AcpEditor, AcpEditor]) -> None:
    one, other = pair
    numbers = [(each, each.ask(f"/slow 3 0.05\nfrom {place}")) for place, each in enumerate((one, other, one))]
    for each, number in numbers:
        assert each.answer_to(number)["result"]["stopReason"] == "end_turn"


def test_a_turn_that_begins_in_the_file_or_at_a_terminal(bound: Talk, pair: tuple[AcpEditor, AcpEditor]) -> None:
    one, other = pair
    conversation = one_conversation(bound)
    for each in pair:
        each.mark = len(each.messages)  # type: ignore[attr-defined]
    file = Path(conversation["path"])
    text = bound.file(conversation, "echo: hello")
    file.write_text(text + "\ntyped in the file\n\n/send\n")
    for each in (one, other):
        each.update("user_message_chunk", "typed in the file", each.mark)  # type: ignore[attr-defined]
        each.until(lambda _, each=each: "echo: typed in the file" in each.said("agent_message_chunk", each.mark))
    bound.say(conversation, "at the terminal")
    one.update("user_message_chunk", "at the terminal")
    # and what one says stands in the file
    other.prompt("from an editor")
    assert "from an editor" in bound.file(conversation, "echo: from an editor")


def test_the_first_answer_wins_and_the_others_are_told(bound: Talk, pair: tuple[AcpEditor, AcpEditor]) -> None:
    one, other = pair
    number = one.ask("/permission")
    mine, theirs = one.asked(), other.asked()
    assert [option["kind"] for option in theirs["params"]["options"]] == [
        "allow_once",
        "allow_always",
        "allow_always",
        "reject_once",
    ]
    other.choose(theirs, "deny")
    one.until(lambda m: m.get("method") == "$/cancel_request" and m["params"]["requestId"] == mine["id"])
    one.update("notice", "denied elsewhere")
    one.choose(mine, "once")  # too late, and nobody minds
    one.until(lambda _: "permission: reject_once" in one.said("agent_message_chunk"))
    one.answer_to(number)


@pytest.mark.parametrize("where", ["terminal", "file"])
def test_an_answer_from_elsewhere_takes_the_question_back(bound: Talk, pair: tuple[AcpEditor, AcpEditor], where: str) -> None:
    one, other = pair
    number = one.ask("/permission")
    questions = one.asked(), other.asked()
    (approval,) = bound.approvals()
    if where == "terminal":
        bound.client.request("approval/answer", {"approval": approval["id"], "allow": True})
    else:
        conversation = one_conversation(bound)
        file, text = Path(conversation["path"]), bound.file(conversation, approval["id"])
        file.write_text(text + f"\n/deny {approval['id']}\n")
        until(lambda: bound.approvals() == [] or "does not count" in file.read_text())
        if bound.approvals():  # where agents are not held, the file answers nothing
            bound.client.request("approval/answer", {"approval": approval["id"], "allow": False})
    for each, question in zip(pair, questions, strict=True):
        each.until(lambda m, q=question: m.get("method") == "$/cancel_request" and m["params"]["requestId"] == q["id"])
    assert one.answer_to(number)["result"]["stopReason"] == "end_turn"


def test_an_answer_that_is_remembered(pair: tuple[AcpEditor, AcpEditor]) -> None:
    one, _ = pair
    number = one.ask("/permission write a.md new")
    one.choose(one.asked(), "conversation")
    one.answer_to(number)
    count = len([m for m in one.messages if m.get("method") == "session/request_permission"])
    one.prompt("/permission write a.md new")
    assert len([m for m in one.messages if m.get("method") == "session/request_permission"]) == count


def test_an_editor_that_does_not_answer_leaves_the_question_to_others(bound: Talk, pair: tuple[AcpEditor, AcpEditor]) -> None:
    one, other = pair
    number = one.ask("/permission")
    one.reply(one.asked(), {"outcome": {"outcome": "cancelled"}})
    question = other.asked()
    other.send({"jsonrpc": "2.0", "id": question["id"], "error": {"code": -32601, "message": "no such method"}})
    (approval,) = bound.approvals()
    bound.client.request("approval/answer", {"approval": approval["id"], "allow": True})
    assert one.answer_to(number)["result"]["stopReason"] == "end_turn"


def test_questions_for_words(pair: tuple[AcpEditor, AcpEditor]) -> None:
    one, other = pair  # the second knows no forms
    number = one.ask("/question red blue")
    form, choice = one.asked("elicitation/create"), other.asked()
    assert [each["const"] for each in form["params"]["requestedSchema"]["properties"]["answer"]["oneOf"]] == ["red", "blue"]
    other.choose(choice, next(o["optionId"] for o in choice["params"]["options"] if o["name"] == "blue"))
    one.answer_to(number)
    one.until(lambda _: "blue" in one.said("agent_message_chunk"))
    number, start = one.ask("/question text"), len(one.messages)
    other.update("agent_message_chunk", "opagent allow")
    one.reply(one.asked("elicitation/create", after=start), {"action": "accept", "content": {"answer": "green tea"}})
    one.answer_to(number)
    assert "green tea" in one.said("agent_message_chunk", start)
    number, start = one.ask("/question text"), len(one.messages)
    one.reply(one.asked("elicitation/create", after=start), {"action": "decline"})
    assert one.answer_to(number)["result"]["stopReason"] == "end_turn"


def test_a_question_that_waits_is_put_to_whoever_comes(bound: Talk) -> None:
    conversation = bound.create()
    turn = bound.start(conversation, "/permission")
    until(bound.approvals)
    with editor(cwd=bound.directory) as one:
        one.initialize()
        for method in ("session/load", "session/resume"):
            start = len(one.messages)
            one.call(method, sessionId=conversation["id"], cwd=str(bound.directory), mcpServers=[])
            question = one.asked(after=start)
            assert len(question["params"]["options"]) == 4
        one.choose(question, "once")
        bound.ended(conversation, turn["id"])


# ---- cancelling ----------------------------------------------------------------------------------------------------------------


def test_cancelling_what_runs_and_what_waits(pair: tuple[AcpEditor, AcpEditor]) -> None:
    one, other = pair
    running, waiting = one.ask("/wait"), one.ask("never")
    other.update("user_message_chunk", "/wait")
    one.notify("session/cancel", sessionId=one.session)
    for number in (running, waiting):
        assert one.answer_to(number)["result"]["stopReason"] == "cancelled"
    assert "never" not in other.said("agent_message_chunk")
    number = one.ask("/wait")
    other.until(lambda _: other.said("user_message_chunk").count("/wait") == 2)
    one.notify("$/cancel_request", requestId=number)
    assert one.answer_to(number)["result"]["stopReason"] == "cancelled"
    number = one.ask("/wait")
    other.until(lambda _: other.said("user_message_chunk").count("/wait") == 3)
    other.notify("session/cancel", sessionId=other.session)  # it began none, so it means the one that runs
    assert one.answer_to(number)["result"]["stopReason"] == "cancelled"


def test_cancelling_while_a_question_waits(pair: tuple[AcpEditor, AcpEditor]) -> None:
    one, _ = pair
    number = one.ask("/permission")
    question = one.asked()
    one.notify("session/cancel", sessionId=one.session)
    one.reply(question, {"outcome": {"outcome": "cancelled"}})
    assert one.answer_to(number)["result"]["stopReason"] == "cancelled"


def test_closing_a_session_in_the_middle_of_its_turn(bound: Talk, pair: tuple[AcpEditor, AcpEditor]) -> None:
    one, other = pair
    number = one.ask("/wait")
    other.update("user_message_chunk", "/wait")
    assert one.call("session/close", sessionId=one.session) == {}
    assert one.answer_to(number)["result"]["stopReason"] == "cancelled"
    until(lambda: bound.show(one_conversation(bound))["turns"][-1]["state"] == "cancelled")
    assert other.prompt("mine goes on")[0].endswith("echo: mine goes on")


# ---- who ends when -----------------------------------------------------------------------------------------------------------


def test_an_editor_killed_in_the_middle_of_a_turn(bound: Talk) -> None:
    one = AcpEditor(cwd=bound.directory)
    try:
        session = one.open()
        one.ask("/slow 8 0.1\nto the end")
        one.update("agent_message_chunk")
    finally:
        os.killpg(one.process.pid, signal.SIGKILL)
        one.kill()
    with editor(cwd=bound.directory) as other:
        other.initialize()
        other.load(session)  # in the middle: what was said so far, and what follows
        other.until(lambda _: other.said("agent_message_chunk").rstrip().endswith("to the end"))
        whole = other.said("agent_message_chunk")
        until(lambda: bound.show(one_conversation(bound))["turns"][0]["state"] == "done")
        start = len(other.messages)
        other.load(session)
        assert other.said("agent_message_chunk", start) == whole


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_daemon_that_ends_in_the_middle(bound: Talk, how: str) -> None:
    with editor(cwd=bound.directory) as one:
        one.open()
        assert one.prompt("before")[0] == "echo: before"
        number = one.ask("/wait")
        one.update("agent_message_chunk", "w", len(one.messages))
        pid = bound.client.request("daemon/status", {})["pid"]
        if how == "stop":
            bound.stop_daemon()
        else:
            kill(pid)
            until(lambda: tree.start_time(pid) is None)
        answer = one.answer_to(number)
        assert "error" in answer or answer["result"]["stopReason"] == "cancelled", answer
        assert one.prompt("after")[0] == "echo: after"
        assert one.said("agent_message_chunk").count("echo: before") == 1


def test_an_editor_that_ends_all_that_it_sees_below_its_agent(home: Path) -> None:
    directory = home / "notes"
    directory.mkdir()
    (directory / ".agent.yaml").write_text("version: 1\nagent: echo\n")
    with editor(cwd=directory) as one:  # there is no daemon yet
        one.open()
        one.prompt("hello")
        assert psutil.Process(one.process.pid).children(recursive=True) == []
        with Client("test") as client:
            kill(client.request("daemon/status", {})["pid"])
        assert one.prompt("again")[0] == "echo: again"
        assert psutil.Process(one.process.pid).children(recursive=True) == []


def test_a_daemon_that_ends_between_turns_is_not_noticed(bound: Talk) -> None:
    with editor(cwd=bound.directory) as one:
        one.open()
        one.prompt("before")
        bound.stop_daemon()
        assert one.prompt("after")[0] == "echo: after"
        assert one.call("session/set_mode", sessionId=one.session, modeId="slow") == {}


def test_an_editor_that_does_not_read(bound: Talk) -> None:
    with editor(cwd=bound.directory) as one:
        one.open()
        count, size = 3000, 10_000
        number = one.ask(f"/flood {count} {size}")
        (turn,) = until(lambda: [t for t in bound.show(one_conversation(bound))["turns"] if t["state"] == "done"])
        assert turn["state"] == "done"  # nobody waits for this editor
        assert one.answer_to(number)["result"]["stopReason"] == "end_turn"
        assert len(one.said("agent_message_chunk")) == count * size


def test_a_session_that_is_loaded_again_in_the_middle_of_its_turn(bound: Talk) -> None:
    with editor(cwd=bound.directory) as one:
        session = one.open()
        number = one.ask("/slow 5 0.1\nto the end")
        one.update("agent_message_chunk")
        start = len(one.messages)
        one.load(session)
        assert one.answer_to(number)["result"]["stopReason"] == "end_turn"
        assert one.said("user_message_chunk", start) == "/slow 5 0.1\nto the end"
        assert one.said("agent_message_chunk", start) == "1 2 3 4 5 echo: to the end"
        one.ask("x")
        one.call("session/resume", sessionId=session, cwd=str(bound.directory), mcpServers=[])
        assert one.prompt("y")[0].endswith("echo: y")


def test_many_sessions_in_one_process(bound: Talk) -> None:
    with editor(cwd=bound.directory) as one:
        one.initialize()
        sessions = [one.call("session/new", cwd=str(bound.directory), mcpServers=[])["sessionId"] for _ in range(4)]
        numbers = {}
        for session in sessions:
            one.session = session
            numbers[session] = one.ask(f"I am {session}")
        for session, number in numbers.items():
            assert one.answer_to(number)["result"]["stopReason"] == "end_turn"
            told = [m["params"] for m in one.messages if m.get("method") == "session/update"]
            text = "".join(
                p["update"]["content"]["text"]
                for p in told
                if p["sessionId"] == session and p["update"]["sessionUpdate"] == "agent_message_chunk"
            )
            assert text == f"echo: I am {session}"


# ---- prompts -----------------------------------------------------------------------------------------------------------------


def test_blocks_of_a_prompt_become_a_message_that_a_person_reads(bound: Talk) -> None:
    directory = bound.directory
    (directory / "a b.md").write_text("x")
    with editor(cwd=directory) as one:
        session = one.open()
        uri = (directory / "a.md").as_uri()
        blocks = [
            {"type": "text", "text": "/context\ncompare "},
            {"type": "resource_link", "uri": uri, "name": "a.md"},
            {"type": "text", "text": ", "},
            {"type": "resource_link", "uri": (directory / "a b.md").as_uri(), "name": "a b"},
            {"type": "text", "text": "and "},
            {"type": "resource_link", "uri": "https://example.org/x", "name": "page"},
            {"type": "resource", "resource": {"uri": f"{uri}#L1:2", "text": "part\n```\nof it"}},
            {"type": "resource", "resource": {"uri": uri, "text": "one\n"}},
            {"type": "image", "mimeType": "image/png", "data": PIXEL},
        ]
        number = one.post("session/prompt", sessionId=session, prompt=blocks)
        assert one.answer_to(number)["result"]["stopReason"] == "end_turn"
        answer = one.said("agent_message_chunk")
        assert "image" in answer and "resource_link" in answer
        conversation = one_conversation(bound)
        (turn,) = bound.show(conversation)["turns"]
        text = turn["text"]
        assert 'compare @"a.md", @"a b.md"and [page](<https://example.org/x>)' in text
        assert "From a.md (L1:2):\n\n````md\npart\n```\nof it\n````" in text and "\none\n" not in text
        (image,) = (directory / "conversations/images").iterdir()
        assert f"![image](images/{image.name})" in text and image.read_bytes() == base64.b64decode(PIXEL)
        wrong = [
            [{"type": "audio", "data": "", "mimeType": "audio/wav"}],
            [{"type": "text", "text": " "}],
            [{"type": "image", "mimeType": "image/tiff", "data": PIXEL}],
            [{"type": "image", "mimeType": "image/png", "data": "***"}],
            [],
        ]
        for prompt in wrong:
            assert one.error("session/prompt", sessionId=session, prompt=prompt)["code"] == -32602


def test_an_agent_that_says_what_no_schema_has(bound: Talk) -> None:
    name = runtimes.put("puppet", *PUPPET)
    runtimes.bind(bound.client, bound.directory, name)
    with editor(cwd=bound.directory) as one:
        one.open()
        said: list[dict[str, Any]] = [
            {"sessionUpdate": "from_the_future", "x": 1},
            {"sessionUpdate": "tool_call", "toolCallId": "c", "kind": "dance", "status": "odd", "locations": [{}, {"path": "/x", "line": -1}],
             "content": [{"type": "terminal", "terminalId": "t"}, {"type": "hologram"}, {"type": "content", "content": {"type": "image"}}, 7]},
            {"sessionUpdate": "plan", "entries": [{"content": "a", "priority": "huge", "status": "?"}, "b"]},
            {"sessionUpdate": "available_commands_update", "availableCommands": [{"name": "x"}, {"description": "no name"}, 5]},
            {"sessionUpdate": "usage_update", "used": -1, "size": "x"},
            {"sessionUpdate": "usage_update", "used": 5, "size": 10, "cost": {"amount": 1, "currency": "EUR"}},
            {"sessionUpdate": "current_mode_update", "currentModeId": 7},
            {"sessionUpdate": "session_info_update", "title": None},
            {"sessionUpdate": "agent_message_chunk", "content": {"type": "image", "data": "", "mimeType": "image/png"}},
            {"sessionUpdate": "notice", "severity": "info", "title": "by the agent"},
        ]  # fmt: skip
        lines = [json.dumps({"method": "session/update", "params": {"update": update}}) for update in said]
        number = one.ask("\n".join(lines))
        assert one.answer_to(number)["result"]["stopReason"] == "end_turn"
        kinds = {update["sessionUpdate"] for update in one.updates()}
        assert "from_the_future" not in kinds and {"tool_call", "plan", "usage_update", "notice"} <= kinds
        one.load(one.session)
