"""Budgets on the command line, in the chat and in the file: exit codes, tables, raising, answering."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from opagent import paths
from tests.doubles.patience import until
from tests.doubles.terminal import Terminal, run, run_json


@pytest.fixture
def docs(home: Path) -> Path:
    folder = home / "docs"
    folder.mkdir()
    return folder


def bind(docs: Path, budget: str) -> None:
    (docs / ".agent.yaml").write_text(f"version: 1\nagent: echo\nbudget: {budget}\n")


def question(docs: Path) -> str:
    return str(until(lambda: run_json("approvals")["approvals"])[0]["id"])


def test_a_used_up_budget_is_exit_8_and_the_hint_raises_it(docs: Path) -> None:
    bind(docs, "{turns: 1, per: total}")
    assert run("open", str(docs), "-m", "one").returncode == 0
    refused = run("open", str(docs), "-m", "two")
    assert (refused.returncode, refused.stdout) == (8, "")
    assert "1 of 1 turns" in refused.stderr and f"{docs}/.agent.yaml:3" in refused.stderr
    hint = re.search(r"try: opagent (allow \S+ --answer raise)", refused.stderr)
    assert hint is not None
    why = run("why", hint[1].split()[1])
    assert why.returncode == 0 and "1 of 1 turns" in why.stdout
    assert run(*hint[1].split()).returncode == 0
    assert until(lambda: len(re.findall(r"<!-- op:\S+ /\S+ done", files(docs))) == 2)


def files(docs: Path) -> str:
    return "\n".join(file.read_text() for file in (docs / "conversations").glob("*.md"))


def test_a_turn_that_is_stopped_is_exit_8_and_a_loop_is_9(docs: Path) -> None:
    bind(docs, "{tool_calls: 3}")
    stopped = run("open", str(docs), "-m", "/calls 100 0.01", "--json")
    assert stopped.returncode == 8
    error = json.loads(stopped.stdout.splitlines()[-1])["error"]
    assert error["code"] == "budget_reached" and "of 3 tool calls" in error["why"]
    bind(docs, "{turns: 99}")
    looped = run("open", str(docs), "--new", "-m", "/loop same")
    assert looped.returncode == 9 and "looks like a loop" in looped.stderr and "--answer continue" in looped.stderr
    waited = run("wait", str(docs))
    assert waited.returncode == 9


def test_the_table_of_a_budget_and_raising_it(docs: Path) -> None:
    bind(docs, "{turns: 5, cost: 2 USD, wall: 1h, per: day}")
    run("open", str(docs), "-m", "/spend 100 0.5")
    shown = run("budget", cwd=docs)
    assert shown.returncode == 0, shown.stderr
    rows = {line.split()[0]: line for line in shown.stdout.splitlines()}
    assert re.search(
        r"cost\s+0\.5\s+0\s+2 USD\s+1\.5 USD\s+day \d{4}-\d\d-\d\d\s+advisory\s+~/docs/\.agent\.yaml:3", rows["cost"]
    )
    assert "proxy" in rows["turns"] and "3,600 s" in rows["wall"]
    raised = run("budget", str(docs), "--raise", "cost=1", "--raise", "turns=5")
    assert "3 USD" in raised.stdout and "1 added" in raised.stdout
    by_name = {row["metric"]: row for row in run_json("budget", str(docs))["limits"]}
    assert by_name["turns"] | {"limit": 10, "used": 1, "left": 9, "raised": 5} == by_name["turns"]


def test_a_budget_of_a_conversation(docs: Path) -> None:
    bind(docs, "{turns: 5}")
    run("open", str(docs), "-m", "one")
    (row,) = run_json("budget", str(docs))["limits"]
    assert row["per"] == "conversation" and row["used"] == 1
    assert run("budget", str(docs), "--raise", "turns=2").returncode == 2, "which conversation?"
    assert run("budget", row["scope"], "--raise", "turns=2").returncode == 0
    assert run_json("budget", row["scope"])["limits"][0]["limit"] == 7


@pytest.mark.parametrize(
    "words", [["--raise", "turns"], ["--raise", "turns=x"], ["--raise", "bananas=3"], ["--raise", "tokens=1k"]]
)
def test_what_cannot_be_raised(docs: Path, words: list[str]) -> None:
    bind(docs, "{turns: 5, per: total}")
    refused = run("budget", str(docs), *words)
    assert refused.returncode == 2 and "try: opagent" in refused.stderr


def test_no_budget_is_said(docs: Path) -> None:
    (docs / ".agent.yaml").write_text("version: 1\nagent: echo\n")
    shown = run("budget", str(docs))
    assert (shown.returncode, shown.stdout) == (0, "") and "no budget limits" in shown.stderr


def test_usage_by_everything(docs: Path) -> None:
    (docs / ".agent.yaml").write_text("version: 1\nagent: echo\n")
    assert "nothing was used yet" in run("usage").stderr
    run("open", str(docs), "-m", "/spend 1200 0.5")
    run("open", str(docs), "--last", "-m", "/calls 2")
    shown = run("usage")
    line = next(line for line in shown.stdout.splitlines() if line.startswith("echo"))
    assert re.match(r"echo\s+2\s+\d+ s\s+2\s+1,200\s+0\.5000 USD", line), shown.stdout
    for by in ("agent", "dir", "host", "day", "model", "conversation"):
        (row,) = run_json("usage", "--by", by)["usage"]
        assert (row["turns"], row["tokens"], row["cost"], row["currency"]) == (2, 1200, 0.5, "USD")
    assert run_json("usage", "--since", "1h")["usage"] and not run_json("usage", "--since", "2999-01-01")["usage"]
    assert run("usage", "--since", "yesterday").returncode == 2
    everywhere = run_json("usage", "-a")
    assert everywhere["hosts"] == [] and everywhere["usage"][0]["host"] is None
    assert "~/docs" in run("usage", "--by", "dir").stdout


def test_explain_says_how_each_budget_is_kept(docs: Path) -> None:
    bind(docs, "{turns: 5, tool_calls: 9, tokens: 1k}")
    values = {value["key"]: value for value in run_json("explain", str(docs))["values"]}
    enforced = {key: values[f"budget.{key}"]["enforcement"] for key in ("turns", "tool_calls", "tokens")}
    assert enforced == {"turns": "proxy", "tool_calls": "acp", "tokens": "advisory"}
    assert "note" not in values["budget.turns"]
    assert "enforced: acp" in run("explain", str(docs)).stdout


def test_the_chat_shows_the_question_and_takes_the_answer(docs: Path) -> None:
    bind(docs, "{turns: 1}")
    chat = Terminal("open", str(docs))
    chat.expect("›")
    chat.type("one\r")
    chat.expect("echo:")  # the rest of it may come in another piece, with escapes between them
    chat.expect("›")
    chat.type("/usage\r")
    chat.expect("turns +1 of 1, 0 left")
    chat.type("two\r")
    chat.expect("1 of 1 turns")
    chat.expect(r"1 to 3 \+ Enter")
    chat.type("1\r")
    chat.expect("echo:")
    chat.expect("›")
    chat.type("/quit\r")
    assert chat.end() == 0


def test_a_tick_in_the_file_raises_it(docs: Path) -> None:
    paths.user_config().parent.mkdir(parents=True)
    paths.user_config().write_text("approvals: {in_file: unsandboxed}\n")
    paths.user_config().chmod(0o600)
    bind(docs, "{turns: 1}")
    run("open", str(docs), "-m", "one")
    assert run("open", str(docs), "--last", "-m", "two").returncode == 8
    (file,) = (docs / "conversations").glob("*.md")
    text = file.read_text()
    assert f"`opagent allow {question(docs)}" in text
    file.write_text(text.replace("- [ ] Raise it by 1 turns and go on", "- [x] Raise it by 1 turns and go on", 1))
    until(lambda: "echo: two" in file.read_text())
    assert not run_json("approvals")["approvals"] and "in this file" in file.read_text()
