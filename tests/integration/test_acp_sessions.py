"""`opagent acp`: sessions of an editor are conversations of the directory: made, listed, loaded, resumed, closed and deleted."""

from __future__ import annotations

import json
import os
import shlex
import signal
from pathlib import Path
from typing import Any

import pytest
import yaml

from opagent import paths
from tests.doubles import runtimes
from tests.doubles.acpeditor import AcpEditor, editor
from tests.doubles.patience import until
from tests.integration.conftest import Talk


@pytest.fixture
def bound(talk: Talk) -> Talk:
    """The directory's agent is echo."""
    (talk.directory / ".agent.yaml").write_text("version: 1\nagent: echo\n")
    return talk


def conversations(talk: Talk) -> list[dict[str, Any]]:
    return list(talk.client.request("conversation/list", {"path": str(talk.directory)})["conversations"])


def files(talk: Talk) -> list[Path]:
    return sorted((talk.directory / "conversations").glob("*.md"))


def test_a_conversation(bound: Talk) -> None:
    with editor(cwd=bound.directory) as one:
        hello = one.initialize()
        assert hello["protocolVersion"] == 1 and hello["agentCapabilities"]["loadSession"] is True
        assert set(hello["agentCapabilities"]["sessionCapabilities"]) == {"list", "resume", "close", "delete"}
        assert "_opagent/ping" in hello["_meta"]["opagent"]["methods"]
        made = one.call("session/new", cwd=str(bound.directory), mcpServers=[])
        assert [mode["id"] for mode in made["modes"]["availableModes"]] == ["echo", "slow", "ask"]
        assert [option["id"] for option in made["configOptions"]] == ["model", "shout"]
        one.session = made["sessionId"]
        start = len(one.messages)
        text, result = one.prompt("hello")
        assert text == "echo: hello" and result["stopReason"] == "end_turn"
        assert not [u for u in one.updates(start) if u["sessionUpdate"] == "user_message_chunk"]  # it shows its own words itself
        assert one.update("session_info_update")["title"] == "hello"
    (found,) = conversations(bound)
    assert (found["id"], found["title"]) == (made["sessionId"], "hello")
    (file,) = files(bound)
    assert "echo: hello" in bound.file(found, "echo: hello") and str(file) == made["_meta"]["opagent"]["path"]


def test_the_answer_comes_before_any_update_and_commands_before_any_word(bound: Talk) -> None:
    name = runtimes.echo("early", "--early")
    runtimes.bind(bound.client, bound.directory, name)
    with editor(cwd=bound.directory) as one:
        one.initialize()
        number = one.post("session/new", cwd=str(bound.directory), mcpServers=[])
        answer = one.answer_to(number)
        before = one.messages[: one.messages.index(answer)]
        assert not [message for message in before if message.get("method") == "session/update"]
        one.session = answer["result"]["sessionId"]
        one.update("available_commands_update")
        one.prompt("x")


def test_all_that_an_agent_says_passes_through(bound: Talk) -> None:
    with editor(cwd=bound.directory) as one:
        one.open()
        start = len(one.messages)
        one.prompt("/thought aloud\n/plan\n/tool\n/usage 5 7\n/title T\n/mode slow\nword")
        assert one.said("agent_thought_chunk", start).strip() == "aloud"
        plans = [u for u in one.updates(start) if u["sessionUpdate"] == "plan"]
        assert [entry["status"] for entry in plans[-1]["entries"]] == ["completed"] * 3
        call, *more = [u for u in one.updates(start) if u["sessionUpdate"].startswith("tool_call")]
        assert call["sessionUpdate"] == "tool_call" and {u["sessionUpdate"] for u in more} == {"tool_call_update"}
        assert any(part["type"] == "diff" for u in more for part in u.get("content", ()))
        assert one.update("usage_update")["size"] > 0
        assert one.update("current_mode_update")["currentModeId"] == "slow"
        one.update("session_info_update", '"T"')
        assert one.said("agent_message_chunk", start).endswith("word")


def test_a_note_of_opagent_is_told_beside_what_the_agent_says(bound: Talk) -> None:
    binding = bound.directory / ".agent.yaml"
    binding.write_text(binding.read_text() + "budget: {tokens: 1M, cost: 1 USD}\n")
    with editor(cwd=bound.directory) as one:
        one.open()
        one.prompt("/untrue huge")
        one.until(lambda m: "cannot be true" in json.dumps(m))
        assert one.prompt("hello")[0] == "echo: hello"


def test_how_turns_end(bound: Talk) -> None:
    with editor(cwd=bound.directory) as one:
        one.open()
        assert one.prompt("/refuse")[1]["stopReason"] == "refusal"
        assert one.prompt("/maxtokens")[1]["stopReason"] == "max_tokens"
        failed = one.answer_to(one.ask("/error -32603 no luck"))["error"]
        assert failed["code"] == -32603 and "no luck" in failed["message"] and failed["data"]["code"] == "agent_error"
        crashed = one.answer_to(one.ask("/crash 3"))["error"]
        assert "exit status 3" in crashed["message"] and "opagent logs" in crashed["message"]
        assert one.prompt("and on")[0] == "echo: and on"


def test_modes_and_options_are_the_agents(bound: Talk) -> None:
    with editor(cwd=bound.directory) as one, editor(cwd=bound.directory) as other:
        session = one.open()
        other.initialize()
        other.load(session)
        assert one.call("session/set_mode", sessionId=session, modeId="slow") == {}
        assert other.update("current_mode_update")["currentModeId"] == "slow"
        options = one.call("session/set_config_option", sessionId=session, configId="model", value="upper")["configOptions"]
        assert options[0]["currentValue"] == "upper"
        other.update("config_option_update", '"upper"')
        assert one.prompt("loud")[0] == "ECHO: LOUD"
        assert "nonsense" in one.error("session/set_mode", sessionId=session, modeId="nonsense")["message"]
        bound.client.request("process/restart", {"process": session})
        one.call("session/set_config_option", sessionId=session, configId="shout", value=True, type="boolean")
        assert one.prompt("again")[0].startswith("ECHO: AGAIN")  # the new process was told what had been chosen
        number = one.post("session/load", sessionId=session, cwd=str(bound.directory), mcpServers=[])
        made = one.answer_to(number)["result"]
        assert made["modes"]["currentModeId"] == "slow" and [each["currentValue"] for each in made["configOptions"]] == [
            "upper",
            True,
        ]


def test_an_editor_without_boolean_options_sees_none(bound: Talk) -> None:
    with editor(cwd=bound.directory, able={}) as one:
        one.initialize()
        made = one.call("session/new", cwd=str(bound.directory), mcpServers=[])
        assert [option["id"] for option in made["configOptions"]] == ["model"]


def test_list_load_resume_close_delete(bound: Talk) -> None:
    with editor(cwd=bound.directory) as one:
        first = one.open()
        one.prompt("one")
        second = one.begin(bound.directory)
        one.prompt("two")
        listed = one.call("session/list", cwd=str(bound.directory))["sessions"]
        assert {row["sessionId"]: row["title"] for row in listed} == {first: "one", second: "two"}
        assert {row["cwd"] for row in listed} == {str(bound.directory)} and all(row["updatedAt"] for row in listed)
        assert one.call("session/close", sessionId=second) == {}
        assert one.error("session/prompt", sessionId=second, prompt=[{"type": "text", "text": "x"}])["code"] == -32002
    with editor(cwd=bound.directory) as other:
        other.initialize()
        updates = other.load(first)
        assert [(u["sessionUpdate"], u["content"]["text"]) for u in updates[:2]] == [
            ("user_message_chunk", "one"),
            ("agent_message_chunk", "echo: one"),
        ]
        assert other.prompt("more")[0] == "echo: more"
        start = len(other.messages)
        other.session = second
        answer = other.call("session/resume", sessionId=second, cwd=str(bound.directory), mcpServers=[])
        assert answer["modes"]["currentModeId"] == "echo"
        assert not [u for u in other.updates(start) if u["sessionUpdate"].endswith("_chunk")]
        assert other.prompt("go on")[0] == "echo: go on"
        assert other.call("session/delete", sessionId=second) == {}
        assert [row["sessionId"] for row in other.call("session/list", cwd=str(bound.directory))["sessions"]] == [first]
        assert other.error("session/load", sessionId="nope-nope", cwd="/", mcpServers=[])["code"] == -32002
        assert other.error("session/delete", sessionId="nope-nope")["code"] == -32002
    deleted = next(file for file in files(bound) if "echo: two" in file.read_text())
    assert "archived: true" in deleted.read_text()  # nothing that was said is gone


def test_pages_of_the_list(bound: Talk) -> None:
    for number in range(53):
        bound.create(title=f"t{number}")
    with editor(cwd=bound.directory) as one:
        one.initialize()
        page = one.call("session/list", cwd=str(bound.directory))
        rest = one.call("session/list", cwd=str(bound.directory), cursor=page["nextCursor"])
        assert len({row["sessionId"] for row in page["sessions"] + rest["sessions"]}) == 53 and "nextCursor" not in rest
        assert one.error("session/list", cursor="x")["code"] == -32602
        assert len(one.call("session/list")["sessions"]) == 50


def test_a_session_in_which_nothing_was_said_leaves_nothing(bound: Talk) -> None:
    with editor(cwd=bound.directory) as one:
        one.open()
        closed = one.session
        assert len(files(bound)) == 1
        one.call("session/close", sessionId=closed)
        assert files(bound) == []
        left = one.begin(bound.directory)
    until(lambda: files(bound) == [] and conversations(bound) == [])
    with editor(cwd=bound.directory) as one:  # some make a session in one process and talk in another
        one.initialize()
        one.load(left)
        assert one.prompt("hello")[0] == "echo: hello"
    (found,) = conversations(bound)
    assert found["id"] == left and "echo: hello" in bound.file(found, "echo: hello")
    bound.client.request("conversation/archive", {"conversation": left})
    for file in files(bound):
        file.unlink()
    with editor(cwd=bound.directory) as one:  # but what a person typed into it stays
        one.open()
        (file,) = files(bound)
        file.write_text(file.read_text() + "\nmy own words\n")
    assert "my own words" in file.read_text()


def test_history_is_what_stands_in_the_file(bound: Talk) -> None:
    conversation = bound.create()
    for text in ("first", "second", "third"):
        bound.say(conversation, text)
    file = Path(conversation["path"])
    text = bound.file(conversation, "echo: third")
    begin, end = text.index("<!-- op:"), text.index("second")
    second = text.rindex("<!-- op:", 0, end)
    third = text.rindex("<!-- op:", 0, text.index("\nthird"))
    assert begin < second < third
    file.write_text((text[:second] + text[third:]).replace("\nfirst\n", "\nchanged\n"))
    until(lambda: any(e["body"].get("what") == "deleted" for e in bound.show(conversation)["events"]))
    with editor(cwd=bound.directory) as one:
        one.initialize()
        one.load(conversation["id"])
        assert one.said("user_message_chunk") == "changedthird"
        assert "second" not in one.said("agent_message_chunk")


def test_own_methods(bound: Talk) -> None:
    with editor(cwd=bound.directory) as one:
        one.initialize()
        assert one.call("_opagent/ping")["version"]
        info = one.call("_opagent/workspace/info", cwd=str(bound.directory))
        assert info["workspace"] == str(bound.directory) and info["agent"] == "echo"
        session = one.begin(bound.directory)
        one.prompt("hello")
        with editor(cwd=bound.directory) as other:
            other.initialize()
            answer = other.call("_opagent/session/attach", sessionId=session, history="full", role="observer")
            assert answer["sessionId"] == session and answer["role"] == "observer"
            assert other.said("agent_message_chunk") == "echo: hello"
            refused = other.error("session/prompt", sessionId=session, prompt=[{"type": "text", "text": "x"}])
            assert "observer" in refused["message"]
            number = one.ask("/permission")
            one.choose(one.asked(), "once")
            one.answer_to(number)
            other.update("agent_message_chunk", "allow_once")
            assert not [m for m in other.messages if m.get("method") == "session/request_permission"]
            other.call("_opagent/session/attach", sessionId=session, history="none", role="participant")
            assert other.error("_opagent/session/attach", sessionId=session, history="all")["code"] == -32602


def test_a_client_that_wants_the_events_themselves(bound: Talk) -> None:
    with editor(cwd=bound.directory) as one:
        session = one.open()
        assert "_opagent/event" in one.call("initialize", protocolVersion=1)["_meta"]["opagent"]["methods"]
        one.prompt("before")
        one.call("_opagent/session/attach", sessionId=session, history="none", events=True)
        one.prompt("hello")
        events = [m["params"] for m in one.messages if m.get("method") == "_opagent/event"]
        seqs = [event["seq"] for event in events]
        assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))
        assert {event["sessionId"] for event in events} == {session}
        assert [e["body"]["state"] for e in events if e["kind"] == "turn_state"] == ["queued", "running", "done"]
        assert "".join(e["body"]["text"] for e in events if e["kind"] == "text") == "echo: hello"
        one.load(session)
        count = len([m for m in one.messages if m.get("method") == "_opagent/event"])
        one.prompt("again")
        assert count == len([m for m in one.messages if m.get("method") == "_opagent/event"])


def test_servers_of_the_editor_are_not_started(bound: Talk, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    server = {"name": "theirs", "command": "/bin/sh", "args": ["-c", f"touch {mark}"], "env": []}
    with editor(cwd=bound.directory) as one:
        one.initialize()
        made = one.call("session/new", cwd=str(bound.directory), mcpServers=[server])
        assert made["_meta"]["opagent"]["mcpServersNotStarted"] == ["theirs"]
        notice = one.update("notice", "theirs")
        entries = yaml.safe_load(notice["description"].partition("as there:\n\n")[2])
        assert entries == {"tools": {"theirs": {"command": ["/bin/sh", "-c", f"touch {mark}"]}}}
        one.session = made["sessionId"]
        assert "theirs" not in one.prompt("/context")[0]
    assert not mark.exists()


# ---- what goes wrong -------------------------------------------------------------------------------------------------------


def test_a_directory_without_a_binding(talk: Talk) -> None:
    with editor(cwd=talk.directory) as one:
        one.initialize()
        error = one.error("session/new", cwd=str(talk.directory), mcpServers=[])
        assert error["data"]["code"] == "no_binding" and "opagent init" in error["message"]
        assert one.error("session/new", cwd="relative", mcpServers=[])["code"] == -32602
        assert one.error("session/new", mcpServers=[])["code"] == -32602


def test_a_directory_that_nobody_trusts(talk: Talk) -> None:
    (talk.directory / ".agent.yaml").write_text("version: 1\nagent: w\nroles: {w: {runtime: echo, instructions: x}}\n")
    with editor(cwd=talk.directory) as one:
        way, other = one.initialize()["authMethods"]
        assert (way["type"], way["args"], other["args"]) == ("terminal", ["--trust"], ["--sign-in"])
        error = one.error("session/new", cwd=str(talk.directory), mcpServers=[])
        assert error["code"] == -32000 and f"opagent trust {talk.directory}" in error["message"]
        (way,) = error["data"]["authMethods"]
        assert way["args"] == ["--trust", str(talk.directory)]
        assert one.error("authenticate", methodId=way["id"])["code"] == -32000
        assert files(talk) == []
        from tests.doubles.terminal import Terminal

        asked = Terminal("acp", *way["args"], cwd=talk.directory)
        asked.expect(r"Trust this binding\? \[y/N\]")
        asked.type("y\r")
        assert asked.end() == 0, asked.text
        assert one.call("authenticate", methodId=way["id"]) == {}
        one.session = one.call("session/new", cwd=str(talk.directory), mcpServers=[])["sessionId"]
        assert one.prompt("hello")[0] == "echo: hello"
        assert one.error("authenticate", methodId="other")["code"] == -32602
    with editor(cwd=talk.directory, able={}) as one:
        assert one.initialize()["authMethods"] == []


@pytest.mark.parametrize(
    ("argument", "says"), [("--crash=session:7", "exit status 7"), ("--fail=session", "refused session/new")]
)
def test_an_agent_that_does_not_start(talk: Talk, argument: str, says: str) -> None:
    name = runtimes.echo("broken", argument)
    runtimes.bind(talk.client, talk.directory, name)
    with editor(cwd=talk.directory) as one:
        one.initialize()
        error = one.error("session/new", cwd=str(talk.directory), mcpServers=[])
        assert says in error["message"] and error["data"]["code"] == "agent_failed"
        assert until(lambda: files(talk) == [])


def test_an_agent_that_wants_an_account(talk: Talk) -> None:
    name = runtimes.echo("account", "--fail=session:-32000", signin="account login")
    runtimes.bind(talk.client, talk.directory, name)
    with editor(cwd=talk.directory) as one:
        one.initialize()
        error = one.error("session/new", cwd=str(talk.directory), mcpServers=[])
        assert error["code"] == -32000 and "account login" in error["message"] and "authMethods" in error["data"]
    with editor(cwd=talk.directory, able={}) as one:
        one.initialize()
        assert "authMethods" not in one.error("session/new", cwd=str(talk.directory), mcpServers=[])["data"]


def test_signing_in_to_the_agent_from_an_editor(talk: Talk) -> None:
    """The way that is offered runs the agent's own command in the editor's terminal; the next session is there."""
    signed = talk.directory.parent / "signed in"
    program = talk.directory.parent / "account"
    program.write_text(f'#!/bin/sh\nread -r name\necho "$1 $name" > {shlex.quote(str(signed))}\n')
    program.chmod(0o755)
    signin = f"{shlex.quote(str(program))} login"
    runtimes.bind(talk.client, talk.directory, runtimes.echo("account", "--fail=session:-32000", signin=signin))
    with editor(cwd=talk.directory) as one:
        one.initialize()
        (way,) = one.error("session/new", cwd=str(talk.directory), mcpServers=[])["data"]["authMethods"]
        assert way["args"] == ["--sign-in", str(talk.directory)]
        from tests.doubles.terminal import Terminal, run

        asked = Terminal("acp", *way["args"], cwd=talk.directory)
        asked.expect("runs: ")
        asked.type("me\r")
        assert asked.end() == 0, asked.text
        assert signed.read_text() == "login me\n"
        assert one.call("authenticate", methodId=way["id"]) == {}
        assert "only a person" in run("acp", *way["args"]).stderr
        runtimes.echo("account", signin="export KEY=...")
        runtimes.trust(talk.client, talk.directory)
        one.session = one.call("session/new", cwd=str(talk.directory), mcpServers=[])["sessionId"]
        assert one.prompt("hello")[0] == "echo: hello"
        asked = Terminal("acp", *way["args"], cwd=talk.directory)
        assert asked.end() == 10 and "export KEY=..." in asked.text


def test_a_history_can_be_read_when_the_agent_does_not_start(bound: Talk) -> None:
    conversation = bound.create()
    bound.say(conversation, "hello")
    runtimes.bind(bound.client, bound.directory, "echo", roles={"echo": {"runtime": runtimes.put("gone", "/no/such/program")}})
    bound.stop_daemon()
    with editor(cwd=bound.directory) as one:
        one.initialize()
        one.load(conversation["id"])
        assert one.said("agent_message_chunk") == "echo: hello"
        one.update("notice", "could not be started")


def test_no_daemon_can_be_had(home: Path) -> None:
    directory = home / "notes"
    directory.mkdir()
    state = home / "state"
    state.write_text("no directory")
    with editor(cwd=directory, OPAGENT_STATE_DIR=str(state)) as one:
        one.initialize()
        assert one.error("session/new", cwd=str(directory), mcpServers=[])["data"]["code"]


def test_lines_that_are_no_messages(bound: Talk) -> None:
    with editor(cwd=bound.directory) as one:
        one.initialize()
        one.send_bytes(b'not json\n[1, 2]\n{"jsonrpc": "2.0", "id": 9, "method": 5}\n\xff\xfe\n\n')
        assert one.until(lambda m: m.get("id") == 9)["error"]["code"] == -32600
        assert one.error("session/teleport")["code"] == -32601
        assert one.error("_opagent/unknown")["code"] == -32601
        one.notify("unheard/of")
        one.notify("session/cancel", sessionId="nope")
        one.notify("$/cancel_request", requestId=12345)
        one.send_bytes(b'{"jsonrpc": "2.0", "id": 77, "method": "session/list", "params": [1]}\n')
        assert one.until(lambda m: m.get("id") == 77)["error"]["code"] == -32602
        one.send_bytes(b'{"x": "' + b"a" * (65 * 2**20) + b'"}\n')
        one.open()
        assert one.prompt("still here")[0] == "echo: still here"
        assert b"not a message" in one.errors and b"was dropped" in one.errors


@pytest.mark.parametrize("how", ["eof", "term", "half"])
def test_leaving(bound: Talk, how: str) -> None:
    one = AcpEditor(cwd=bound.directory)
    try:
        one.open()
        one.ask("/slow 3 0.05")
        one.update("agent_message_chunk")
        if how == "half":
            one.send_bytes(b'{"jsonrpc": "2.0", "id"')
        if how == "term":
            one.process.send_signal(signal.SIGTERM)
        else:
            one.close_input()
        assert one.ended() == (-signal.SIGTERM if how == "term" else 0)
    finally:
        one.kill()
    (found,) = conversations(bound)
    until(lambda: bound.show(found)["turns"][0]["state"] == "done")  # leaving stops nothing


def test_a_person_at_a_terminal_is_told_what_this_is(bound: Talk) -> None:
    from tests.doubles.terminal import Terminal

    at = Terminal("acp", cwd=bound.directory)
    assert at.end() == 2 and "opagent open" in at.text


def test_the_target_counts_whatever_directory_the_editor_names(bound: Talk, home: Path) -> None:
    elsewhere = home / "elsewhere"
    elsewhere.mkdir()
    with editor(str(bound.directory), cwd=elsewhere) as one:
        one.open()
        one.prompt("hello")
        (row,) = one.call("session/list", cwd=str(elsewhere))["sessions"]
        assert row["cwd"] == str(elsewhere) and row["_meta"]["opagent"]["workspace"] == str(bound.directory)
    with editor("--agent", "librarian", cwd=bound.directory) as one:
        made = one.initialize() and one.call("session/new", cwd=str(bound.directory), mcpServers=[])
        assert made["_meta"]["opagent"]["agent"] == "librarian"


def test_what_an_agent_can_is_known_from_last_time(bound: Talk) -> None:
    name = runtimes.echo("blind", "--without=image")
    runtimes.bind(bound.client, bound.directory, name)
    with editor(cwd=bound.directory) as one:
        assert one.initialize()["agentCapabilities"]["promptCapabilities"]["image"] is True  # nobody has asked it yet
        one.begin(bound.directory)
        one.prompt("hello")
    bound.stop_daemon()
    with editor(cwd=bound.directory) as one:
        assert one.initialize()["agentCapabilities"]["promptCapabilities"]["image"] is False


def test_the_state_of_this_machine_is_not_touched(bound: Talk) -> None:
    assert os.environ["HOME"] in str(paths.state())
