"""`daemon`, `doctor` and `completion`: the commands about this host and shell, against the real daemon."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import psutil
import pytest

from opagent import files, paths
from opagent.client import Client
from tests.doubles.daemons import command, environment
from tests.doubles.patience import PATIENCE, until
from tests.doubles.terminal import run, run_json


def test_the_daemons_life() -> None:
    assert run("daemon", "status").returncode == 1
    assert run("daemon", "stop").returncode == 0
    assert not paths.state().exists() or not paths.socket().exists()
    assert run("daemon", "start").returncode == 0
    status = run_json("daemon", "status")
    assert run_json("daemon", "start")["pid"] == status["pid"]
    assert run("daemon", "stop").returncode == 0
    assert run("daemon", "status").returncode == 1
    assert not psutil.pid_exists(status["pid"]) or psutil.Process(status["pid"]).status() == psutil.STATUS_ZOMBIE


def test_the_daemon_in_the_foreground() -> None:
    child = subprocess.Popen(command("daemon", "run"), env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    until(paths.socket().exists)
    with Client() as client:
        assert client.greeting.daemon == child.pid
    child.send_signal(2)
    child.communicate(timeout=PATIENCE)
    assert child.returncode == 0


def test_the_doctor_looks_without_and_with_a_daemon() -> None:
    done = run("doctor")
    names = [line.split()[2] for line in done.stdout.splitlines() if line[0] in "✓✗!"]
    assert {"python", "sqlite", "node", "state", "socket", "user", "daemon", "database"} <= set(names)
    found = {check["name"]: check for check in run_json("doctor")["checks"]}
    assert found["sqlite"]["ok"] is True
    assert found["saves"]["ok"] is True
    assert ("root" in found["user"]["sentence"]) is (os.geteuid() == 0)


def test_the_doctor_tells_why_there_is_no_daemon() -> None:
    files.private_directory(paths.run()).chmod(0o755)
    done = run("doctor", "--json")
    assert done.returncode == 1
    found = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert found["socket"]["ok"] is False
    assert found["socket"]["hint"] == f"chmod 700 {paths.run()}"
    assert found["daemon"]["ok"] is False


_COMPLETE = """
eval "$(opagent completion bash)"
COMP_WORDS=({words}) COMP_CWORD={at}
_opagent_completion opagent
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("opagent ap", {"approvals"}),
        ("opagent conversations ''", {"list", "show", "new", "fork", "rebuild", "queue", "import", "export", "merge"}),
        ("opagent open --la", {"--last"}),
        ("opagent completion z", {"zsh"}),
        ("opagent nonsense x", {""}),
    ],
)
def test_bash_completes(words: str, wanted: set[str], tmp_path: Path) -> None:
    program = tmp_path / "opagent"
    program.write_text(f'#!/bin/sh\nexec {command()[0]} -m opagent "$@"\n')
    program.chmod(0o755)
    script = _COMPLETE.format(words=words, at=len(words.split()) - 1)
    env = environment(PATH=f"{tmp_path}:{os.environ['PATH']}")
    done = subprocess.run(
        ["bash", "--norc", "-c", script], env=env, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert set(done.stdout.splitlines()) == wanted, done.stderr
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("opagent open gp", {"gpu1:", "gpu2:", "gp-notes/"}),
        ("opagent ps --host ''", {"gpu1", "gpu2", "jump"}),
        ("opagent open nothing", set()),
    ],
)
def test_machines_complete_and_none_is_dialed(words: str, wanted: set[str], home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = home / ".ssh"
    (folder / "more").mkdir(parents=True)
    (folder / "config").write_text('Include more/*\nHost=gpu1 *.lab !x "gpu2" # mine\n  HostName 192.0.2.1\n')
    (folder / "more/a").write_text("Host jump\nInclude ../config\nMatch host x\n")
    (home / "gp-notes").mkdir()
    monkeypatch.chdir(home)
    at = len(words.split()) - 1
    said = run(_OPAGENT_COMPLETE="bash_complete", COMP_WORDS=words.replace("''", ""), COMP_CWORD=str(at))
    assert {line.partition(",")[2] for line in said.stdout.splitlines() if line.startswith("plain")} == wanted, said
    assert not paths.state().exists() or not paths.socket().exists()


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_get_a_script(shell: str) -> None:
    script = run("completion", shell).stdout
    assert "_OPAGENT_COMPLETE" in script
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, text=True, check=True)
    assert run("completion", "cmd").returncode == 2


def test_runtimes_that_are_not_here_are_one_line() -> None:
    short, whole = run("doctor").stdout, run("doctor", "-v").stdout
    absent = [line for line in whole.splitlines() if line.startswith("! look     runtime ")]
    assert len(absent) > 1
    assert f"{len(absent)} not ready: " in short
    assert "! look     runtime " not in short
