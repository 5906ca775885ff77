"""The proofreader as a process: ACP v1 over stdio, remarks with file and line, corrections as diffs and only with permission."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.contract.test_acp_schema import fits
from tests.doubles import libraries
from tests.doubles.stdio_agent import StdioAgent, running

ALLOW = {"outcome": "selected", "optionId": "allow"}
REJECT = {"outcome": "selected", "optionId": "reject"}
Start = Callable[..., StdioAgent]


@pytest.fixture(scope="module")
def proofreader() -> Iterator[Path]:
    with libraries.installed("proofreader") as folder:
        yield folder


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    (folder / "more").mkdir(parents=True)
    (folder / "README.md").write_text("# Teh guide\n\nThe the cat recieves mail.\n")
    (folder / "more/plain.txt").write_text("It is very unique.\n")
    return folder


@pytest.fixture
def start(proofreader: Path) -> Iterator[Start]:
    with ExitStack() as stack:

        def begin(root: Path) -> StdioAgent:
            agent = stack.enter_context(running([sys.executable, "-I", "-S", "-B", str(proofreader)], root, dict(os.environ)))
            agent.begin(root)
            return agent

        yield begin


def say(agent: StdioAgent, text: str) -> str:
    answer, result = agent.prompt(text)
    assert result == {"stopReason": "end_turn"}
    return answer


def answered(agent: StdioAgent, text: str, *outcomes: dict[str, str]) -> tuple[str, list[dict[str, Any]]]:
    """One turn in which each question is answered with the next outcome; what was said, and the questions."""
    begin = seen = len(agent.messages)
    ident = agent.ask(text)
    questions: list[dict[str, Any]] = []
    while True:
        message = agent.until(
            lambda each: each.get("method") == "session/request_permission" or each.get("id") == ident, after=seen
        )
        seen = agent.messages.index(message) + 1
        if "method" not in message:
            return agent.text(begin), questions
        questions.append(message["params"])
        result = {"outcome": outcomes[len(questions) - 1]}
        agent.send({"jsonrpc": "2.0", "id": message["id"], "result": result})


def test_remarks_have_file_line_and_rule(start: Start, docs: Path) -> None:
    answer = say(start(docs), "check")
    assert "[README.md:1](../README.md#L1) “Teh”: “The”? (spelling)" in answer
    assert re.search(r"\[README.md:3\]\S+ “The the”: said twice", answer)
    assert re.search(r"\[more/plain.txt:1\]\S+ Comparison of an uncomparable: 'very unique'", answer)
    assert "4 remarks on 2 files. 3 of them I can correct" in answer


@pytest.mark.parametrize(
    ("prompt", "files"),
    [
        ("check README.md", ["README.md"]),
        ("Please proofread `more/`.", ["more/plain.txt"]),
        ("check more/plain.txt, README.md", ["README.md", "more/plain.txt"]),
        ("check .", ["README.md", "more/plain.txt"]),
        ("/check more", ["more/plain.txt"]),
        ("Proofread what changed.\n\nThe files:\n- README.md\n", ["README.md"]),
        ("@README.md", ["README.md"]),
    ],
)
def test_what_a_prompt_means(start: Start, docs: Path, prompt: str, files: list[str]) -> None:
    assert sorted(set(re.findall(r"\[([\w/.]+):\d+\]", say(start(docs), prompt)))) == files


def test_what_is_not_there_and_what_lies_outside(start: Start, docs: Path) -> None:
    agent = start(docs)
    (docs.parent / "outside.md").write_text("teh")
    (docs / "link.md").symlink_to(docs.parent / "outside.md")
    assert say(agent, "check nowhere.md") == "There is no `nowhere.md` in this directory.\n\n"
    assert "There is no `../outside.md`" in say(agent, "check ../outside.md and fix")
    assert "`link.md` was not read: reached through a symbolic link" in say(agent, "check link.md")
    assert "link.md" not in say(agent, "check")


def test_a_text_of_the_prompt_itself(start: Start, docs: Path) -> None:
    agent = start(docs)
    assert "`text:1` “recieve”" in say(agent, "check this: I recieve teh mail.")
    assert "`text:2` “teh”" in say(agent, "Proofread:\n\nAll is well.\nBut teh end.\n")
    assert "Corrected:\n\nI receive the mail." in say(agent, "fix this: I recieve teh mail.")


def test_what_opagent_tells_every_agent_is_no_text_to_check(start: Start, docs: Path) -> None:
    agent = start(docs)
    told = {"type": "resource", "resource": {"uri": "opagent://conversation", "text": "teh adn\n"}}
    mentioned = {"type": "resource_link", "uri": (docs / "more/plain.txt").as_uri(), "name": "plain.txt"}
    for blocks, files in (([told], {"README.md", "more/plain.txt"}), ([told, mentioned], {"more/plain.txt"})):
        begin = len(agent.messages)
        prompt = [*blocks, {"type": "text", "text": "check"}]
        agent.call("session/prompt", sessionId=agent.session, prompt=prompt)
        assert set(re.findall(r"\[([\w/.]+):\d+\]", agent.text(begin))) == files


def test_a_correction_is_a_diff_and_needs_a_yes(start: Start, docs: Path) -> None:
    agent, old = start(docs), (docs / "README.md").read_text()
    new = "# The guide\n\nThe cat receives mail.\n"
    answer, [question] = answered(agent, "check . and fix", REJECT)
    fits("RequestPermissionRequest", question)
    [diff] = question["toolCall"]["content"]
    assert diff == {"type": "diff", "path": str(docs / "README.md"), "oldText": old, "newText": new}
    assert question["toolCall"]["kind"] == "edit"
    assert "0 files corrected, 1 file left as it was" in answer
    assert (docs / "README.md").read_text() == old
    answer, _ = answered(agent, "/fix README.md", ALLOW)
    assert "1 file corrected" in answer
    assert (docs / "README.md").read_text() == new
    assert "nothing that I am sure enough of" in say(agent, "fix README.md")
    for message in agent.messages:
        if message.get("method") == "session/update":
            fits("SessionNotification", message["params"])


@pytest.mark.parametrize(
    "words", ["check README.md, do not fix anything", "check README.md without fixing it", "never change: check README.md"]
)
def test_a_no_is_heard(start: Start, docs: Path, words: str) -> None:
    answered(start(docs), words)  # a question would be one too many


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"teh one\r\nteh two\r\n", b"the one\r\nthe two\r\n"),
        (b"\xef\xbb\xbfteh caf\xc3\xa9", b"\xef\xbb\xbfthe caf\xc3\xa9"),
        (b"teh caf\xe9\n", b"the caf\xe9\n"),
        ("teh cafe\n".encode("utf-16"), "the cafe\n".encode("utf-16")),
        (b"teh\rend\r", b"the\rend\r"),
    ],
    ids=["crlf", "bom", "latin-1", "utf-16", "cr"],
)
def test_line_ends_encodings_and_modes_stay(start: Start, docs: Path, before: bytes, after: bytes) -> None:
    file = docs / "README.md"
    file.write_bytes(before)
    file.chmod(0o640)
    answered(start(docs), "fix README.md", ALLOW)
    assert file.read_bytes() == after
    assert file.stat().st_mode & 0o777 == 0o640
    assert sorted(path.name for path in docs.iterdir()) == ["README.md", "more"]


def test_a_file_that_somebody_saved_meanwhile_is_not_written(start: Start, docs: Path) -> None:
    agent = start(docs)
    ident = agent.ask("fix README.md")
    question = agent.requested("session/request_permission")
    (docs / "README.md").write_text("teh newest\n")
    agent.send({"jsonrpc": "2.0", "id": question["id"], "result": {"outcome": ALLOW}})
    agent.answer_to(ident)
    assert "was changed while the question was open" in agent.text()
    assert (docs / "README.md").read_text() == "teh newest\n"


def test_code_addresses_and_names_are_left_alone(start: Start, docs: Path) -> None:
    (docs / "README.md").write_text(
        "---\ntitel: teh\n---\n\n`teh` and ``teh ` adn``, <b teh='x'>, http://a.b/teh, adn@example.com, [good](teh/adn.md \"teh\")\n"
        "\n```\nteh\n~~~\nteh\n````\n\n    teh adn\n\n<!-- teh\nadn -->\n\n[ref]: teh.md\n\nteh_adn recieveMail adn.md ./teh #adn\n"
    )
    assert say(start(docs), "check README.md") == "Nothing to remark on 1 file.\n"


def test_what_is_not_read(start: Start, docs: Path) -> None:
    for name in (
        "big.md",
        "binary.md",
        "ignored.md",
        "deep/kept.md",
        "deep/other.md",
        ".hidden/a.md",
        "code.py",
        "conversations/c.md",
    ):
        (docs / name).parent.mkdir(exist_ok=True)
        (docs / name).write_text("teh\n")
    (docs / "big.md").write_bytes(b"teh " * 300_000)
    (docs / "binary.md").write_bytes(b"teh\0adn")
    (docs / ".gitignore").write_text("ignored.md\nother.md\n")
    (docs / "deep/.gitignore").write_text("*.md\n!kept.md\n")
    os.mkfifo(docs / "pipe.md")
    answer = say(start(docs), "check")
    assert set(re.findall(r"\[([\w/.]+):\d+\]", answer)) == {"README.md", "more/plain.txt", "deep/kept.md"}
    assert "`big.md` was not read: larger than 1024 KiB" in answer
    assert "`binary.md` was not read: binary" in answer
    assert "`code.py`" not in answer
    assert "[code.py:1]" in say(start(docs), "check code.py")


def test_cancel_while_it_asks_and_while_it_reads(start: Start, docs: Path) -> None:
    agent = start(docs)
    ident = agent.ask("fix README.md")
    agent.requested("session/request_permission")
    agent.notify("session/cancel", sessionId=agent.session)
    assert agent.answer_to(ident)["result"] == {"stopReason": "cancelled"}
    for number in range(300):
        (docs / f"{number}.md").write_text("All is well here. " * 400)
    ident = agent.ask("check")
    agent.until(lambda each: each.get("params", {}).get("update", {}).get("title") == "Check 302 files")
    agent.notify("session/cancel", sessionId=agent.session)
    assert agent.answer_to(ident)["result"] == {"stopReason": "cancelled"}
    assert say(agent, "check more/plain.txt")


def test_many_remarks_are_cut_and_counted(start: Start, docs: Path) -> None:
    (docs / "README.md").write_text("teh\n" * 70)
    answer = say(start(docs), "check README.md")
    assert answer.count("“teh”") == 50
    assert "`README.md`: 20 more" in answer
    assert "70 remarks on 1 file" in answer


def test_the_protocol(start: Start, docs: Path) -> None:
    agent = start(docs)
    fits("InitializeResponse", agent.initialize())
    names = agent.until(lambda each: each.get("method") == "session/update")["params"]["update"]["availableCommands"]
    assert [each["name"] for each in names] == ["check", "fix"]
    assert agent.call("session/load", sessionId="proof-1", cwd=str(docs), mcpServers=[]) == {}
    assert agent.answer_to(agent.post("session/teleport"))["error"]["code"] == -32601
    assert agent.answer_to(agent.post("session/new", cwd="relative", mcpServers=[]))["error"]["code"] == -32602
    assert agent.answer_to(agent.post("session/prompt", sessionId="nobody", prompt=[]))["error"]["code"] == -32602
    agent.send_bytes(b"no json\n[1]\n" + b"[" * 100_000 + b"\n")
    agent.send_bytes(json.dumps({"jsonrpc": "2.0", "method": "x", "params": {"long": "y" * (17 << 20)}}).encode() + b"\n")
    assert "4 remarks" in say(agent, "check")
    agent.close_input()
    assert agent.ended() == 0
