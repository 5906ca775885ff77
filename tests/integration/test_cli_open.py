"""`open` and `send` without a terminal, against the real daemon and the echo agent: streams, exit codes, JSON."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest

from tests.doubles.daemons import command, end_all, environment
from tests.doubles.patience import PATIENCE, until
from tests.doubles.terminal import run, run_json


@pytest.fixture
def docs(home: Path) -> Path:
    """A directory bound to the echo agent."""
    folder = home / "docs"
    folder.mkdir()
    (folder / ".agent.yaml").write_text("version: 1\nagent: echo\n")
    return folder


def _files(docs: Path) -> list[Path]:
    return sorted((docs / "conversations").glob("*.md"))


def test_an_answer_is_stdout_and_the_rest_is_talk(docs: Path) -> None:
    done = run("open", str(docs), "-m", "hello there")
    assert (done.returncode, done.stdout) == (0, "echo: hello there\n")
    (file,) = _files(docs)
    assert done.stderr.splitlines()[0] == f"{file} · echo"
    assert "hello-there" in file.name
    assert "echo: hello there" in file.read_text()


def test_the_file_is_named_from_here(docs: Path) -> None:
    done = run("open", "-m", "hi", cwd=docs)
    assert done.stderr.startswith("conversations/")


def test_piped_text_is_a_turn(docs: Path) -> None:
    assert run("open", str(docs), stdin="line one\nline two\n").stdout == "echo: line one\nline two\n"


def test_piped_text_follows_the_message(docs: Path) -> None:
    both = run("open", str(docs), "-m", "what is this?", "--stdin", stdin="a file\n")
    assert both.stdout == "echo: what is this?\n\na file\n"
    assert run("open", str(docs), "-m", "only this", stdin="of a loop\n").stdout == "echo: only this\n"


def test_a_word_too_many_is_meant_to_be_said(docs: Path) -> None:
    done = run("open", str(docs), "hello")
    assert done.returncode == 2
    assert f'try: opagent open {docs} -m "hello"' in done.stderr


def test_nothing_to_say_is_a_usage_error(docs: Path) -> None:
    assert run("open", str(docs)).returncode == 2
    assert not _files(docs)


def test_last_new_and_a_named_conversation(docs: Path) -> None:
    run("open", str(docs), "-m", "one")
    run("open", str(docs), "--last", "-m", "two")
    assert len(_files(docs)) == 1
    (first,) = _files(docs)
    run("open", str(docs), "-m", "three")
    assert len(_files(docs)) == 2
    assert run("open", str(first), "-m", "four").returncode == 0
    ident = run_json("conversations", "show", str(first))["conversation"]["id"]
    assert run("open", str(docs), "--conversation", ident[:6], "-m", "five").returncode == 0
    assert [word for word in ("one", "two", "four", "five") if f"echo: {word}" in first.read_text()] == [
        "one",
        "two",
        "four",
        "five",
    ]


def test_choices_that_exclude_each_other(docs: Path) -> None:
    assert run("open", str(docs), "--new", "--last", "-m", "x").returncode == 2


def test_json_is_one_object_a_line(docs: Path) -> None:
    done = run("open", str(docs), "-m", "hello", "--json")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert all({"schema", "seq", "host", "conversation", "type"} <= set(line) for line in lines)
    assert lines[0]["type"] == "opened"
    assert [line["seq"] for line in lines] == list(range(len(lines)))
    assert "".join(line["body"]["text"] for line in lines if line["type"] == "text") == "echo: hello"
    assert (lines[-1]["type"], lines[-1]["body"]["state"]) == ("turn_state", "done")
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("prompt", "status", "code"),
    [
        ("/crash", 10, "agent_crashed"),
        ("/crash 3 2", 10, "agent_crashed"),
        ("/refuse", 1, "error"),
        ("/error -32603 it broke", 1, "error"),
        ("/permission", 9, "waiting_for_approval"),
    ],
)
def test_only_a_finished_turn_is_success(docs: Path, prompt: str, status: int, code: str) -> None:
    done = run("open", str(docs), "-m", prompt, "--json")
    assert done.returncode == status
    assert json.loads(done.stdout.splitlines()[-1])["error"]["code"] == code


def test_a_failure_says_what_why_and_what_to_do(docs: Path) -> None:
    done = run("open", str(docs), "-m", "/crash 3")
    assert "error: the turn was interrupted\n" in done.stderr
    assert "exit status 3" in done.stderr
    assert "\n  try: opagent " in done.stderr


def test_a_time_out_leaves_the_turn_running(docs: Path) -> None:
    done = run("open", str(docs), "--timeout", "0.5s", "-m", "/wait")
    assert done.returncode == 3
    ident = done.stderr.rsplit("opagent wait ", 1)[1].split()[0]
    assert run_json("conversations", "queue", ident)["turns"][0]["state"] == "running"


def test_ctrl_c_cancels_and_is_130(docs: Path) -> None:
    argv = command("open", str(docs), "-m", "/wait")
    child = subprocess.Popen(argv, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.read(1)
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=PATIENCE)
    assert child.returncode == 130
    assert "Traceback" not in said
    (file,) = _files(docs)
    until(lambda: " cancelled " in file.read_text())


def test_a_closed_pipe_is_quiet(docs: Path) -> None:
    argv = command("open", str(docs), "-m", "/slow 200 0.01")
    child = subprocess.Popen(argv, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stderr is not None
    assert child.stdout.read(1)
    child.stdout.close()
    said = child.stderr.read()
    assert child.wait(PATIENCE) == 1
    assert "Error" not in said
    assert "Traceback" not in said
    child.stderr.close()


def test_no_binding_and_a_missing_directory_are_4(home: Path) -> None:
    (home / "bare").mkdir()
    bare = run("open", str(home / "bare"), "-m", "hi")
    assert (bare.returncode, bare.stdout) == (4, "")
    assert "try: opagent init" in bare.stderr
    assert run("open", str(home / "none"), "-m", "hi").returncode == 4
    assert list((home / "bare").iterdir()) == []


def test_an_agent_can_be_named_without_a_binding(home: Path) -> None:
    (home / "bare").mkdir()
    assert run("open", str(home / "bare"), "--agent", "echo", "-m", "hi").stdout == "echo: hi\n"
    assert not (home / "bare/.agent.yaml").exists()


def test_what_is_not_trusted_is_6_and_starts_nothing(docs: Path) -> None:
    (docs / ".agent.yaml").write_text("version: 1\nagent: own\nroles:\n  own: {runtime: echo, mode: ask}\n")
    done = run("open", str(docs), "-m", "hi")
    assert (done.returncode, done.stdout) == (6, "")
    assert f"try: opagent trust {docs}" in done.stderr
    assert run_json("ps")["processes"] == []
    assert run("trust", str(docs), stdin="yes\n").returncode == 6


def test_c_means_there(docs: Path) -> None:
    for words in (
        ["-C", str(docs), "open", "-m", "hi"],
        ["open", "-C", str(docs), "-m", "hi"],
        ["-C", str(docs.parent), "open", "docs", "-m", "hi"],
    ):
        assert run(*words).stdout == "echo: hi\n"


def test_no_wait_tells_the_place(docs: Path) -> None:
    found = run("open", str(docs), "-m", "/wait", "--no-wait")
    assert found.returncode == 0
    (file,) = _files(docs)
    second = run("send", str(file), "after", "--no-wait")
    assert second.stdout.split()[1:] == ["place", "1"]


def test_send_goes_to_the_last_conversation_of_a_directory(docs: Path) -> None:
    run("open", str(docs), "-m", "one")
    assert run("send", str(docs), "two").stdout == "echo: two\n"
    assert len(_files(docs)) == 1


def test_send_steers(docs: Path) -> None:
    run("open", str(docs), "-m", "/wait", "--no-wait")
    (file,) = _files(docs)
    until(lambda: run_json("conversations", "queue", str(file))["turns"][0]["state"] == "running")
    assert run_json("send", str(file), "this instead", "--steer")["how"] == "restarted"
    assert run("wait", str(file)).returncode == 0
    assert "echo: this instead" in file.read_text()


def test_what_an_agent_says_cannot_act_on_the_terminal(docs: Path) -> None:
    done = run("open", str(docs), "-m", "bell \x07 title \x1b]0;x\x07 bidi \u202e end")
    assert done.returncode == 0
    assert not {"\x07", "\x1b", "\u202e"} & set(done.stdout + done.stderr)


def test_colours_only_where_they_are_wanted(docs: Path) -> None:
    assert "\x1b[31m" in run("open", str(docs), "-m", "/crash", FORCE_COLOR="1").stderr
    assert "\x1b[" not in run("open", str(docs), "-m", "/crash", FORCE_COLOR="1", NO_COLOR="1").stderr
    assert "\x1b[" not in run("--no-color", "open", str(docs), "-m", "/crash", FORCE_COLOR="1").stderr


def test_being_too_slow_is_no_end_of_the_stream(home: Path) -> None:
    (home / "w").mkdir()
    try:
        done = run("open", str(home / "w"), "-m", "a b c d e f", fake=True, FAKE_MODE="lagging")
        assert (done.returncode, done.stdout) == (0, "a b c d e f \n")
    finally:
        end_all()
