"""Agents that call agents through a real daemon: every call ends with one clear outcome, and nothing is left running."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from opagent import paths
from tests.doubles.patience import until
from tests.integration.conftest import Talk

BINDING = """
version: 1
agent: writer
roles:
  writer: {runtime: echo}
  helper: {runtime: echo}
  third: {runtime: echo}
  fourth: {runtime: echo}
can:
  agents: {allow: [helper, writer, third, fourth, "../other"]}
"""


def bind(talk: Talk, text: str = BINDING, directory: Path | None = None) -> Path:
    """A binding that a person has trusted."""
    folder = directory or talk.directory
    folder.mkdir(exist_ok=True)
    (folder / ".agent.yaml").write_text(text)
    trust(talk, folder)
    return folder


def trust(talk: Talk, directory: Path | None = None) -> None:
    path = str(directory or talk.directory)
    asked = talk.client.request("trust/show", {"path": path})
    talk.client.request("trust/grant", {"path": path, "digest": asked["digest"]})


def said(talk: Talk, words: str, agent: str = "writer") -> tuple[dict[str, Any], str]:
    """The turn in a new conversation, and what the agent said in it."""
    caller = talk.create(agent)
    turn = talk.say(caller, words)
    return caller | {"turn": turn}, talk.answer(caller, turn["id"])


def rows(talk: Talk, kind: str) -> list[dict[str, Any]]:
    return talk.client.request("audit/query", {"kinds": [kind]})["records"]


def test_an_agent_calls_another_and_both_files_lead_to_the_other(talk: Talk) -> None:
    bind(talk)
    caller, answer = said(talk, "/call helper hello there")
    assert answer == "[echo: hello there]\n"
    path = Path(caller["path"])
    text = talk.file(caller, f"[the conversation]({path.stem}/helper-1.md)")
    assert "call <code>helper</code>" in text and "> echo: hello there" in text
    callee = (path.with_suffix("") / "helper-1.md").read_text()
    assert f'parent: "../{path.name}#{caller["turn"]["id"]}"' in callee
    assert "agent:writer" in callee and "via=call" in callee and "hello there" in callee


def test_links_of_the_callee_lead_to_the_file_from_both_conversations(talk: Talk) -> None:
    bind(talk, BINDING.replace("helper: {runtime: echo}", "helper: {runtime: librarian}"))
    (talk.directory / "intro.md").write_text("# Intro\n\nThe lighthouse keeper.\n")
    caller, _ = said(talk, "/call helper /find lighthouse")
    path = Path(caller["path"])
    talk.file(caller, "intro.md#L3")
    for file in (path, path.with_suffix("") / "helper-1.md"):
        (link,) = set(re.findall(r"\]\(([^)]*intro\.md)#L3\)", file.read_text()))
        assert (file.parent / link).resolve() == talk.directory / "intro.md"


def test_the_callee_goes_on_in_the_same_conversation_when_it_is_named(talk: Talk) -> None:
    bind(talk)
    caller, first = said(talk, '/mcp opagent agent_call {"to": "helper", "prompt": "one"}')
    found = json.loads(first.splitlines()[1])
    again = talk.say(
        caller, f'/mcp opagent agent_call {{"to": "helper", "prompt": "/context", "conversation": "{found["conversation"]}"}}'
    )
    assert json.loads(talk.answer(caller, again["id"]).splitlines()[-1])["conversation"] == found["conversation"]
    assert "remembered: 1 turns" in talk.answer(caller, again["id"])
    foreign = f'/mcp opagent agent_call {{"to": "helper", "prompt": "x", "conversation": "{caller["id"]}"}}'
    assert "is no conversation of yours" in talk.answer(caller, talk.say(caller, foreign)["id"])


def test_a_calls_b_calls_a_is_refused_as_a_circle(talk: Talk) -> None:
    bind(talk)
    _, answer = said(talk, "/call helper /call writer hello")
    assert [row["error"] for row in rows(talk, "call.start") if row["state"] == "denied"] == [
        "writer cannot be called from here: that is a circle: writer calls helper calls writer"
    ]
    assert answer == (
        "[[failed: writer: refused: writer cannot be called from here: that is a circle: writer calls helper calls writer]]\n"
    )


def test_calls_go_only_so_deep(talk: Talk) -> None:
    bind(talk)
    _, answer = said(talk, "/call helper /call third /call fourth hello")
    assert "calls go 2 deep, this one would be 3" in answer


def test_ten_parallel_calls_run_four_at_a_time_and_all_answer(talk: Talk) -> None:
    bind(talk)
    caller, answer = said(talk, "/callmany 10 helper hello")
    assert answer.splitlines() == ["echo: hello"] * 10
    starts = rows(talk, "call.start")
    assert len(starts) == 10 and len({row["trace"]["tid"] for row in starts}) == 1
    assert len(rows(talk, "call.end")) == 10
    until(lambda: not [row for row in _processes(talk) if row["agent"] == "helper"])
    assert len(list(Path(caller["path"]).with_suffix("").glob("helper-*.md"))) == 10


def _processes(talk: Talk) -> list[dict[str, Any]]:
    return [row for row in talk.client.request("process/list", {})["processes"] if row["pid"]]


def test_an_eleventh_message_between_two_agents_is_refused(talk: Talk) -> None:
    bind(talk)
    _, answer = said(talk, "/callmany 11 helper hello")
    refused = [line for line in answer.splitlines() if "sent each other 10 messages" in line]
    assert len(refused) == 1


def test_a_callee_that_crashes_is_one_clear_outcome(talk: Talk) -> None:
    bind(talk)
    _, answer = said(talk, '/mcp opagent agent_call {"to": "helper", "prompt": "/crash 3"}')
    words, structured = answer.splitlines()[0], json.loads(answer.splitlines()[-1])
    assert words.startswith("failed: helper: failed: ") and "exit status 3" in words
    assert (structured["outcome"], structured["reason"]) == ("failed", "crashed")
    assert [row["obj"]["outcome"] for row in rows(talk, "call.end")] == ["failed"]


def test_a_call_that_takes_too_long_is_stopped(talk: Talk) -> None:
    bind(talk)
    _, answer = said(talk, '/mcp opagent agent_call {"to": "helper", "prompt": "/wait", "timeout": 0.5}')
    assert json.loads(answer.splitlines()[-1])["outcome"] == "timed_out"
    until(lambda: not [row for row in _processes(talk) if row["agent"] == "helper"])


def test_cancelling_the_caller_cancels_all_that_it_called(talk: Talk) -> None:
    bind(talk)
    caller = talk.create("writer")
    turn = talk.start(caller, "/call helper /call third /wait")
    until(lambda: [row for row in _processes(talk) if row["agent"] == "third" and row.get("turn")])
    talk.client.request("turn/cancel", {"conversation": caller["id"]})
    assert talk.ended(caller, turn["id"])["state"] == "cancelled"
    until(lambda: not [row for row in _processes(talk) if row["agent"] != "writer"])
    assert sorted(row["obj"]["outcome"] for row in rows(talk, "call.end")) == ["cancelled", "cancelled"]


def test_ps_names_the_caller_until_its_turn_is_over(talk: Talk) -> None:
    bind(talk)
    caller = talk.create("writer")
    turn = talk.start(caller, "/call helper hello\n/call helper /wait")
    rows_ = until(lambda: len(found := [row for row in _processes(talk) if "called_by" in row]) == 2 and found)
    assert {(row["called_by"]["conversation"], row["called_by"]["turn"]) for row in rows_} == {(caller["id"], turn["id"])}
    talk.client.request("turn/cancel", {"conversation": caller["id"]})
    talk.ended(caller, turn["id"])
    until(lambda: not [row for row in _processes(talk) if "called_by" in row])


def test_a_call_ends_with_the_turn_that_sent_it(talk: Talk) -> None:
    bind(talk)
    said(talk, '/mcp opagent agent_send {"to": "helper", "prompt": "/wait"}\n/slow 10 0.1')
    until(lambda: [row["obj"]["outcome"] for row in rows(talk, "call.end")] == ["cancelled"])
    until(lambda: not [row for row in _processes(talk) if row["agent"] == "helper"])


def test_a_sent_call_is_fetched_by_its_id(talk: Talk) -> None:
    bind(talk)
    caller = talk.create("writer")
    sent = '/mcp opagent agent_send {"to": "helper", "prompt": "/slow 3 0.1"}'
    turn = talk.start(caller, f"{sent}\n/wait")
    call = until(lambda: (text := talk.answer(caller, turn["id"])).count("\n") > 1 and json.loads(text.splitlines()[1])["call"])
    assert call.startswith("c")
    talk.client.request("turn/cancel", {"conversation": caller["id"]})
    talk.ended(caller, turn["id"])


def test_who_may_be_called_is_asked_and_a_no_is_told(talk: Talk) -> None:
    bind(talk, BINDING.partition("can:")[0])
    caller = talk.create("writer")
    turn = talk.start(caller, "/call helper hello")
    approval = until(lambda: talk.approvals())[0]
    assert (approval["kind"], approval["subject"]) == ("agents", "call helper\nhello")
    talk.client.request("approval/answer", {"approval": approval["id"], "allow": False, "reason": "not now"})
    talk.ended(caller, turn["id"])
    answer = talk.answer(caller, turn["id"])
    assert "refused" in answer and "not now" in answer
    again = talk.start(caller, "/call helper hello")
    approval = until(lambda: talk.approvals())[0]
    talk.client.request("approval/answer", {"approval": approval["id"], "allow": True})
    talk.ended(caller, again["id"])
    assert talk.answer(caller, again["id"]) == "[echo: hello]\n"


def test_a_directory_is_called_by_its_own_binding_and_only_when_it_is_trusted(talk: Talk) -> None:
    bind(talk)
    other = talk.directory.parent / "other"
    other.mkdir()
    text = "version: 1\nagent: keeper\nroles: {keeper: {runtime: echo, instructions: Be kind.}}\n"
    (other / ".agent.yaml").write_text(text)
    _, answer = said(talk, "/call ../other hello")
    assert "refused" in answer and "is not trusted" in answer
    bind(talk, text, other)
    caller, answer = said(talk, "/call ../other hello")
    assert answer == "[echo: hello]\n"
    found = next(iter((other / "conversations").glob("*.md")))
    assert Path(caller["path"]).name in found.read_text()


def test_a_call_never_has_more_than_its_caller(talk: Talk) -> None:
    rules = "  exec: {deny: [[make]]}\n  network: {deny: [example.com]}\n  write: {deny: [secret.md]}\n"
    bind(talk, BINDING.replace('"../other"]', '"../other"], default: deny') + rules)
    wide = "can: {agents: {allow: [echo]}, network: {allow: [example.com]}, exec: {allow: [[make]]}}\n"
    bind(talk, "version: 1\nagent: keeper\nroles: {keeper: {runtime: echo}}\n" + wide, talk.directory.parent / "other")
    _, answer = said(talk, "/call ../other /call echo hello")
    assert "echo may not be called" in answer and "denied by" in answer and "notes/.agent.yaml" in answer
    (talk.directory / "secret.md").write_text("as it was")
    said(talk, "/call helper /write secret.md no")
    assert (talk.directory / "secret.md").read_text() == "as it was"
    talk.say(talk.create("writer"), "/call ../other /write secret.md yes")  # the rule is about the caller's own files
    assert (talk.directory.parent / "other/secret.md").read_text() == "yes"


def test_the_turns_of_the_tree_count_in_the_budget_of_its_root(talk: Talk) -> None:
    bind(talk, BINDING + "budget: {turns: 3, per: conversation}\n")
    _, answer = said(talk, "/callmany 5 helper hello")
    assert sorted(line.partition(":")[0] for line in answer.splitlines()) == ["echo"] * 2 + ["failed"] * 3


def test_a_budget_that_ends_in_the_middle_of_the_tree(talk: Talk) -> None:
    bind(talk, BINDING + "budget: {tokens: 1000, per: conversation}\n")
    caller, answer = said(talk, "/call helper /spend 600\n/call helper /call third /spend 600\n/call helper hello")
    assert answer.startswith("[spent 600]\n")  # and then whoever looks first finds that it is used up
    assert (caller["turn"]["state"], caller["turn"]["reason"]) == ("cancelled", "budget")
    outcomes = [row["obj"]["outcome"] for row in rows(talk, "call.end")]
    assert outcomes[:2] == ["answer", "answer"] and set(outcomes[2:]) <= {"budget"}
    assert len(talk.approvals()) == 1  # whether to raise it
    until(lambda: not [row for row in _processes(talk) if row["agent"] in ("helper", "third")])


def test_notes_are_shared_and_inherited(talk: Talk) -> None:
    bind(talk)
    said(talk, '/mcp opagent notes_write {"path": "plan", "text": "# Plan"}')
    assert (talk.directory / ".opagent/notes/plan.md").read_text() == "# Plan"
    _, answer = said(talk, '/mcp opagent notes_read {"path": "plan.md"}', "helper")
    assert answer.splitlines()[0] == "# Plan"
    deeper = bind(talk, "version: 1\nagent: helper\n", talk.directory / "deeper")
    below = talk.client.request("conversation/create", {"path": str(deeper), "agent": "helper"})
    turn = talk.say(below, "/mcp opagent notes_read")
    assert "plan.md (6 bytes" in talk.answer(below, turn["id"])
    _, answer = said(talk, '/mcp opagent notes_write {"path": "../../x", "text": "y"}')
    assert "is no name of a note" in answer


def test_a_person_is_asked_by_a_tool(talk: Talk) -> None:
    bind(talk)
    caller = talk.create("writer")
    turn = talk.start(caller, '/mcp opagent ask_person {"question": "Which?", "options": ["red", "blue"]}')
    approval = until(lambda: talk.approvals())[0]
    talk.client.request("approval/answer", {"approval": approval["id"], "allow": True, "answer": "blue"})
    talk.ended(caller, turn["id"])
    assert talk.answer(caller, turn["id"]).splitlines()[0] == "blue"


def test_the_commands_of_an_agent_work_in_its_box(talk: Talk) -> None:
    bind(talk)
    _, answer = said(talk, "/run opagent call helper hello")
    assert answer == "echo: hello\nexit status 0\n"
    _, answer = said(talk, "/run opagent notes write plan Words")
    assert answer == "plan.md\nexit status 0\n"
    _, answer = said(talk, "/run opagent notes read plan")
    assert answer == "Words\nexit status 0\n"
    _, answer = said(talk, "/run opagent call writer hello")
    assert "that is a circle" in answer and answer.endswith("exit status 5\n")
    _, answer = said(talk, "/run opagent agents")
    assert answer.splitlines()[0].startswith("fourth\tallow\t")
    _, answer = said(talk, "/run opagent trust .")
    assert answer.startswith("usage: opagent call") and answer.endswith("exit status 2\n")


def test_nobody_speaks_on_the_line_of_an_agent_without_its_token(talk: Talk) -> None:
    bind(talk)
    caller = talk.create("writer")
    talk.say(caller, "hello")
    (row,) = _processes(talk)
    line = paths.agent_tools(row["id"])
    for hello in (b'{"token":"guess","speaks":"calls"}\n', b"{}\n", b"nonsense\n", b"[]\n"):
        stream = socket.socket(socket.AF_UNIX)
        stream.connect(str(line))
        stream.sendall(hello + b'{"jsonrpc":"2.0","id":1,"method":"agent/list"}\n')
        stream.settimeout(10)
        assert stream.recv(100) == b""
        stream.close()
    token = (paths.agent_sockets(row["id"]) / "token").read_text()
    with socket.socket(socket.AF_UNIX) as stream:
        stream.connect(str(line))
        stream.sendall(b'{"token":"%s","speaks":"calls"}\n' % token.encode())
        for method in ("approval/answer", "trust/grant", "turn/start", "call/stop"):
            stream.sendall(b'{"jsonrpc":"2.0","id":1,"method":"%s"}\n' % method.encode())
            assert b"has no method" in stream.recv(1000)


def test_who_waits_for_a_person_is_shown_all_the_way_up(talk: Talk) -> None:
    bind(talk, BINDING.replace("third, ", ""))
    caller = talk.create("writer")
    turn = talk.start(caller, "/call helper /call third hello")
    approval = until(lambda: talk.approvals())[0]
    talk.file(caller, f"waits for a person: <code>opagent allow {approval['id']}</code>")
    talk.client.request("approval/answer", {"approval": approval["id"], "allow": True})
    assert talk.ended(caller, turn["id"])["state"] == "done"
    assert talk.answer(caller, turn["id"]) == "[[echo: hello]]\n"


def test_a_person_calls_an_agent(talk: Talk) -> None:
    bind(talk)
    made = talk.client.request("call/start", {"path": str(talk.directory), "to": "helper", "prompt": "hello"})
    found = talk.client.request("call/result", {"call": made["call"]})
    assert (found["outcome"], found["text"]) == ("answer", "echo: hello")
    assert Path(found["file"]).is_file()
    until(lambda: not _processes(talk))


def test_why_goes_back_through_the_call_to_the_person(talk: Talk) -> None:
    bind(talk)
    said(talk, '/call helper /mcp opagent notes_write {"path": "plan", "text": "Words"}')
    told = talk.client.request("audit/why", {"id": str(talk.directory / ".opagent/notes/plan.md")})
    steps = [(step["what"], step["text"]) for step in told["steps"]]
    prompts = [text for what, text in steps if what == "prompt"]
    assert prompts[0].startswith("by human:") and prompts[1].startswith("by agent:writer via call")
    assert any(what == "called" and "by writer in" in text for what, text in steps)


def test_explain_says_that_calls_have_to_pass_us(talk: Talk) -> None:
    bind(talk)
    found = talk.client.request("binding/decide", {"path": str(talk.directory), "kind": "agents", "request": "helper"})
    assert (found["effect"], found["enforcement"]) == ("allow", "proxy")


def test_the_librarian_of_a_directory_asks_another_agent(talk: Talk) -> None:
    bind(talk, "version: 1\nagent: librarian\ncan: {agents: {allow: [echo]}}\n")
    _, answer = said(talk, "/ask echo Look at intro.md.", "librarian")
    assert answer == "echo: Look at intro.md.\n"
    _, answer = said(talk, "/ask librarian hello", "librarian")
    assert ("librarian gave no answer" in answer and "may not be called" in answer) or "circle" in answer


def test_a_killed_daemon_leaves_no_call_running_and_sends_none_again(talk: Talk) -> None:
    bind(talk)
    caller = talk.create("writer")
    turn = talk.start(caller, "/call helper /wait")
    until(lambda: [row for row in _processes(talk) if row["agent"] == "helper" and row.get("turn")])
    os.kill(talk.client.request("daemon/status")["pid"], signal.SIGKILL)
    assert talk.ended(caller, turn["id"])["state"] == "interrupted"
    (end,) = rows(talk, "call.end")
    assert end["state"] == "unknown"
    assert not _processes(talk)
    text = talk.file(caller, "It is not known whether this happened: the call")
    assert text.count("echo:") == 0


@pytest.mark.parametrize("level", ["landlock", "off"])
def test_calls_work_at_every_level(talk: Talk, level: str) -> None:
    paths.config().mkdir(parents=True)
    paths.user_config().write_text(f"version: 1\nsandbox: {{level: '{level}'}}\n")
    bind(talk)
    _, answer = said(talk, "/call helper hello\n/run opagent call helper again")
    assert answer == "[echo: hello]\necho: again\nexit status 0\n"
    found = talk.client.request("binding/decide", {"path": str(talk.directory), "kind": "agents", "request": "helper"})
    assert found["enforcement"] == ("proxy" if level == "landlock" else "advisory")


def test_a_call_ends_when_the_program_that_asked_for_it_does(talk: Talk) -> None:
    bind(talk)
    caller = talk.create("writer")
    turn = talk.start(caller, "/run timeout -s KILL 2 opagent call helper /wait\n/wait")
    until(lambda: [row["obj"]["outcome"] for row in rows(talk, "call.end")] == ["cancelled"])
    assert talk.turn(caller, turn["id"])["state"] == "running"
    talk.client.request("turn/cancel", {"conversation": caller["id"]})
    talk.ended(caller, turn["id"])
