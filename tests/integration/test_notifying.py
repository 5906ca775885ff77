"""Who is told that a question waits: the command of the user's own configuration, and a desktop; real programs, no directory's."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml

from opagent import paths
from opagent.errors import BindingInvalid
from tests.doubles.patience import until
from tests.doubles.strings import FREE, Strings
from tests.integration.conftest import Talk
from tests.integration.test_approvals import answer, permission


def program(path: Path, body: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def configure(**notify: Any) -> None:
    paths.config().mkdir(parents=True, exist_ok=True)
    paths.user_config().write_text(yaml.safe_dump({"version": 1, "notify": notify}))


def read(path: Path) -> str:
    return until(lambda: path.exists() and (text := path.read_text()).endswith("\n") and text)


def test_the_users_command_reads_the_question_and_sees_a_clean_environment(
    talk: Talk, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODEL_API_KEY", "canary-4711")
    said, seen = home / "said", home / "seen"
    configure(command=[str(program(home / "bin/hook", f"env > {seen}.tmp; mv {seen}.tmp {seen}; cat > {said}"))], desktop=False)
    strings = Strings(talk, can=FREE)
    strings.start(permission(1, "make", "tea"))
    told = json.loads(read(said))
    waits = until(talk.approvals)[0]
    assert (told["type"], told["id"], told["subject"], told["agent"]) == ("approval", waits["id"], "make tea", "puppet")
    assert told["workspace"] == str(talk.directory) and told["allow"] == f"opagent allow {waits['id']}"
    names = {line.partition("=")[0] for line in read(seen).splitlines() if not line.startswith("LC_")}
    assert "canary" not in seen.read_text() and {"HOME", "PATH"} <= names
    assert names <= {"HOME", "PATH", "LANG", "TERM", "TZ", "USER", "LOGNAME", "TMPDIR", "PWD", "SHLVL", "_", "OPAGENT_PROCESS"}
    answer(talk)


def test_a_command_that_hangs_or_is_missing_disturbs_nobody(talk: Talk, home: Path) -> None:
    configure(command=[str(home / "no-such-program")], desktop=False)
    strings = Strings(talk, can=FREE)
    for number in range(6):
        turn = strings.start(permission(number, "make", f"tea-{number}"))
        answer(talk)
        strings.answers(turn)
    assert "no-such-program" in paths.daemon_log().read_text()
    configure(command=["/bin/sleep", "987654"], desktop=False)
    turn = strings.start(permission(9, "make", "coffee"))
    answer(talk)
    strings.answers(turn)
    talk.stop_daemon()
    running = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not any(b"987654" in words for words in running), "it ends with the daemon"


def test_a_hook_cannot_answer(talk: Talk, home: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    said = home / "said"
    allow = f"{root}/.venv/bin/python -m opagent allow"
    script = f'cd {root}; id=$(sed \'s/.*"id": "\\([^"]*\\)".*/\\1/\'); {allow} $id > {said}.tmp 2>&1; echo $? >> {said}.tmp; mv {said}.tmp {said}'
    program(home / "bin/hook", script)
    lines = [f"export {name}={os.environ[name]}" for name in ("XDG_STATE_HOME", "XDG_CONFIG_HOME", "OPAGENT_SYSTEM_POLICY")]
    program(home / "bin/hook", "\n".join([*lines, script]))
    configure(command=[str(home / "bin/hook")], desktop=False)
    Strings(talk, can=FREE).start(permission(1, "make", "tea"))
    assert "an agent cannot speak for a person" in read(said) and said.read_text().endswith("5\n")
    answer(talk, allow=False)


def test_a_desktop_is_told_what_cannot_be_taken_for_markup(talk: Talk, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program of the desktop is a real one that keeps its arguments."""
    said = home / "said"
    program(
        home / "bin/notify-send",
        f'printf "%s\\0" "$@" > {said}.tmp; echo "$DBUS_SESSION_BUS_ADDRESS" >> {said}.tmp; mv {said}.tmp {said}',
    )
    monkeypatch.setenv("PATH", f"{home}/bin:{os.environ['PATH']}")
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nowhere")
    strings = Strings(talk, can=FREE)
    strings.start(permission(1, "echo", "<b>\u202eevil</b>\x1b[31m", "-x"))
    *words, address = read(said).split("\0")
    waits = until(talk.approvals)[0]
    assert address == "unix:path=/nowhere\n" and words[-2] == "puppet asks" and words[-3] == "--"
    assert "&lt;b&gt;" in words[-1] and "U+202E" in words[-1] and not set(words[-1]) & {"<", "\u202e", "\x1b"}
    assert f"opagent allow {waits['id']}" in words[-1]
    answer(talk)
    said.unlink()
    configure(desktop=False)
    turn = strings.start(permission(2, "make", "tea"))
    answer(talk)
    strings.answers(turn)
    assert not said.exists()


def test_a_directory_cannot_name_a_command(talk: Talk) -> None:
    (talk.directory / ".agent.yaml").write_text("version: 1\nagent: echo\nnotify: {command: [touch, ran]}\n")
    with pytest.raises(BindingInvalid, match="notify: only in your own configuration"):
        talk.create("")


def test_a_program_of_the_workspace_is_not_taken_for_the_desktops(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    program(talk.directory / "bin/notify-send", f"touch {talk.directory}/ran")
    monkeypatch.setenv("PATH", f"{talk.directory}/bin:{os.environ['PATH']}")
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nowhere")
    strings = Strings(talk, can=FREE)
    turn = strings.start(permission(1, "make", "tea"))
    answer(talk)
    strings.answers(turn)
    assert not (talk.directory / "ran").exists()
