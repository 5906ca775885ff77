"""What goes wrong on this machine and on another one: the same codes, and hints that work as they are typed here."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest

from tests.doubles.daemons import command, environment
from tests.doubles.patience import PATIENCE, until
from tests.doubles.places import Place, conversation


def _code(place: Place, *words: str) -> tuple[int, str]:
    done = place.run(*words, "--json")
    return done.returncode, str(json.loads(done.stdout.splitlines()[-1])["error"]["code"])


def test_targets_that_are_none(place: Place) -> None:
    assert _code(place, "open", place.target(place.home / "none"), "-m", "hi") == (4, "not_found")
    bare = place.directory("nothing bound", binding=None)
    assert _code(place, "open", place.target(bare), "-m", "hi") == (4, "no_binding")
    assert f"try: opagent init '{place.target(bare)}'\n" in place.run("open", place.target(bare), "-m", "hi").stderr
    (place.home / "file.md").write_text("no conversation\n")
    assert _code(place, "open", place.target(place.home / "file.md"), "-m", "hi") == (4, "conversation_not_found")
    assert _code(place, "open", place.target(place.home), "-m", "hi") == (5, "workspace_refused")
    assert list(bare.iterdir()) == []


def test_a_broken_binding_is_named_by_line(place: Place) -> None:
    folder = place.directory("broken", "version: 1\nagent: echo\nwhatever: 1\n")
    done = place.run("open", place.target(folder), "-m", "hi")
    assert done.returncode == 2
    assert f"{folder}/.agent.yaml:3:1: " in done.stderr


@pytest.mark.parametrize(
    ("prompt", "status", "code"),
    [("/crash 3", 10, "agent_crashed"), ("/refuse", 1, "error"), ("/error -32603 it broke", 1, "error")],
)
def test_an_agent_that_fails(place: Place, prompt: str, status: int, code: str) -> None:
    folder = place.directory(f"fails/{prompt.split()[0][1:]}")
    assert _code(place, "open", place.target(folder), "-m", prompt) == (status, code)
    done = place.run("open", place.target(folder), "-m", prompt)
    (hint,) = [line.removeprefix("  try: opagent ") for line in done.stderr.splitlines() if line.startswith("  try: opagent ")]
    again = subprocess.run(
        command(*hint.split()), env=environment(), capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert again.returncode == 0, (hint, again.stderr)


def test_a_program_that_is_not_there(place: Place) -> None:
    place.runtime("ghost", "/nowhere/at/all")
    folder = place.directory("ghostly", "version: 1\nagent: ghost\n")
    assert _code(place, "open", place.target(folder), "-m", "hi")[0] in (4, 6)


def test_names_that_nobody_has(place: Place) -> None:
    for words, code in (
        (("logs", "x0000"), "process_not_found"),
        (("stop", "x0000"), "process_not_found"),
        (("allow", "p0000"), "approval_not_found"),
        (("conversations", "show", "zzzz"), "conversation_not_found"),
        (("wait", "zzzz"), "conversation_not_found"),
    ):
        assert _code(place, *words) == (4, code), words


def test_ctrl_c_cancels_the_turn(place: Place, docs: Path) -> None:
    words = command(*place.words("open", place.target(docs), "-m", "/wait"))
    child = subprocess.Popen(words, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until(lambda: (docs / "conversations").is_dir() and any((docs / "conversations").glob("*.md")))
    file = place.target(conversation(docs))
    until(lambda: place.json("conversations", "queue", file)["turns"][0]["state"] == "running")
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=PATIENCE)
    assert child.returncode == 130
    assert "cancelled" in said
    until(lambda: place.json("conversations", "show", file)["turns"][-1]["state"] == "cancelled")


def test_a_reader_that_leaves(place: Place, docs: Path) -> None:
    words = command(*place.words("open", place.target(docs), "-m", "/slow 40 0.05"))
    child = subprocess.Popen(words, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout is not None and child.stderr is not None
    child.stdout.read(1)
    child.stdout.close()
    said = child.stderr.read()
    child.stderr.close()
    assert child.wait(PATIENCE) == 1
    assert "Traceback" not in said
    assert place.run("wait", place.target(conversation(docs)), "--until", "done").returncode == 0


def test_what_an_agent_says_cannot_act_on_the_terminal(place: Place, docs: Path) -> None:
    done = place.run("open", place.target(docs), "-m", "bell \x07 title \x1b]0;x\x07 bidi \u202e end")
    assert done.returncode == 0
    assert not {"\x07", "\x1b", "\u202e"} & set(done.stdout + done.stderr)


def test_many_at_once_while_nothing_runs(place: Place, docs: Path) -> None:
    """Eight cold commands: one daemon on each side, one connection."""
    for words in (("--host", "there", "daemon", "stop"), ("daemon", "stop")) if place.server else (("daemon", "stop"),):
        place.run(*words)
    words = command(*place.words("open", place.target(docs), "-m", "hello"))
    children = [
        subprocess.Popen(words, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(8)
    ]
    ends = [(child.communicate(timeout=PATIENCE), child.returncode) for child in children]
    assert [(out, code) for (out, _), code in ends] == [("echo: hello\n", 0)] * 8, [err for (_, err), _ in ends]
    if place.server is not None:
        # an unprivileged part and its monitor for each connection
        assert len(place.server.sessions()) <= 2
