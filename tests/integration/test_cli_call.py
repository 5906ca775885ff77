"""`opagent call` and `opagent notes` as a person types them: what is printed where, and the exit code of each end."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from tests.doubles.daemons import command, environment
from tests.doubles.patience import PATIENCE, until
from tests.doubles.terminal import run, run_json


@pytest.fixture
def docs(home: Path) -> Path:
    folder = home / "docs"
    folder.mkdir()
    (folder / ".agent.yaml").write_text("version: 1\nagent: echo\n")
    return folder


def test_the_answer_is_the_output_and_the_conversation_is_told(docs: Path) -> None:
    done = run("call", "echo", "hello there", cwd=docs)
    assert (done.returncode, done.stdout) == (0, "echo: hello there\n")
    assert done.stderr.startswith("echo: ") and str(docs / "conversations") in done.stderr
    piped = run("call", "echo", "-", cwd=docs, stdin="from a pipe")
    assert piped.stdout == "echo: from a pipe\n"
    assert run("call", ".", "hello", cwd=docs).stdout == "echo: hello\n"
    said = run_json("call", "echo", "/usage 5 6", cwd=docs)
    assert (said["outcome"], said["usage"]["input"]) == ("answer", 5)


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (("echo", "/crash 3"), 10, "ended as failed"),
        (("echo", "/error -32603 no tea"), 1, "no tea"),
        (("nobody", "hello"), 4, "no role or runtime 'nobody'"),
        (("./nowhere", "hello"), 4, "there is no directory ./nowhere"),
        (("echo", "/wait", "--timeout", "1"), 3, "ended as timed out"),
    ],
)
def test_each_end_has_its_exit_code(docs: Path, words: tuple[str, ...], code: int, sentence: str) -> None:
    done = run("call", *words, cwd=docs)
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert sentence in done.stderr


def test_a_directory_without_trust_is_exit_6(docs: Path) -> None:
    other = docs.parent / "other"
    other.mkdir()
    (other / ".agent.yaml").write_text("version: 1\nagent: a\nroles: {a: {runtime: echo, instructions: Be kind.}}\n")
    done = run("call", "../other", "hello", cwd=docs)
    assert done.returncode == 6 and "opagent trust" in done.stderr


def test_a_call_that_nobody_waits_for_is_fetched_later(docs: Path) -> None:
    left = run("call", "--no-wait", "echo", "/slow 3 0.1", cwd=docs)
    assert left.returncode == 0
    fetched = run("call", "result", left.stdout.strip(), cwd=docs)
    assert (fetched.returncode, fetched.stdout) == (0, "1 2 3\n")
    assert run("call", "result", "c0000", cwd=docs).returncode == 4


def test_who_waits_for_a_person_is_exit_9(docs: Path) -> None:
    done = run("call", "echo", "/permission", cwd=docs)
    assert done.returncode == 9 and "opagent allow" in done.stderr


def test_an_interrupt_ends_the_call(docs: Path) -> None:
    argv = command("call", "echo", "/wait")
    child = subprocess.Popen(argv, cwd=docs, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until(lambda: [row for row in run_json("ps")["processes"] if row["turn"]])
    child.send_signal(signal.SIGINT)
    _, talk = child.communicate(timeout=PATIENCE)
    assert child.returncode == 130 and "cancelled" in talk
    until(lambda: not [row for row in run_json("ps")["processes"] if row["pid"]])


def test_notes_are_written_and_read(docs: Path) -> None:
    assert run("notes", cwd=docs).stderr == "no notes yet\n"
    assert run("notes", "write", "plan", "# Plan", cwd=docs).stderr.startswith("plan.md: 6 bytes in ")
    assert run("notes", "write", "decisions/api", "-", cwd=docs, stdin="REST").returncode == 0
    assert run("notes", "read", "plan", cwd=docs).stdout == "# Plan\n"
    assert [line.split()[0] for line in run("notes", cwd=docs).stdout.splitlines()] == ["NOTE", "decisions/api.md", "plan.md"]
    assert run("notes", "read", "nothing", cwd=docs).returncode == 4
    assert run("notes", "write", "../../etc/x", "y", cwd=docs).returncode == 2


def test_the_tools_of_an_agent_are_for_agents(docs: Path) -> None:
    done = run("mcp", cwd=docs)
    assert done.returncode == 5 and "OPAGENT_TOOLS is not set" in done.stderr
