"""The librarian as a process: ACP v1 over stdio, answers that stand in the files, edits only with permission."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import acp.schema
import psutil
import pytest

from tests.doubles.patience import PATIENCE
from tests.doubles.stdio_agent import StdioAgent, running

ROOT = Path(__file__).resolve().parents[2]
LIBRARIAN = ROOT / "runtimes/librarian"
Start = Callable[..., StdioAgent]


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    copied = tmp_path / "docs"
    shutil.copytree(ROOT / "workspaces/docs", copied, ignore=shutil.ignore_patterns("conversations", ".opagent"))
    return copied


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Start]:
    """Starts librarians, as the daemon does, without a session."""
    with ExitStack() as stack:

        def begin(root: Path) -> StdioAgent:
            environment = {**os.environ, "OPAGENT_STATE": str(tmp_path / "state")}
            return stack.enter_context(running([sys.executable, "-I", "-S", "-B", str(LIBRARIAN)], root, environment))

        yield begin


@pytest.fixture
def start(launch: Start) -> Start:
    """Starts librarians with a session in a workspace; keywords are `_meta.opagent`."""

    def begin(root: Path, **ours: Any) -> StdioAgent:
        agent = launch(root)
        agent.begin(root, **({"_meta": {"opagent": ours}} if ours else {}))
        return agent

    return begin


def say(agent: StdioAgent, text: str) -> str:
    answer, result = agent.prompt(text)
    assert result == {"stopReason": "end_turn"}
    return answer


def titles(updates: list[dict[str, Any]]) -> list[str]:
    """Of the tool calls, in order."""
    return [update["title"] for update in updates if "title" in update]


def quotes(answer: str, conversations: Path) -> list[tuple[str, int, list[str]]]:
    """(file, line, quoted lines) of an answer; fails where a link leads elsewhere or a word stands in no file."""
    found = []
    for match in re.finditer(r"\*\*\[(.+?):(\d+)\]\((.+?)#L(\d+)\)\*\*[^\n]*\n\n((?:>.*\n?)+)", answer):
        file = (conversations / unquote(match[3])).resolve()
        lines = [line.removeprefix(">").removeprefix(" ") for line in match[5].splitlines()]
        begin = int(match[2])
        assert match[2] == match[4]
        assert file.read_text().split("\n")[begin - 1 : begin - 1 + len(lines)] == lines
        found.append((match[1], begin, lines))
    return found


def permission(agent: StdioAgent, outcome: dict[str, str]) -> dict[str, Any]:
    asked = agent.requested("session/request_permission")
    acp.schema.RequestPermissionRequest.model_validate(asked["params"])
    agent.send({"jsonrpc": "2.0", "id": asked["id"], "result": {"outcome": outcome}})
    params: dict[str, Any] = asked["params"]
    return params


ALLOW = {"outcome": "selected", "optionId": "allow"}
REJECT = {"outcome": "selected", "optionId": "reject"}


def test_the_first_command_of_the_readme_is_answered_from_the_right_line(start: Start, docs: Path) -> None:
    agent = start(docs)
    answer = say(agent, "How should headings be written?")
    path, line, lines = quotes(answer, docs / "conversations")[0]
    assert path == "style.md"
    assert lines[0].startswith("Headings are written in sentence case")
    assert (docs / "style.md").read_text().split("\n")[line - 3] == "## Headings"
    assert "Style guide > Headings" in answer


def test_every_message_is_of_the_protocol(start: Start, docs: Path) -> None:
    agent = start(docs)
    acp.schema.InitializeResponse.model_validate(agent.initialize())
    for text in ("headings", "/find readings", "/toc", "/links", "zebra", ""):
        say(agent, text)
    updates = [message for message in agent.messages if message.get("method") == "session/update"]
    for message in updates:
        acp.schema.SessionNotification.model_validate(message["params"])
        assert message["params"]["sessionId"] == agent.session
    kinds = {message["params"]["update"]["sessionUpdate"] for message in updates}
    assert kinds == {"available_commands_update", "agent_message_chunk", "tool_call", "tool_call_update"}
    assert all(message["jsonrpc"] == "2.0" for message in agent.messages)


def test_the_commands_are_announced_after_the_session(start: Start, docs: Path) -> None:
    agent = start(docs)
    update = agent.until(lambda message: message.get("method") == "session/update")
    names = [one["name"] for one in update["params"]["update"]["availableCommands"]]
    assert names == ["find", "toc", "links", "ask", "index"]
    answered = next(at for at, message in enumerate(agent.messages) if "sessionId" in message.get("result", {}))
    assert answered < agent.messages.index(update)


def test_tool_calls_say_what_is_read_and_end(start: Start, docs: Path) -> None:
    agent = start(docs)
    say(agent, "headings")
    updates = agent.updates()
    begun = {one["toolCallId"]: one for one in updates if one["sessionUpdate"] == "tool_call"}
    ended = {one["toolCallId"] for one in updates if one.get("status") == "completed"}
    assert {one["title"].split(" files")[0] for one in begun.values()} == {"Index 9", "Search 9"}
    assert set(begun) == ended
    say(agent, "headings")
    assert sum(one.get("title", "").startswith("Index") for one in agent.updates()) == 2  # nothing to index any more


def test_it_says_plainly_that_it_found_nothing(start: Start, docs: Path) -> None:
    answer = say(start(docs), "zebra crossings?")
    assert "I found nothing" in answer and "*zebra*" in answer and "9 files" in answer
    assert ">" not in answer


def test_an_empty_workspace_and_an_empty_question(start: Start, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    agent = start(tmp_path / "empty")
    assert "0 files" in say(agent, "anything?")
    assert "/find WORDS" in say(agent, "  ")
    assert "no word" in say(agent, "?!")


@pytest.mark.parametrize("conversations", ["conversations", "notes/talks", "."])
def test_links_are_relative_to_the_conversation(start: Start, docs: Path, conversations: str) -> None:
    agent = start(docs, conversations=conversations)
    assert quotes(say(agent, "headings"), docs / conversations)[0][0] == "style.md"


def test_conversations_are_not_searched(start: Start, docs: Path) -> None:
    (docs / "talks").mkdir()
    (docs / "talks" / "x.md").write_text("zebra crossing\n")
    assert "I found nothing" in say(start(docs, conversations="talks/"), "zebra crossing")
    assert quotes(say(start(docs), "zebra crossing"), docs / "talks")


def test_a_conversation_elsewhere_is_no_source_either(start: Start, docs: Path) -> None:
    (docs / "archive").mkdir()
    (docs / "archive/old.md").write_text("---\nopagent: 1\nconversation: k7q2-m4x8p3\n---\n\nThe xylophone is blue.\n")
    (docs / "archive/notes.md").write_text("---\ntitle: x\n---\n\nopagent: is a word. The xylophone is red.\n")
    answer = say(start(docs), "Which colour has the xylophone?")
    assert "red" in answer and "blue" not in answer


def test_denied_files_are_never_shown(start: Start, docs: Path) -> None:
    agent = start(docs, read={"deny": ["style.md", "setup/"]})
    for text in ("How should headings be written?", "/find headings", "/toc", "/toc style.md", "install", "/links"):
        answer = say(agent, text)
        assert "style.md:" not in answer and "installation.md:" not in answer
    bad = agent.answer_to(agent.post("session/new", cwd=str(docs), mcpServers=[], _meta={"opagent": {"read": "no"}}))
    assert bad["error"]["code"] == -32602


def test_find_toc_and_an_unknown_command(start: Start, docs: Path) -> None:
    agent = start(docs)
    line = next(n for n, text in enumerate((docs / "faq.md").read_text().split("\n"), 1) if "tidewater correct`" in text)
    assert f"[faq.md:{line}](../faq.md#L{line})" in say(agent, "/find tidewater correct")
    assert "No line holds *zebra*" in say(agent, "/find zebra")
    assert say(agent, "/toc setup/gauges.md").splitlines()[0] == "- [setup/gauges.md:1](../setup/gauges.md#L1) **Gauges**"
    assert "Connect a gauge" in say(agent, "/toc setup")
    assert "no heading" in say(agent, "/toc nowhere")
    assert all(f"/{name}" in say(agent, "/nonsense") for name in ("find", "toc", "links", "index"))
    assert "found nothing" in say(agent, "/etc/zebra is what?")


def test_links_lists_exactly_what_is_broken(start: Start, docs: Path) -> None:
    agent = start(docs)
    assert "1 link is broken" in say(agent, "/links")
    line = next(n for n, text in enumerate((docs / "setup/gauges.md").read_text().split("\n"), 1) if "mounting" in text)
    assert f"[setup/gauges.md:{line}]" in say(agent, "/links")
    (docs / "new.md").write_text(
        "# New\n\n[ok](style.md#headings) [up](../outside.md) [web](https://example.com/x) [dir](setup/) [s](#new)\n"
        "[bad](style.md#heading) [file](setup/gauge.md) [twice](faq.md#nothing-at-all) [dup](#same-1) [x][y]\n\n"
        "## Same\n\n## Same\n\n`[code](none.md)`\n\n```\n[code](none.md)\n```\n![gone](gone.png)\n[ref]\n\n[ref]: lost.md\n"
    )
    answer = say(agent, "/links new.md")
    assert re.findall(r"^- \[new\.md:(\d+)\]\(\S+\) (.*)$", answer, re.MULTILINE) == [
        ("4", "`style.md#heading`: `style.md` has no heading `#heading`; there is `#headings`"),
        ("4", "`setup/gauge.md`: there is no `setup/gauge.md`"),
        ("4", "`faq.md#nothing-at-all`: `faq.md` has no heading `#nothing-at-all`"),
        ("15", "`gone.png`: there is no `gone.png`"),
        ("18", "`lost.md`: there is no `lost.md`"),
        ("4", "`[y]` is not defined in this file"),
    ]
    assert "1 lead out of the workspace" in answer
    assert "Nothing is broken" in say(agent, "/links style.md")


def test_index_is_written_when_allowed(start: Start, docs: Path) -> None:
    agent = start(docs)
    turn = agent.ask("/index")
    params = permission(agent, ALLOW)
    assert agent.answer_to(turn)["result"] == {"stopReason": "end_turn"}
    written = (docs / "INDEX.md").read_text()
    difference = params["toolCall"]["content"][0]
    assert difference == {"type": "diff", "path": str(docs / "INDEX.md"), "oldText": None, "newText": written}
    assert params["toolCall"]["kind"] == "edit"
    assert {one["kind"] for one in params["options"]} == {"allow_once", "reject_once"}
    assert "- [Style guide](style.md)" in written and "  - [Gauges](setup/gauges.md)" in written
    assert "is up to date" in say(agent, "/index")
    assert "1 link is broken" in say(agent, "/links")  # its own links are right


def test_index_keeps_what_people_wrote(start: Start, docs: Path) -> None:
    (docs / "MAP.md").write_bytes(b"# Map\r\n\r\nMine.\r\n\r\n<!-- toc -->\r\nold\r\n<!-- /toc -->\r\nMine too.\r\n")
    (docs / "MAP.md").chmod(0o640)
    agent = start(docs)
    turn = agent.ask("/index MAP.md")
    permission(agent, ALLOW)
    agent.answer_to(turn)
    after = (docs / "MAP.md").read_bytes()
    assert after.startswith(b"# Map\r\n\r\nMine.\r\n\r\n<!-- toc -->\r\n- [Tidewater handbook](README.md)\r\n")
    assert after.endswith(b"<!-- /toc -->\r\nMine too.\r\n")
    assert b"old" not in after
    assert (docs / "MAP.md").stat().st_mode & 0o777 == 0o640
    assert not [name for name in os.listdir(docs) if name.endswith(".tmp")]


@pytest.mark.parametrize("outcome", [REJECT, {"outcome": "selected", "optionId": "allow_always"}, {"outcome": "cancelled"}])
def test_index_writes_nothing_without_permission(start: Start, docs: Path, outcome: dict[str, str]) -> None:
    agent = start(docs)
    turn = agent.ask("/index")
    permission(agent, outcome)
    agent.answer_to(turn)
    assert not (docs / "INDEX.md").exists()
    assert "was not written" in agent.text()


def test_index_does_not_overwrite_what_was_saved_meanwhile(start: Start, docs: Path) -> None:
    agent = start(docs)
    turn = agent.ask("/index")
    agent.requested("session/request_permission")
    (docs / "INDEX.md").write_text("mine\n")
    permission(agent, ALLOW)
    agent.answer_to(turn)
    assert (docs / "INDEX.md").read_text() == "mine\n"
    assert "somebody changed it" in agent.text()


@pytest.mark.parametrize(
    "path",
    ["../x.md", "/etc/x.md", ".agent.yaml", ".hidden/x.md", "x.py", "conversations/x.md", "link/x.md", "nowhere/x.md", "in.md"],
)
def test_index_writes_only_markdown_beneath_the_workspace(start: Start, docs: Path, tmp_path: Path, path: str) -> None:
    (tmp_path / "outside").mkdir()
    (docs / "link").symlink_to(tmp_path / "outside")
    (tmp_path / "out.md").write_text("outside\n")
    (docs / "in.md").symlink_to(tmp_path / "out.md")
    agent = start(docs)
    say(agent, f"/index {path}")
    assert not any(message.get("method") == "session/request_permission" for message in agent.messages)
    assert not list((tmp_path / "outside").iterdir()) and (tmp_path / "out.md").read_text() == "outside\n"


def test_cancel_while_a_permission_is_open(start: Start, docs: Path) -> None:
    agent = start(docs)
    turn = agent.ask("/index")
    agent.requested("session/request_permission")
    agent.notify("session/cancel", sessionId=agent.session)
    assert agent.answer_to(turn)["result"] == {"stopReason": "cancelled"}
    assert not (docs / "INDEX.md").exists()
    assert "Headings" in say(agent, "headings")


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """1,500 files, 10 MB: far more than is read before a cancel is heard."""
    root = tmp_path / "many"
    root.mkdir()
    page = "".join(f"## Part {n}\n\n" + f"alpha beta gamma number{n} delta epsilon zeta\n" * 8 + "\n" for n in range(18))
    for number in range(1500):
        (root / f"page{number:04}.md").write_text(f"# Page {number}\n\nunique{number}\n\n{page}")
    return root


def test_cancel_while_indexing_ends_the_turn_before_the_index(start: Start, many: Path) -> None:
    agent = start(many)
    turn = agent.ask("unique777")
    agent.until(lambda message: message.get("params", {}).get("update", {}).get("title") == "Index 1,500 files")
    agent.notify("session/cancel", sessionId=agent.session)
    assert agent.answer_to(turn)["result"] == {"stopReason": "cancelled"}
    assert not [title for title in titles(agent.updates()) if title.endswith("done")]
    assert [path for path, _, _ in quotes(say(agent, "unique777"), many / "conversations")] == ["page0777.md"]


def test_two_librarians_and_changing_files(start: Start, many: Path) -> None:
    one, two = start(many), start(many)
    first, second = one.ask("unique3"), two.ask("unique1400")
    for number in range(0, 1500, 10):
        (many / f"page{number:04}.md").unlink()
        (many / f"extra{number}.md").write_text(f"extra{number}\n")
    for agent, turn in ((one, first), (two, second)):
        assert agent.answer_to(turn)["result"] == {"stopReason": "end_turn"}
    assert "page0003.md" in one.text()
    assert "extra1490.md" in say(one, "extra1490") and "extra1490.md" in say(two, "extra1490")
    assert "I found nothing" in say(two, '"unique1400 part"')
    before = len(agent.messages)
    say(agent, "unique3")
    assert not any("Index" in title for title in titles(agent.updates(before)))  # nothing was read again


def test_a_second_prompt_of_a_busy_session_is_refused(start: Start, docs: Path) -> None:
    agent = start(docs)
    turn = agent.ask("/index")
    agent.requested("session/request_permission")
    assert agent.answer_to(agent.ask("headings"))["error"]["code"] == -32600
    permission(agent, REJECT)
    agent.answer_to(turn)


def test_sessions_are_independent(start: Start, docs: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "zebra.md").write_text("zebra\n")
    agent = start(docs)
    busy = agent.ask("/index")
    agent.requested("session/request_permission")
    agent.session = agent.call("session/new", cwd=str(tmp_path / "other"), mcpServers=[])["sessionId"]
    assert "zebra.md:1" in say(agent, "zebra")
    permission(agent, REJECT)
    agent.answer_to(busy)


def test_load_accepts_a_session_of_an_earlier_process(launch: Start, docs: Path) -> None:
    agent = launch(docs)
    assert agent.initialize()["agentCapabilities"]["loadSession"] is True
    assert agent.call("session/load", sessionId="old", cwd=str(docs), mcpServers=[]) == {}
    agent.session = "old"
    assert "style.md" in say(agent, "headings")
    assert agent.text().count("style.md:") == 1  # nothing of before was replayed


def test_embedded_files_are_looked_at_first(start: Start, docs: Path) -> None:
    agent = start(docs)
    for name in ("setup/gauges.md", "releases.md"):
        link = {"type": "resource_link", "name": name, "uri": (docs / name).as_uri()}
        text = {"type": "text", "text": "version or offset"}
        begin = len(agent.messages)
        agent.call("session/prompt", sessionId=agent.session, prompt=[text, link])
        assert quotes(agent.text(begin), docs / "conversations")[0][0] == name


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("session/set_mode", {}, -32601),
        ("fs/read_text_file", {}, -32601),
        ("session/new", {}, -32602),
        ("session/new", {"cwd": "relative"}, -32602),
        ("session/new", {"cwd": "/nowhere/at/all"}, -32602),
        ("session/new", {"cwd": 7}, -32602),
        ("session/load", {"cwd": "/"}, -32602),
        ("session/prompt", {"sessionId": "unknown", "prompt": []}, -32602),
        ("session/prompt", {"sessionId": ["x"], "prompt": []}, -32602),
    ],
)
def test_what_it_cannot_do_is_an_error(launch: Start, docs: Path, method: str, params: dict[str, Any], code: int) -> None:
    agent = launch(docs)
    assert agent.answer_to(agent.post(method, **params))["error"]["code"] == code
    assert agent.initialize()["protocolVersion"] == 1


def test_malformed_lines_are_skipped(start: Start, docs: Path) -> None:
    agent = start(docs)
    for line in (b"", b"no json", b"[]", b'"x"', b"\xff\xfe", b"[" * 100_000, b'{"id": ' + b"9" * 5000 + b"}", b"{}", b"\0"):
        agent.send_bytes(line + b"\n")
    agent.send({"jsonrpc": "2.0", "id": 999, "result": {}})
    agent.send({"jsonrpc": "2.0", "method": "session/cancel", "params": 3})
    assert "style.md" in say(agent, "headings")
    assert not agent.noise


@pytest.mark.parametrize("question", ['"', "NEAR(a b", "a* OR (", "\0", "\ud800", "標題" * 2000, "word " * 50_000, "-- ; DROP"])
def test_hostile_questions_are_answered(start: Start, docs: Path, question: str) -> None:
    assert say(start(docs), question)


def test_hundreds_of_megabytes_of_input_neither_kill_nor_fatten_it(start: Start, docs: Path) -> None:
    agent = start(docs)
    for _ in range(200):
        agent.send_bytes(b"x" * 1_000_000)
    agent.send_bytes(b"\n")
    for _ in range(40):
        agent.send_bytes(b'{"jsonrpc": "2.0", "method": "noise", "params": "' + b"y" * 1_000_000 + b'"}\n')
    assert "style.md" in say(agent, "headings")
    assert psutil.Process(agent.process.pid).memory_info().rss < 200_000_000


def test_end_of_input_ends_it(launch: Start, start: Start, docs: Path) -> None:
    idle = launch(docs)
    idle.close_input()
    assert idle.ended() == 0
    busy = start(docs)
    turn = busy.ask("/index")
    busy.requested("session/request_permission")
    busy.close_input()
    assert busy.answer_to(turn)["result"] == {"stopReason": "cancelled"}
    assert busy.ended() == 0


def test_a_client_that_is_gone_ends_it(start: Start, docs: Path) -> None:
    agent = start(docs)
    assert agent.process.stdout is not None
    agent.process.stdout.close()
    agent.ask("headings")
    agent.post("initialize", protocolVersion=1)
    assert agent.process.wait(PATIENCE) == 0


def test_nothing_is_written_into_the_workspace_or_the_package(docs: Path, tmp_path: Path) -> None:
    package = tmp_path / "package"
    shutil.copytree(LIBRARIAN, package, ignore=shutil.ignore_patterns("__pycache__"))
    before = sorted(package.rglob("*")), sorted(docs.rglob("*"))
    environment = {**os.environ, "OPAGENT_STATE": str(tmp_path / "state")}
    with running([sys.executable, "-I", "-S", "-B", str(package)], docs, environment) as agent:
        agent.begin(docs)
        say(agent, "headings")
    assert (sorted(package.rglob("*")), sorted(docs.rglob("*"))) == before
